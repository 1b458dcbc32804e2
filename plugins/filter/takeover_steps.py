# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left of a VM's steps beside its change of host."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _steps

DOCUMENTATION = r"""
name: takeover_steps
short_description: What is left of a VM's steps beside its change of host
version_added: 0.1.0
description:
  - The steps of a VM's plan that have not succeeded yet, in their order, each with what it does on which machine.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
positional: recorded, active, standby, epoch, moment
options:
  _input:
    description: The VM's plan, from M(edgecloud.resilient_vm.vm_plan).
    type: dict
    required: true
  recorded:
    description: What M(edgecloud.resilient_vm.takeover_record) returned on the host that the VM lives on now.
    type: dict
    required: true
  active:
    description: Inventory name of that host.
    type: str
    required: true
  standby:
    description: Inventory name of the host that it left.
    type: str
    required: true
  epoch:
    description: The VM's epoch since then.
    type: int
    required: true
  moment:
    description: Only those before the start (V(before_start)), or when the guest is up (V(running)); all when empty.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Show what is left to be done for b
  ansible.builtin.debug:
    msg: "{{ planned.plan | edgecloud.resilient_vm.takeover_steps(recorded, 'b', 'a', 2) }}"
"""

RETURN = r"""
_value:
  description: The steps, each with C(name), C(mark), C(environment) and C(actions).
  type: list
  elements: dict
"""


class FilterModule:
    """A filter of the takeover."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"takeover_steps": _steps.left}
