# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a VM's machines say the same of where it lives, and whether anybody stands by for it there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Standing", "disagreement", "standing", "stopped"]

# Phases in which images are taken.
_CYCLE_PHASES = ("protected", "switching", "failed_over", "reprotecting")


@dataclass(frozen=True)
class Standing:
    """``problems``: before they are mended no image is taken. ``later``: one is, and the run turns red."""

    problems: list[str]
    later: list[str]
    # Whether the standby host is still to put aside what it had when the VM left it.
    former: bool

    @property
    def alarm(self) -> str:
        """What is told first, or ""."""
        return next(iter([*self.problems, *self.later]), "")


def standing(
    plan: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]], active: str, standby: str, former: bool = False
) -> Standing:
    """By the state documents of the machines that answered, the backup storage among them.

    ``former``: what the standby host says of itself.
    """
    vm, later, lags = plan["vm"], [], False
    said = {name: fact.get("state") for name, fact in sorted(hosts.items()) if fact.get("answered")}
    unknown = ", ".join(name for name, state in said.items() if not state)
    problems = [f"{vm} has no state document on {unknown}; run the site playbook"] if unknown else []
    known = {name: state for name, state in said.items() if state}
    own = said.get(plan["backup_storage"]) or {}
    phase = own.get("phase")
    if phase == "failed_over":
        later.append(_alone(vm, active, standby, known.pop(standby, None)))
    elif phase == "switching":
        later.append(f"{vm} is down to move from {active} to {standby}; run the switchover playbook again")
    elif phase == "reprotecting":
        there = known.pop(standby, {})
        # A run that was cut off may not have told it.
        lags = former or _place(there) != _place(own)
        if lags:
            later.append(
                f"{standby} still has {vm} as it was before {active} took it over, and does not stand by; run the "
                "reprotect playbook again"
            )
    problems += disagreement(vm, known)
    if phase and phase not in _CYCLE_PHASES:
        problems.append(f"{vm} is in phase {phase}; no image is taken until that is brought to its end")
    return Standing(problems, later, lags)


def disagreement(vm: str, states: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One sentence where the machines' documents name different hosts or epochs."""
    told = {name: _place(state) for name, state in sorted(states.items())}
    if len(set(told.values())) < 2:
        return []
    said = ", ".join(f"{name}: epoch {epoch} on {active}" for name, (epoch, active) in told.items())
    return [f"the state documents of {vm} disagree ({said}); find out where it runs, then run the resolve playbook"]


def stopped(hosts: Mapping[str, Mapping[str, Any]], active: str) -> list[str]:
    """What became of a VM that ran on at the host that it was taken over from, until it is at rest again."""
    found = []
    for name, fact in sorted(hosts.items()):
        stop, state = fact.get("stopped"), (hosts.get(active) or {}).get("state") or fact.get("state")
        # Of an earlier takeover is told no more.
        if stop and state and name != active and state["phase"] != "protected" and stop["epoch"] >= state["epoch"] - 1:
            found.append(f"on {name} at {stop['when']}: {stop['why']}")
    return found


def _place(state: Mapping[str, Any]) -> tuple[Any, Any]:
    return state.get("epoch"), state.get("active")


def _alone(vm: str, active: str, standby: str, there: Mapping[str, Any] | None) -> str:
    """After a takeover. The host that it was taken from need not be up, nor have heard of it."""
    if there is None:
        return (
            f"nobody stands by for {vm} since {active} took it over from {standby}; when that is up again, run the "
            "reprotect playbook"
        )
    if there["active"] == active:
        return (
            f"{standby} is up, and does not stand by for {vm} since {active} took it over; run the reprotect playbook"
        )
    return (
        f"{standby} holds {vm} as it was at epoch {there['epoch']}, and does not stand by; run the reprotect playbook"
    )
