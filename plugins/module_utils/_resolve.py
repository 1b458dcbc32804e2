# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that disagree about a VM, or a VM that ran on both hosts: a person says which disks count. Decided. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ._domain import STOPPED
from ._errors import refusal

__all__ = ["Decision", "decide"]

_SITE = "run the site playbook"
_SPLIT = "split_brain"


@dataclass(frozen=True)
class Decision:
    """``action``: nothing (they agree), or resolve."""

    action: str
    why: str
    # The host whose disks count, and the other one.
    active: str
    standby: str
    # The document that the backup storage has to follow first, since a host knows a newer epoch; None when none does.
    newer: dict[str, Any] | None = None
    # Epoch of the backup storage's document by then, and the steps that are taken from there.
    epoch: int = 0
    steps: list[str] = field(default_factory=list)


def decide(plan: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]], version: str = "") -> Decision:
    """The decision for one VM. Raises ResilientVmError, one sentence a line, when nothing may be done."""
    vm, wish = plan["vm"], plan["resolve_to"]
    pair = [plan["production"], plan["standby"]]
    if wish not in pair:
        found = f"is {wish}" if wish else "is not set"
        raise refusal(
            [f"resilient_vm_resolve_to {found}; name the host whose disks of {vm} count: {' or '.join(pair)}"]
        )
    other = next(name for name in pair if name != wish)
    problems = _problems(plan, hosts, other, version) or _lacking(plan, hosts[wish]["domain"], wish, other)
    if problems:
        raise refusal(problems)
    states = {name: hosts[name]["state"] for name in plan["machines"]}
    own = states[plan["backup_storage"]]
    lead = max(states.values(), key=lambda state: int(state["epoch"]))
    newer = dict(lead) if lead["epoch"] > own["epoch"] else None
    basis = newer or own
    told = {(state["epoch"], state["active"]) for state in states.values()}
    if len(told) == 1 and own["phase"] != _SPLIT:
        why = f"the machines agree that {own['active']} is the active host of {vm} (epoch {own['epoch']}, phase "
        return Decision("nothing", f"{why}{own['phase']}); nothing is to be resolved", own["active"], own["standby"])
    said = ", ".join(f"{name}: epoch {states[name]['epoch']} on {states[name]['active']}" for name in sorted(states))
    return Decision(
        "resolve",
        f"the disks of {vm} on {wish} count, and what {other} has is kept there until reprotect puts it aside ({said})",
        wish,
        other,
        newer,
        int(basis["epoch"]),
        [
            *([] if basis["phase"] == _SPLIT else ["find_split_brain"]),
            "resolve_here" if basis["active"] == wish else "resolve_there",
        ],
    )


def _lacking(plan: Mapping[str, Any], domain: Mapping[str, Any], wish: str, other: str) -> list[str]:
    """What the host whose disks shall count does not have: one that took a VM over may have laid nothing yet."""
    if not domain["exists"]:
        return [
            f"domain {plan['domain']} is not on {wish}, so that nothing of {plan['vm']} counts there; name {other}, or "
            "define it there"
        ]
    return [
        f"disk {disk['target']} of {plan['vm']} can't be read on {wish} ({disk['path']}), so that it could not run "
        f"there; bring it back, or name {other}"
        for disk in domain.get("disks", [])
        if disk["size_bytes"] is None
    ]


def _problems(plan: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]], other: str, version: str) -> list[str]:
    vm, problems = plan["vm"], []
    for name in plan["machines"]:
        fact = hosts.get(name) or {}
        told, state = fact.get("version"), fact.get("state")
        if not fact.get("answered"):
            said = fact.get("msg") or f"machine {name} gave no answer"
            problems.append(f"{said}; what counts is resolved when all three machines answer")
        elif not told or (version and told.split()[0] != version):
            problems.append(f"the mover on {name} is {told or 'missing'}, not this collection's; {_SITE}")
        elif not state:
            problems.append(f"{vm} has no state document on {name}; {_SITE}")
        elif state["phase"] == "unprotected":
            problems.append(f"{vm} is not protected by {name} any more; {_SITE}")
        elif {state["active"], state["standby"]} != {plan["production"], plan["standby"]}:
            problems.append(
                f"{name} knows {vm} on {state['active']} and {state['standby']}, and the inventory names "
                f"{plan['production']} and {plan['standby']} for it; correct the inventory"
            )
    domain = (hosts.get(other) or {}).get("domain") or {}
    if domain.get("exists") and domain["state"] not in STOPPED:
        problems.append(
            f"{vm} is {domain['state']} on {other}, whose disks shall not count; shut it down there first: virsh "
            f"shutdown {plan['domain']}"
        )
    return problems
