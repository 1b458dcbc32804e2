# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vm_protection is told on each machine, out of the plans and of what the other machines answered. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._laid_plan import laid

DOCUMENTATION = r"""
name: registrations
short_description: VMs as the module vm_protection takes them
version_added: 0.1.0
description:
  - Turns the plans of a machine's VMs, and what the other machines answered to M(edgecloud.resilient_vm.vm_protection),
    into the O(edgecloud.resilient_vm.vm_protection#module:vms) of that machine.
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
    description:
      - Name under which the machines' answers are registered. Without it, nothing of the other machines is told,
        and the module makes keys only.
    type: str
"""

EXAMPLES = r"""
- name: Let the keys of the other machines in
  edgecloud.resilient_vm.vm_protection:
    part: backup_storage
    name: "{{ inventory_hostname }}"
    vms: "{{ plans | edgecloud.resilient_vm.registrations(hostvars, inventory_hostname, 'site_keys') }}"
"""

RETURN = r"""
_value:
  description: One item for each plan.
  type: list
  elements: dict
"""


def registrations(
    plans: Sequence[Mapping[str, Any]], hostvars: Mapping[str, Any], machine: str, register: str = ""
) -> list[dict[str, Any]]:
    """One item for each plan."""
    return [_registration(plan, hostvars, machine, register) for plan in plans]


def _registration(plan: Mapping[str, Any], hostvars: Mapping[str, Any], machine: str, register: str) -> dict[str, Any]:
    names = ("customer", "vm", "domain", "production", "standby", "backup_storage")
    item = {name: plan[name] for name in names}
    item["who"] = plan["who"]
    if not register:
        return item
    name = f"{plan['customer']}/{plan['vm']}"

    def said(other: str, what: str) -> Any:
        answer = hostvars[other].get(register) if other in hostvars else None
        return ((answer or {}).get(what) or {}).get(name)

    hosts = [plan["production"], plan["standby"]]
    storage = plan["backup_storage"]
    others = hosts if machine == storage else [storage, *(host for host in hosts if host != machine)]
    states = {other: said(other, "states") for other in [*hosts, storage] if said(other, "states")}
    active = max(states.values(), key=lambda state: state["epoch"])["active"] if states else plan["production"]
    item["uuid"] = said(active, "uuids")
    item["keys"] = {other: said(other, "public_keys") for other in others}
    # A host goes by the backup storage, which decides.
    deciding = hosts if machine == storage else [storage]
    item["states"] = {other: state for other, state in states.items() if other in deciding}
    item["lost_hosts"] = plan["lost_hosts"]
    item["start_unconfirmed"] = plan["start_unconfirmed"]
    item["self_stop_seconds"] = plan["self_stop_seconds"]
    item["plan"] = laid(plan)
    wanted = plan["autostart"]
    item["autostart"] = bool(said(active, "autostarts")) if wanted is None else wanted
    if machine == storage:
        item["max_age_hours"] = plan["max_age_hours"]
        item["alarm_command"] = plan["alarm_command"]
    return item


class FilterModule:
    """Filters of the site playbook."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"registrations": registrations}
