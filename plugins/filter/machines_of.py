# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How one machine reaches the others: address, port and pinned host keys. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable

DOCUMENTATION = r"""
name: machines_of
short_description: Other machines as the module vm_protection takes them
version_added: 0.1.0
description:
  - Turns the plans of a machine's VMs, and what the other machines answered to M(edgecloud.resilient_vm.vm_protection),
    into the O(edgecloud.resilient_vm.vm_protection#module:machines) of that machine.
  - A machine that gave no answer is left out, and what was pinned of it stays.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
positional: hostvars, machine, register
options:
  _input:
    description: Plans of the VMs that have a part on the machine, from P(edgecloud.resilient_vm.plans_of#filter).
    type: list
    elements: dict
    required: true
  hostvars:
    description: The variable C(hostvars).
    type: dict
    required: true
  machine:
    description: Inventory name of the machine.
    type: str
    required: true
  register:
    description: Name under which the machines' answers are registered.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Pin the host keys of the other machines
  edgecloud.resilient_vm.vm_protection:
    part: backup_storage
    name: "{{ inventory_hostname }}"
    machines: "{{ plans | edgecloud.resilient_vm.machines_of(hostvars, inventory_hostname, 'machine_protection') }}"
"""

RETURN = r"""
_value:
  description: Address, port and host keys by inventory name.
  type: dict
"""


def machines_of(
    plans: Sequence[Mapping[str, Any]], hostvars: Mapping[str, Any], machine: str, register: str
) -> dict[str, dict[str, Any]]:
    """Address, port and host keys of each other machine that answered, by name."""
    found: dict[str, dict[str, Any]] = {}
    for plan in plans:
        for name, place in plan["addresses"].items():
            answer = hostvars[name].get(register) if name in hostvars else None
            keys = (answer or {}).get("host_keys")
            if name != machine and keys:
                found[name] = {**place, "host_keys": keys}
    return found


class FilterModule:
    """Filters of the site playbook."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"machines_of": machines_of}
