# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A takeover that its host decides by itself while the backup storage is out of reach, and how that learns of it. Pure.

The host's document says since when it is unwitnessed. The backup storage takes the same step afterwards, from the epoch
at which it still is; unless the VM may have lived on at its old host meanwhile, which a person has to settle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from . import _clock
from ._domain import STOPPED
from ._errors import ResilientVmError
from ._evidence import Evidence
from ._human import human_age
from ._transitions import named

__all__ = ["ALLOW", "WARNING", "Late", "caught_up", "known", "late", "offer", "remark", "told", "witnesses"]

_STEPS = ("fail_over", "finish_failover")
# Of a takeover that is about to be, or was, decided without the backup storage; the decision's fields are put in.
WARNING = (
    "{taker} decides by itself, since the backup storage can't be reached: red in status until that is back and has "
    "been told by daily, and {active} has to stay off until then"
)
ALLOW = "-e resilient_vm_without_backup_storage=true"


@dataclass(frozen=True)
class Late:
    """What the backup storage has to be told of. ``problem``: why that is for a person to settle, and how."""

    host: str
    left: str
    when: str
    # What the backup storage does from the epoch at which it still is: ``transition``, ``epoch``, and since when the
    # old host must not have asked it ("" where that host itself says that nothing runs there).
    steps: list[dict[str, Any]]
    # The document that it has then.
    state: dict[str, Any]
    problem: str = ""


def known(plan: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The newest document that the hosts hold, for when the backup storage is silent."""
    pair = [name for name in plan["machines"] if name != plan["backup_storage"]]
    found = [state for state in ((hosts.get(name) or {}).get("state") for name in pair) if state]
    return max(found, key=lambda state: int(state["epoch"]), default=None)


def late(
    plan: Mapping[str, Any],
    hosts: Mapping[str, Mapping[str, Any]],
    images: Sequence[Mapping[str, Any]],
    standbys: Mapping[str, Mapping[str, Any]],
) -> Late | None:
    """What the backup storage missed, by its own document and ``images``; None when it missed nothing, or is silent.

    ``standbys``: the generations of the hosts. What the VM was taken over from is no sign that it lived on.
    """
    storage = plan["backup_storage"]
    own, state = (hosts.get(storage) or {}).get("state"), _alone(plan, hosts)
    if not own or state is None:
        return None
    host, left, when = state["active"], state["standby"], state["unwitnessed"]
    there = hosts.get(left) or {}
    first, last = _STEPS
    steps = [] if own["phase"] == state["phase"] else [_step(last, state["epoch"])]
    if own["epoch"] != state["epoch"]:
        steps = [_step(first, own["epoch"], "" if there.get("answered") else when)]
        steps += [_step(last, state["epoch"])] if state["phase"] != "failing_over" else []
    return Late(
        host=host,
        left=left,
        when=when,
        steps=steps,
        state={**own, **{name: state[name] for name in ("epoch", "active", "standby", "phase")}, "unwitnessed": None},
        problem=_problem(plan, own, state, there, _since(plan, state, images, standbys.get(host) or {})),
    )


def told(
    plan: Mapping[str, Any],
    hosts: Mapping[str, Mapping[str, Any]],
    images: Sequence[Mapping[str, Any]],
    standbys: Mapping[str, Mapping[str, Any]],
) -> str:
    """One sentence while the backup storage does not know that a host took the VM over by itself, or "": what to do."""
    state = _alone(plan, hosts)
    if state is None:
        return ""
    missed = late(plan, hosts, images, standbys)
    if missed is None:
        return f"{_said(plan, state)}; bring that back, and run the daily playbook, which has it written down there"
    if missed.problem:
        return missed.problem
    again = "failover" if state["phase"] == "failing_over" else "daily"
    return f"{_said(plan, state)} and has still to be told; run the {again} playbook, which does it"


def caught_up(
    plan: Mapping[str, Any],
    hosts: Mapping[str, Mapping[str, Any]],
    images: Sequence[Mapping[str, Any]],
    standbys: Mapping[str, Mapping[str, Any]],
) -> tuple[Late | None, Mapping[str, Mapping[str, Any]]]:
    """What the backup storage is to be told, and the answers as they will be then. Raises ResilientVmError where that
    is not for a night to do."""
    missed = late(plan, hosts, images, standbys)
    if missed is None:
        return None, hosts
    if missed.problem or missed.state["phase"] == "failing_over":
        said = told(plan, hosts, images, standbys)
        raise ResilientVmError(said, problems=[said])
    storage = plan["backup_storage"]
    return missed, {**hosts, storage: {**hosts[storage], "state": missed.state}}


def _step(transition: str, epoch: int, unasked_since: str = "") -> dict[str, Any]:
    return {"transition": transition, "epoch": epoch, "unasked_since": unasked_since}


def _alone(plan: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The document of the host that took it over by itself, while the backup storage holds another one."""
    own = (hosts.get(plan["backup_storage"]) or {}).get("state")
    state = known(plan, hosts)
    if state is None or not state.get("unwitnessed"):
        return None
    held = own and (own["epoch"], own["active"], own["phase"]) == (state["epoch"], state["active"], state["phase"])
    newer = own and own["epoch"] > state["epoch"]
    return None if held or newer else state


def _said(plan: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    return (
        f"{state['active']} took {plan['vm']} over by itself at {state['unwitnessed']} (epoch {state['epoch']}), while "
        f"{plan['backup_storage']} was out of reach"
    )


def _since(
    plan: Mapping[str, Any],
    state: Mapping[str, Any],
    images: Sequence[Mapping[str, Any]],
    held: Mapping[str, Any],
) -> list[str]:
    """Images of the old epoch that may have been taken after the takeover, clocks being what they are."""
    since = _clock.parse(state["unwitnessed"]) - timedelta(seconds=plan["max_clock_skew_seconds"])
    there = {generation["id"] for generation in held.get("generations") or []}
    return [
        str(image["id"])
        for image in images
        if image["epoch"] < state["epoch"] and image["id"] not in there and _clock.instant(image["id"]) > since
    ]


def _problem(
    plan: Mapping[str, Any],
    own: Mapping[str, Any],
    state: Mapping[str, Any],
    there: Mapping[str, Any],
    since: Sequence[str],
) -> str:
    vm, storage, left = plan["vm"], plan["backup_storage"], state["standby"]
    domain = there.get("domain") or {}
    behind = (own["epoch"] + 1, own["active"]) == (state["epoch"], left) and own["phase"] in named(_STEPS[0]).before
    same = (own["epoch"], own["active"]) == (state["epoch"], state["active"])
    if domain.get("exists") and domain["state"] not in STOPPED:
        found = f"it is {domain['state']} on {left}"
    elif not behind and not (same and own["phase"] in named(_STEPS[1]).before):
        found = f"{storage} holds epoch {own['epoch']} with {own['active']} active, phase {own['phase']}"
    elif since:
        found = f"{storage} holds image {since[-1]} of {left}, taken since or right before"
    else:
        return ""
    return (
        f"{_said(plan, state)}, and {found}; look which disks count, then run the resolve playbook with --limit {vm} "
        f"-e resilient_vm_resolve_to={state['active']} (or {left})"
    )


def remark(late: Late | None, storage: str) -> list[str]:
    """For people, when it has been told."""
    if late is None or late.problem:
        return []
    return [f"{storage} is told that {late.host} took it over by itself at {late.when}"]


# while it is decided


def witnesses(plan: Mapping[str, Any], host: str) -> list[dict[str, Any]]:
    """What a host looks for, beside the VM's machines, to know that it is not cut off itself."""
    found = []
    for place in plan["machine_settings"][host].get("witnesses") or []:
        address, _colon, port = place.rpartition(":")
        found.append({"name": f"witness {place}", "address": address.strip("[]"), "port": int(port)})
    return found


def offer(plan: Mapping[str, Any], seen: Evidence, generation: Mapping[str, Any], now: datetime) -> str:
    """How to go on where only the backup storage is missing, and what that costs; "" elsewhere."""
    if seen.without_backup_storage or seen.seen_by_standby is None or seen.seen_by_backup_storage is not None:
        return ""
    since = generation["instant"]
    lost = human_age(now - _clock.parse(since, "the generation's time"))
    return (
        f"; or, when {seen.vm} can't wait for that, run it again with {ALLOW}: {seen.standby} decides by itself, what "
        f"was written since {since} is lost ({lost}), {seen.active} starts nothing before {seen.standby} has answered "
        f"it, and no image is taken until {plan['backup_storage']} is back and daily has told it"
    )
