# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A takeover undone: back to the host it was taken from, on the disks it had there. Decided, not done. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._domain import STOPPED
from ._errors import refusal

__all__ = ["Decision", "decide"]

_SITE = "run the site playbook"


@dataclass(frozen=True)
class Decision:
    """``action``: confirm (ask for the operator's word), undo, or start (one that was cut off after it was decided)."""

    action: str
    why: str
    # Where the VM lives by the backup storage's word, and the host it was taken from.
    active: str
    standby: str
    epoch: int
    uuid: str | None
    word: str = ""


def decide(plan: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]], version: str = "") -> Decision:
    """The decision for one VM. Raises ResilientVmError, one sentence a line, when nothing may be done."""
    vm, storage = plan["vm"], plan["backup_storage"]
    silent = [name for name in plan["machines"] if not (hosts.get(name) or {}).get("answered")]
    if silent:
        told = [(hosts.get(name) or {}).get("msg") or f"machine {name} gave no answer" for name in silent]
        raise refusal([f"{each}; a takeover is undone when all three machines answer" for each in told])
    state = hosts[storage].get("state")
    if not state:
        raise refusal([f"{vm} has no state document on {storage}; {_SITE}"])
    active, standby = state["active"], state["standby"]
    found = {"active": active, "standby": standby, "epoch": state["epoch"], "uuid": state["uuid"]}
    if state["phase"] == "reprotecting" and (hosts[active].get("domain") or {}).get("state") in STOPPED:
        return Decision("start", f"{vm} lives on {active}, where it is off, and is started there", **found)
    problems = _problems(plan, hosts, state, version)
    if problems:
        raise refusal(problems)
    # For the state as it is: when the job runs again, it is none any more.
    mark = hashlib.sha256(f"{state['epoch']} {state['changed']}".encode()).hexdigest()[:8]
    word = f"{vm}@{active}#{mark}"
    given = word in re.split(r"[,\s]+", plan["confirm"] or "")
    lost = f"what was written since {state['changed']} is then only in images taken on {active}, and in its disks there"
    why = f"{vm} goes back from {active} to {standby}, on the disks it had there; {lost}"
    return Decision("undo" if given else "confirm", why, word=word, **found)


def _problems(
    plan: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]], state: Mapping[str, Any], version: str
) -> list[str]:
    vm, active, standby, phase = plan["vm"], state["active"], state["standby"], state["phase"]
    if phase != "failed_over":
        return [f"{vm} is in phase {phase}, in which there is no takeover to be undone; move it with switchover"]
    problems = []
    for name in plan["machines"]:
        told = hosts[name].get("version")
        if not told or (version and told.split()[0] != version):
            problems.append(f"the mover on {name} is {told or 'missing'}, not this collection's; {_SITE}")
    own = hosts[standby].get("state")
    if not own or own["epoch"] > state["epoch"]:
        problems.append(
            f"{standby} holds {'no' if not own else 'a newer'} state document of {vm}; find out where it ran"
        )
    domain = hosts[standby].get("domain") or {}
    if not domain.get("exists") or domain.get("uuid") != state["uuid"]:
        problems.append(
            f"{standby} no longer has the machine that {vm} was taken over from; it stays on {active}: run the "
            "reprotect playbook"
        )
    elif domain["state"] not in STOPPED:
        problems.append(f"{vm} is {domain['state']} on {standby} as well; shut it down there")
    return problems
