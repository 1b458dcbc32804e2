#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep what came of the steps beside a VM's change of host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: takeover_record
short_description: Keep what came of the steps beside a VM's change of host
version_added: 0.1.0
description:
  - Runs on the host that the VM lives on since it changed its host, and keeps for that epoch which of the owner's steps
    were taken, so that a run after it takes only what is left. Without O(move) and O(step) it only tells.
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
  epoch:
    description: Epoch of the VM since that change. What is kept of an earlier one is forgotten.
    type: int
    required: true
  move:
    description: What kind of change it is. The first one counts.
    type: str
    choices: [failover, switchover, failover_undo]
  step:
    description: What came of one step.
    type: dict
    suboptions:
      name:
        description: Its name.
        type: str
        required: true
      mark:
        description: What it was, so that one that is changed is taken anew.
        type: str
        required: true
      passed:
        description: Whether it succeeded, and was verified where that is asked for.
        type: bool
        required: true
      seconds:
        description: How long it took, in seconds.
        type: float
        required: true
      said:
        description: Why it failed.
        type: str
        default: ""
"""

EXAMPLES = r"""
- name: See what has been done already
  edgecloud.resilient_vm.takeover_record:
    customer: acme
    vm: erp
    epoch: 2
  delegate_to: b
  register: recorded
"""

RETURN = r"""
move:
  description: What kind of change it was; empty when it took no steps.
  returned: success
  type: str
  sample: failover
steps:
  description: What came of each step, in the form of O(step).
  returned: success
  type: list
  elements: dict
  sample:
    - name: Point the name at b
      mark: 3f9c2a1b0d4e
      passed: true
      seconds: 0.4
      said: ""
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _step_record
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout


def main() -> None:
    step = {
        "name": {"type": "str", "required": True},
        "mark": {"type": "str", "required": True},
        "passed": {"type": "bool", "required": True},
        "seconds": {"type": "float", "required": True},
        "said": {"type": "str", "default": ""},
    }
    module = AnsibleModule(
        {
            **vm_spec(),
            "epoch": {"type": "int", "required": True},
            "move": {"type": "str", "choices": ["failover", "switchover", "failover_undo"]},
            "step": {"type": "dict", "options": step},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        layout = Layout(given["customer"], given["vm"], given["root"])
        before, after = _step_record.keep(layout, given["epoch"], given["move"], given["step"], module.check_mode)
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    module.exit_json(changed=before != after, diff={"before": before, "after": after}, **after)


if __name__ == "__main__":
    main()
