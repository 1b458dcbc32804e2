# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine looks for."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _takeover

DOCUMENTATION = r"""
name: look_targets
short_description: What a machine looks for
version_added: 0.1.0
description:
  - The machines of a VM that another one of them looks for before a takeover, and the guest itself.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
positional: machine
options:
  _input:
    description: The VM's plan, from M(edgecloud.resilient_vm.vm_plan).
    type: dict
    required: true
  machine:
    description: Inventory name of the machine that looks.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what c looks for
  ansible.builtin.debug:
    msg: "{{ planned.plan | edgecloud.resilient_vm.look_targets('c') }}"
"""

RETURN = r"""
_value:
  description: For M(edgecloud.resilient_vm.vm_look).
  type: list
  elements: dict
"""


class FilterModule:
    """A filter of the takeover."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"look_targets": _takeover.targets}
