#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep what a drill has shown, and end it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_drill_end
short_description: Keep what a drill has shown, and end it
version_added: 0.1.0
description:
  - Runs on the host where M(edgecloud.resilient_vm.vm_drill) has booted a twin. Keeps a picture of its screen, what its
    serial console has shown, and how the checks went, in a folder of the image; then the twin and its disks go.
  - Fails when the twin is no longer held, after a takeover for example.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.common
  - edgecloud.resilient_vm.common.vm
attributes:
  check_mode:
    support: none
  diff_mode:
    support: none
options:
  host:
    description: This host's inventory name.
    type: str
    required: true
  uuid:
    description: UUID of the twin.
    type: str
    required: true
  seconds:
    description: Seconds from its start until it was ready.
    type: float
    required: true
  checks:
    description: What was tried.
    type: list
    elements: dict
    required: true
    suboptions:
      check:
        description: By what.
        type: str
        required: true
      passed:
        description: Whether it was as it should be.
        type: bool
        required: true
      said:
        description: How it went.
        type: str
        required: true
  images:
    description: Ids of the images that the backup storage keeps. Evidence of others goes.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: End the drill
  edgecloud.resilient_vm.vm_drill_end:
    customer: acme
    vm: erp
    host: b
    uuid: "{{ twin.uuid }}"
    seconds: "{{ twin.seconds }}"
    checks: ["{{ twin.ready }}"]
    images: [20260113T020000Z, 20260114T020000Z]
  delegate_to: b
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

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock, _drill
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import checks_spec, vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run


def main() -> None:
    module = AnsibleModule(
        {
            **vm_spec(),
            "host": {"type": "str", "required": True},
            "uuid": {"type": "str", "required": True},
            "seconds": {"type": "float", "required": True},
            "checks": checks_spec(),
            "images": {"type": "list", "elements": "str", "required": True},
        },
    )
    given = module.params
    try:
        layout = Layout(given["customer"], given["vm"], given["root"])
        when = _clock.iso(_clock.now(given["now"]))
        told = _drill.Told(given["checks"], given["seconds"], given["host"], when)
        record = _drill.finish(layout, given["uuid"], told, given["images"], run)
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    module.exit_json(changed=True, drill=record)


if __name__ == "__main__":
    main()
