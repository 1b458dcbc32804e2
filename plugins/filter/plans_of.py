# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans of VMs, as registered by vm_plan."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _questions

DOCUMENTATION = r"""
name: plans_of
short_description: Plans of protected VMs
version_added: 0.1.0
description:
  - Collects what M(edgecloud.resilient_vm.vm_plan) registered for VMs. A VM whose plan failed is left out.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.hostvars
positional: vms, register, machine
options:
  register:
    description: Name under which the plans were registered.
    type: str
    required: true
  machine:
    description: Inventory name of a machine, for only the VMs in whose plan it has a part.
    type: str
"""

EXAMPLES = r"""
- name: Count this machine's VMs
  ansible.builtin.debug:
    msg: "{{ hostvars | edgecloud.resilient_vm.plans_of(groups.protected_vms, 'planned', 'c') | length }}"
"""

RETURN = r"""
_value:
  description: The plans.
  type: list
  elements: dict
"""


class FilterModule:
    """A filter of the daily cycle."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"plans_of": _questions.plans_of}
