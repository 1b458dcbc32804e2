# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A takeover that stays: whether the way back is given up. Decided, not done. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import _unwitnessed
from ._errors import refusal

__all__ = ["Decision", "decide"]

_SITE = "run the site playbook"
_OPEN, _SETTLED = "failed_over", ("reprotecting", "protected")


@dataclass(frozen=True)
class Decision:
    """``action``: commit, or nothing (there is no way back any more). ``followers``: hosts that answer, to be told."""

    action: str
    why: str
    active: str
    standby: str
    epoch: int
    followers: list[str]


def decide(plan: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]], version: str = "") -> Decision:
    """The decision for one VM. The host that it was taken from need not answer.

    Raises ResilientVmError, one sentence a line, when nothing may be done.
    """
    vm, storage = plan["vm"], plan["backup_storage"]
    there = hosts.get(storage) or {}
    if not there.get("answered"):
        raise refusal([f"{there.get('msg') or f'machine {storage} gave no answer'}; it keeps which host {vm} lives on"])
    state = there.get("state")
    if not state:
        raise refusal([f"{vm} has no state document on {storage}; {_SITE}"])
    # By images it is weighed by daily, which knows the generations as well.
    alone = _unwitnessed.told(plan, hosts, [], {})
    if alone:
        raise refusal([alone])
    active, standby, phase = state["active"], state["standby"], state["phase"]
    followers = [name for name in (standby, active) if (hosts.get(name) or {}).get("answered")]
    found = {"active": active, "standby": standby, "epoch": state["epoch"], "followers": followers}
    if phase in _SETTLED:
        return Decision(
            "nothing", f"{vm} lives on {active} in phase {phase}; there is no takeover to be undone", **found
        )
    problems = _problems(plan, hosts, state, version)
    if problems:
        raise refusal(problems)
    return Decision(
        "commit",
        f"{vm} stays on {active}, and failover_undo is over; the disks on {standby} are kept, and reprotect makes it "
        "the standby host when it is up",
        **found,
    )


def _problems(
    plan: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]], state: Mapping[str, Any], version: str
) -> list[str]:
    vm, storage, phase, problems = plan["vm"], plan["backup_storage"], state["phase"], []
    if phase != _OPEN:
        problems.append(f"{vm} is in phase {phase}, in which there is no takeover to be committed; look at its status")
    told = hosts[storage].get("version")
    if not told or (version and told.split()[0] != version):
        problems.append(f"the mover on {storage} is {told or 'missing'}, not this collection's; {_SITE}")
    for name in plan["machines"]:
        own = (hosts.get(name) or {}).get("state")
        if own and own["epoch"] > state["epoch"]:
            problems.append(f"{name} holds a newer state document of {vm}; find out where it ran")
    return problems
