# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a takeover of a VM would work right now, and why not. Pure.

What the standby host lacks is told every night as well, by daily and status; preflight asks for all the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from . import _fence, _takeover, _unwitnessed
from ._human import human_age, human_size
from ._standing import disagreement

__all__ = ["Readiness", "lacks", "readiness"]


@dataclass(frozen=True)
class Readiness:
    """``findings`` is empty when it would work. ``lines`` is the same for people, with what they may want to know."""

    findings: list[str]
    lines: list[str]


def lacks(
    plan: Mapping[str, Any], standby: str, known: Mapping[str, Any], held: Mapping[str, Any], unfit: Sequence[str]
) -> list[str]:
    """Why the standby host could not start the VM, by what itself found (``unfit``), and for want of space."""
    found = [f"on {standby}: {sentence}" for sentence in unfit]
    root, current = known.get("root"), held.get("current")
    if root and current:
        # Without reflink a takeover copies the generation.
        needed = plan["machine_settings"][standby]["reserve_bytes"]
        needed += 0 if root["reflink"] else sum(disk["size_bytes"] for disk in current.get("disks") or [])
        if root["free_bytes"] < needed:
            found.append(
                f"on {standby}: {human_size(root['free_bytes'])} are free in {root['path']}, and {plan['vm']} needs "
                f"{human_size(needed)} to run there; make room, or lower resilient_vm_reserve_bytes"
            )
    return found


def readiness(
    plan: Mapping[str, Any],
    facts: _takeover.Facts,
    gate: Sequence[str],
    seen: Mapping[str, str] | None,
) -> Readiness:
    """``gate``: what is wrong with it; ``seen``: how the standby host reached the others, None when it did not say.

    The fence agent's status is in ``facts.fenced``.
    """
    vm, storage = plan["vm"], plan["backup_storage"]
    state = (facts.hosts.get(storage) or {}).get("state")
    active, taker = _takeover.hosts_of(plan, state)
    silent = [name for name in (storage, taker) if not (facts.hosts.get(name) or {}).get("answered")]
    notes: list[str] = []
    alone = _unwitnessed.told(plan, facts.hosts, [], facts.standbys)
    if silent:
        found = [(facts.hosts.get(name) or {}).get("msg") or f"machine {name} gave no answer" for name in silent]
    elif not state:
        found = [f"{vm} has no state document on {storage}; run the site playbook"]
    elif alone:
        found = [alone]
    elif state["phase"] == "failed_over":
        found = [f"nobody stands by for {vm} since {taker} took it over from {active}"]
    else:
        known, held = facts.hosts[taker], facts.standbys.get(taker) or {}
        found = _takeover.unfit({**plan, "despite_findings": True}, facts, state, taker)
        said = {name: fact["state"] for name, fact in facts.hosts.items() if fact.get("state")}
        found += disagreement(vm, said)
        if held.get("current") and not held.get("defined"):
            found.append(f"{vm} is not defined on {taker}; run the daily playbook")
        found += lacks(plan, taker, known, held, held.get("unfit") or [])
        if not (seen or {}).get(storage):
            found.append(f"{taker} can't reach {storage}, so a takeover would take it for the one that is cut off")
        found += gate
        found += _unfenced(facts, active)
        notes = [*_generation(facts, held), *_versions(facts, active, taker)]
        if not (facts.hosts.get(active) or {}).get("answered"):
            notes.append(f"{active} gave no answer; if it is down: failover --limit {vm}")
        notes.append(_power(plan, facts, active))
        notes += [f"on {taker}: {held['crowded']}"] if held.get("crowded") else []
    found = list(dict.fromkeys(found))
    head = f"{vm}: a takeover by {taker} would {'NOT ' if found else ''}work now"
    return Readiness(found, [head, *(f"    NOT: {text}" for text in found), *(f"    {text}" for text in notes)])


def _unfenced(facts: _takeover.Facts, active: str) -> list[str]:
    power, told = _fence.verdict(facts.fenced)
    if power == _fence.FAILED:
        return [f"{active} could not be powered off ({told}), and a takeover would ask for somebody's word"]
    if power == _fence.OFF and (facts.hosts.get(active) or {}).get("answered"):
        return [f"the fence agent of {active} says that it is off ({told}), but it answers: that is another machine's"]
    return []


def _power(plan: Mapping[str, Any], facts: _takeover.Facts, active: str) -> str:
    if not plan["machine_settings"][active]["fence_agent"]:
        return f"{active} has no fence agent: a takeover asks for somebody's word that it is off"
    return f"power of {active}: {_fence.verdict(facts.fenced)[1]}"


def _generation(facts: _takeover.Facts, held: Mapping[str, Any]) -> list[str]:
    current = held.get("current")
    if not current:
        return []
    age = _takeover.age(current, facts.now)
    proven = [str((disk.get("proven") or {}).get("full_round") or "") for disk in current.get("disks") or []]
    read = f"read again as a whole at {min(proven)}" if proven and all(proven) else "not read again as a whole yet"
    return [f"recovery point: {current['id']}, {human_age(timedelta(seconds=age or 0))} old, {read}"]


def _versions(facts: _takeover.Facts, active: str, taker: str) -> list[str]:
    said = {name: (facts.hosts.get(name) or {}).get("libvirt") for name in (active, taker)}
    told = [f"{name} has libvirt {of['version']}, QEMU {of['qemu_version']}" for name, of in said.items() if of]
    return ["; ".join(told)] if len(told) == 2 and said[active] != said[taker] else []
