# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a planned change of hosts does for one VM, decided from what its machines say. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._domain import STOPPED
from ._errors import refusal

__all__ = ["Decision", "decide"]

_SITE = "run the site playbook"


@dataclass(frozen=True)
class Decision:
    """``action``: nothing (it lives there already), switch, resume (a run that was cut off before it was decided),
    start (one that was cut off afterwards), give_up (back to where it was)."""

    action: str
    why: str
    # Where it lives by the backup storage's word, and the other host.
    active: str
    standby: str
    epoch: int
    uuid: str | None


def decide(
    plan: Mapping[str, Any],
    hosts: Mapping[str, Mapping[str, Any]],
    standbys: Mapping[str, Mapping[str, Any]],
    version: str = "",
) -> Decision:
    """The decision for one VM. Raises ResilientVmError, one sentence a line, when nothing may be done."""
    vm, storage, wanted = plan["vm"], plan["backup_storage"], plan["switch_to"]
    silent = [name for name in plan["machines"] if not (hosts.get(name) or {}).get("answered")]
    if silent:
        told = [(hosts.get(name) or {}).get("msg") or f"machine {name} gave no answer" for name in silent]
        raise refusal([f"{each}; a planned change of hosts needs all three machines" for each in told])
    state = hosts[storage].get("state")
    if not state:
        raise refusal([f"{vm} has no state document on {storage}; {_SITE}"])
    active, standby, phase = state["active"], state["standby"], state["phase"]
    if wanted not in (active, standby):
        named = f"names {wanted}" if wanted else "is not set"
        raise refusal([f"resilient_vm_switch_to {named} for {vm}; set it to {standby}, or to {active}, where it lives"])
    found = {"active": active, "standby": standby, "epoch": state["epoch"], "uuid": state["uuid"]}
    moves = f"{vm} moves from {active} to {standby}"
    if phase == "switching":
        if wanted == active:
            return Decision("give_up", f"{vm} stays on {active}", **found)
        _refuse(_unfit(plan, hosts, standbys, state, version))
        return Decision("resume", f"{moves}, which an earlier run has begun", **found)
    if wanted == active:
        if phase == "reprotecting":
            _refuse(_nothing_to_start(vm, hosts[active], standbys.get(active) or {}, state))
            return Decision("start", f"{vm} lives on {active}, and {standby} is made its standby", **found)
        if _is(hosts[active]) in STOPPED:
            raise refusal([f"{vm} lives on {active} already, and is {_is(hosts[active])} there; start it there"])
        return Decision("nothing", f"{vm} lives on {active} already", **found)
    if phase != "protected":
        raise refusal(
            [f"{vm} is in phase {phase}, from which there is no planned change of hosts; {_ENDS.get(phase, _END)}"]
        )
    _refuse([*_unfit(plan, hosts, standbys, state, version), *_not_ready(plan, hosts, standbys, state)])
    return Decision("switch", moves, **found)


_END = "bring that to its end first"
_ENDS = dict.fromkeys(("failed_over", "reprotecting"), "run the reprotect playbook first, so that somebody stands by")


def _unfit(
    plan: Mapping[str, Any],
    hosts: Mapping[str, Mapping[str, Any]],
    standbys: Mapping[str, Mapping[str, Any]],
    state: Mapping[str, Any],
    version: str,
) -> list[str]:
    """What no step may be taken with."""
    vm, problems = plan["vm"], []
    for name in plan["machines"]:
        own = hosts[name].get("state")
        if not own:
            problems.append(f"{vm} has no state document on {name}; {_SITE}")
        elif own["epoch"] != state["epoch"] or own["active"] != state["active"]:
            problems.append(
                f"{name} holds epoch {own['epoch']} of {vm} with {own['active']} active, and the backup storage epoch "
                f"{state['epoch']} with {state['active']}; find out where it runs before anything is moved"
            )
        told = hosts[name].get("version")
        if not told or (version and told.split()[0] != version):
            problems.append(f"the mover on {name} is {told or 'missing'}, not this collection's; {_SITE}")
    if _is(hosts[state["standby"]]) == "running":
        problems.append(f"{vm} runs on {state['standby']}, which only stands by for it; shut it down there")
    held = standbys.get(state["standby"]) or {}
    if not plan["despite_findings"]:
        problems += [f"{state['standby']} could not start {vm}: {sentence}" for sentence in held.get("unfit") or []]
    return problems


def _not_ready(
    plan: Mapping[str, Any],
    hosts: Mapping[str, Mapping[str, Any]],
    standbys: Mapping[str, Mapping[str, Any]],
    state: Mapping[str, Any],
) -> list[str]:
    """What a planned change does not begin with."""
    vm, active, standby, problems = plan["vm"], state["active"], state["standby"], []
    # One that is off moves as well: it may be one that this host can't start.
    if _is(hosts[active]) not in ("running", *STOPPED):
        problems.append(f"{vm} is {_is(hosts[active]) or 'not there'} on {active}; start it there first")
    current = (standbys.get(standby) or {}).get("current")
    if not current or not current.get("complete") or current.get("damaged"):
        problems.append(f"{standby} holds no whole generation of {vm}; run the daily playbook first")
    return problems


def _nothing_to_start(vm: str, host: Mapping[str, Any], held: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    """Where no planned change has brought it there. What a host still has of the time when it last stood by is older
    than its own time as the active host and the takeover that failover_undo took back: by three epochs at least.
    """
    current = held.get("current")
    fit = current and current["epoch"] > state["epoch"] - 3
    if fit or _is(host) == "running":
        return []
    return [
        f"{state['active']} holds no generation that {vm} could be started from after a planned change of hosts; where "
        "failover_undo was cut off, run that again"
    ]


def _is(host: Mapping[str, Any]) -> str | None:
    """What the VM's machine is on a host, in libvirt's words."""
    domain: Mapping[str, Any] = host.get("domain") or {}
    return domain.get("state")


def _refuse(problems: list[str]) -> None:
    if problems:
        raise refusal(problems)
