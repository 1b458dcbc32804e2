#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look from a machine whether others can be reached."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_look
short_description: Look from a machine whether others can be reached
version_added: 0.1.0
description:
  - Tries a TCP connection to each target, where a refused one counts as an answer, and an echo where the machine has
    the program C(ping). All at once; takes as long as it has patience when a target is silent.
  - Doesn't ask for anything but an answer, and fails for no target.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
attributes:
  check_mode:
    description: Changes nothing in either mode.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
options:
  targets:
    description: What to look for.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name in the result.
        type: str
        required: true
      address:
        description: Address or name.
        type: str
        required: true
      port:
        description: TCP port.
        type: int
        required: true
  patience_seconds:
    description: How long it waits for an answer, in seconds.
    type: float
    default: 2.0
"""

EXAMPLES = r"""
- name: Look for the production host from here
  edgecloud.resilient_vm.vm_look:
    targets:
      - name: a
        address: 192.0.2.11
        port: 22
  register: looked
"""

RETURN = r"""
began:
  description: When it began to look, by the machine's own clock.
  returned: success
  type: str
  sample: "2026-01-14T11:30:00Z"
seen:
  description: How each target was reached, by its name; empty where it was not.
  returned: success
  type: dict
  sample:
    a: ""
    c: port 22 of 10.77.0.13 answers
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._look import Target, look
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run


def main() -> None:
    target = {
        "name": {"type": "str", "required": True},
        "address": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
    }
    module = AnsibleModule(
        {
            "targets": {"type": "list", "elements": "dict", "required": True, "options": target},
            "patience_seconds": {"type": "float", "default": 2.0},
        },
        supports_check_mode=True,
    )
    began = _clock.iso(_clock.now())
    targets = [Target.of(each) for each in module.params["targets"]]
    module.exit_json(changed=False, began=began, seen=look(targets, run, module.params["patience_seconds"]))


if __name__ == "__main__":
    main()
