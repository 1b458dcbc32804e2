# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the host that a VM was taken over from is made its standby, decided from what its machines say. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import _unwitnessed
from ._domain import STOPPED
from ._errors import refusal

__all__ = ["Decision", "decide"]

_SITE = "run the site playbook"
_BEFORE, _BEGUN, _OVER = "failed_over", "reprotecting", "protected"


@dataclass(frozen=True)
class Decision:
    """``action``: nothing (somebody stands by), or prepare (the host is made ready for daily to bring it an image)."""

    action: str
    why: str
    # Where the VM lives, and who is to stand by for it.
    active: str
    standby: str
    epoch: int
    uuid: str | None
    begun: bool
    # The backup storage's newest image: what the next copy is begun for.
    image_id: str = ""
    bytes_allocated: int = 0
    reserve_bytes: int = 0
    disks: list[dict[str, Any]] = field(default_factory=list)


def decide(
    plan: Mapping[str, Any],
    hosts: Mapping[str, Mapping[str, Any]],
    images: Mapping[str, Mapping[str, Any]],
    version: str = "",
) -> Decision:
    """The decision for one VM. Raises ResilientVmError, one sentence a line, when nothing may be done."""
    vm, storage = plan["vm"], plan["backup_storage"]
    silent = [name for name in plan["machines"] if not (hosts.get(name) or {}).get("answered")]
    if silent:
        told = [(hosts.get(name) or {}).get("msg") or f"machine {name} gave no answer" for name in silent]
        raise refusal([f"{each}; nothing stands by before all three machines answer" for each in told])
    state = hosts[storage].get("state")
    if not state:
        raise refusal([f"{vm} has no state document on {storage}; {_SITE}"])
    # By images it is weighed by daily, which knows the generations as well.
    alone = _unwitnessed.told(plan, hosts, [], {})
    if alone:
        raise refusal([alone])
    active, standby, phase = state["active"], state["standby"], state["phase"]
    found = {"active": active, "standby": standby, "epoch": state["epoch"], "uuid": state["uuid"]}
    if phase == _OVER:
        return Decision("nothing", f"{standby} stands by for {vm} already", begun=False, **found)
    problems = _problems(plan, hosts, state, version)
    newest = (images.get(storage) or {}).get("newest")
    if newest is None:
        problems.append(
            f"{storage} has no whole image of {vm} that {standby} could be given; run the daily playbook first"
        )
    if newest is None or problems:
        raise refusal(problems)
    return Decision(
        "prepare",
        f"{standby} is made the standby host of {vm}, which lives on {active}",
        begun=phase == _BEGUN,
        image_id=newest["id"],
        bytes_allocated=newest.get("bytes_allocated") or 0,
        reserve_bytes=plan["machine_settings"][standby]["reserve_bytes"],
        disks=[{"target": disk["target"], "size_bytes": disk["size_bytes"]} for disk in newest["disks"]],
        **found,
    )


def _problems(
    plan: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]], state: Mapping[str, Any], version: str
) -> list[str]:
    vm, standby, phase, problems = plan["vm"], state["standby"], state["phase"], []
    if phase not in (_BEFORE, _BEGUN):
        problems.append(f"{vm} is in phase {phase}, from which there is no reprotect; bring that to its end first")
    for name in plan["machines"]:
        own = hosts[name].get("state")
        if not own:
            problems.append(f"{vm} has no state document on {name}; {_SITE}")
        elif own["epoch"] > state["epoch"]:
            problems.append(
                f"{name} holds epoch {own['epoch']} of {vm}, and the backup storage epoch {state['epoch']}: that was "
                "put back to an older day; find out where the VM ran last"
            )
        told = hosts[name].get("version")
        if not told or (version and told.split()[0] != version):
            problems.append(f"the mover on {name} is {told or 'missing'}, not this collection's; {_SITE}")
    domain = hosts[standby].get("domain") or {}
    if domain.get("exists") and domain["state"] not in STOPPED:
        problems.append(
            f"{vm} is {domain['state']} on {standby}, and lives on {state['active']} since {state['changed']}; shut it "
            f"down on {standby} (what it has written there stays on its disks), and run reprotect again"
        )
    return problems
