#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep with an image what came of its drill."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_drill
short_description: Keep with an image what came of its drill
version_added: 0.1.0
description:
  - Runs on the backup storage. Keeps the newest record of each image; those of images that were erased go.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.common
  - edgecloud.resilient_vm.common.vm
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  drill:
    description: The record, from M(edgecloud.resilient_vm.vm_drill_end).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Write it down
  edgecloud.resilient_vm.image_drill:
    customer: acme
    vm: erp
    drill: "{{ ended.drill }}"
  delegate_to: c
"""

RETURN = r"""
drill:
  description: The record of the drill.
  returned: success
  type: dict
  sample:
    schema: 1
    image: 20260113T020000Z
    host: b
    ended: '2026-01-14T03:10:00Z'
    passed: true
    seconds_to_ready: 4.6
    checks:
      - check: guest agent
        passed: true
        said: ready after 4.6 s
    evidence: /var/lib/resilient-vm/acme/erp/drills/20260113T020000Z
    screen: screen.png
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._drill_record import keep
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout


def main() -> None:
    module = AnsibleModule({**vm_spec(), "drill": {"type": "dict", "required": True}}, supports_check_mode=True)
    given = module.params
    try:
        changed = keep(Layout(given["customer"], given["vm"], given["root"]), given["drill"], module.check_mode)
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    module.exit_json(changed=changed, drill=given["drill"], diff={"before": {}, "after": given["drill"]})


if __name__ == "__main__":
    main()
