#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lend an image to a machine that runs before its data is there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_lend
short_description: Lend an image to a machine that runs before its data is there
version_added: 0.1.0
description:
  - Runs on the backup storage. A unit there serves the image read-only over ssh to the host on which
    M(edgecloud.resilient_vm.vm_instant) makes the machine, every block checked against its digest.
  - The image is pinned until the host says that nothing is missing any more; then the unit ends and takes the pin away.
  - A VM has one image lent at a time.
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
  image_id:
    description: Id of the image.
    type: str
    required: true
  name:
    description: Name of the machine it is lent to.
    type: str
    required: true
  peer:
    description: The host of that machine, as the backup storage reaches it.
    type: dict
    required: true
    suboptions:
      name:
        description: Its inventory name.
        type: str
        required: true
      address:
        description: Its address.
        type: str
        required: true
      port:
        description: Port of its ssh server.
        type: int
        default: 22
  state:
    description: Whether the image shall be lent. With V(absent) what is left of the unit and the pin goes.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Lend last Tuesday to a machine on b
  edgecloud.resilient_vm.image_lend:
    customer: acme
    vm: erp
    image_id: 20260113T020000Z
    name: erp-tuesday
    peer:
      name: b
      address: 198.51.100.12
  delegate_to: c
"""

RETURN = r"""
waiting:
  description: What it waits for since the link to the host is not there; empty when it is.
  returned: success
  type: str
  sample: ""
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _lend
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run


def main() -> None:
    text = {"type": "str", "required": True}
    peer = {"name": text, "address": text, "port": {"type": "int", "default": 22}}
    module = AnsibleModule(
        {
            **vm_spec(),
            "image_id": text,
            "name": text,
            "peer": {"type": "dict", "required": True, "options": peer},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        layout = Layout(given["customer"], given["vm"], given["root"])
        wish = _lend.Wish(given["image_id"], given["name"], given["peer"])
        wanted = given["state"] == "present"
        if wanted and not module.check_mode:
            _lend.wake(layout, wish, run)
        before = _lend.examine(layout, wish, run) if wanted else _lend.lent(layout, wish)
        if before != wanted and not module.check_mode:
            (_lend.give if wanted else _lend.take_back)(layout, wish, run)
        waiting = _lend.waiting(layout, run)
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    diff = {"before": {"lent": before}, "after": {"lent": wanted}}
    module.exit_json(changed=before != wanted, waiting=waiting, diff=diff)


if __name__ == "__main__":
    main()
