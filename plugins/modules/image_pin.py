#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pin an image by hand, so that it stays whatever its age."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_pin
short_description: Pin an image of a VM, so that it stays whatever its age
version_added: 0.1.0
description:
  - Runs on the backup storage. An image that is pinned is not erased by M(edgecloud.resilient_vm.image_prune).
  - An image has at most one pin by hand; laying it again replaces reason and end.
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
  restore_point:
    description:
      - The image, as its id, a date, V(latest), or V(-8d) for eight calendar days ago.
    type: str
    required: true
  timezone:
    description: Time zone whose calendar days count.
    type: str
    default: UTC
  reason:
    description: Why it shall stay; needed for O(state=present), and shown wherever the pin is.
    type: str
    default: ''
  keep_until:
    description: ISO 8601 time at which the pin runs out. Left out, it stays until it is taken away.
    type: str
  state:
    description: Whether the image shall be pinned.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Keep the day before the migration until summer
  edgecloud.resilient_vm.image_pin:
    customer: acme
    vm: erp
    restore_point: '2026-01-13'
    reason: before the migration to release 9
    keep_until: 2026-07-01T00:00:00Z
  delegate_to: c
"""

RETURN = r"""
image_id:
  description: Id of the image that was meant.
  returned: success
  type: str
  sample: 20260113T020000Z
pin:
  description: The pin by hand that the image has now, or in check mode would have; null without one.
  returned: success
  type: dict
  sample:
    reason: before the migration to release 9
    until: '2026-07-01T00:00:00Z'
  contains:
    reason:
      description: Why it stays.
      type: str
      returned: success
    until:
      description: When the pin runs out; null when it doesn't.
      type: str
      returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._pin import Wish, pin
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store


def main() -> None:
    module = AnsibleModule(
        {
            **vm_spec(),
            "restore_point": {"type": "str", "required": True},
            "timezone": {"type": "str", "default": "UTC"},
            "reason": {"type": "str", "default": ""},
            "keep_until": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    given = module.params
    wish = Wish(
        given["restore_point"],
        given["timezone"],
        given["reason"],
        given["keep_until"] or "",
        given["state"] == "present",
    )
    try:
        store = Store(Layout(given["customer"], given["vm"], given["root"]))
        image_id, before, after = pin(store, wish, _clock.now(given["now"]), module.check_mode)
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    diff = {"before": {image_id: before}, "after": {image_id: after}}
    module.exit_json(changed=before != after, image_id=image_id, pin=after, diff=diff)


if __name__ == "__main__":
    main()
