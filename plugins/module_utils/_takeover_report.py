# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a takeover was, for people and for the journal. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from . import _address, _steps, _unwitnessed
from ._human import human_age

__all__ = ["report"]


def report(
    decision: Mapping[str, Any],
    vm: str,
    done: Mapping[str, Any],
    seconds: float,
    steps: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """What a takeover was, for the journal; ``lines`` is the same for people. ``seconds``: until the machine ran.

    ``steps``: what came of each configured step and check.
    """
    waited = ("guest", "port")
    phases = {name: spent for name, spent in done["seconds"].items() if name not in waited}
    told = {
        "vm": vm,
        "from": decision["active"],
        "to": decision["taker"],
        "epoch": decision["new_epoch"],
        "generation": done["generation"],
        "data_time": done["data_time"],
        "lost_seconds": decision["lost_seconds"],
        "seconds_to_running": round(seconds - sum(done["seconds"].get(name, 0.0) for name in waited), 1),
        "seconds": dict(done["seconds"]),
        "guest": done["guest"],
        "port": done.get("port", "not asked"),
        "address": dict(decision.get("address") or {}),
        "remarks": [*decision.get("remarks", ()), *done.get("remarks", ())],
        "steps": [dict(step) for step in steps],
        "resumed": decision["resumed"],
        "unwitnessed": bool(decision.get("unwitnessed")),
    }
    spent = ", ".join(f"{name} {took} s" for name, took in phases.items()) or "it ran already"
    lines = [
        f"{vm} runs on {told['to']} (epoch {told['epoch']}), taken over from {told['from']}",
        f"  recovery point: {told['data_time']}; what was written since is lost "
        f"({human_age(timedelta(seconds=told['lost_seconds'] or 0))})",
        f"  recovery time:  {told['seconds_to_running']} s from the command until it ran ({spent})",
        f"  guest:          {_waited(done, 'guest', 'its agent', 'it has no agent to ask')}",
        f"  port:           {_waited(done, 'port', 'its address', 'resilient_vm_guest_address is not set')}",
        f"  address:        {_address.remark(decision.get('address'))}",
        f"  evidence:       {decision['why']}",
        *([f"  witness:        {_unwitnessed.WARNING.format(**decision)}"] if told["unwitnessed"] else []),
        *(f"  step:           {_steps.line(step)}" for step in steps),
        *(f"  note:           {remark}" for remark in told["remarks"]),
    ]
    return {**told, "evidence": dict(decision["evidence"]), "lines": lines}


def _waited(done: Mapping[str, Any], what: str, whose: str, unasked: str) -> str:
    answer, took = done.get(what, "not asked"), done["seconds"].get(what, 0.0)
    if answer == "not asked":
        return unasked
    return f"{whose} answers after {took} s" if answer == "answers" else f"{whose} did not answer within {took} s"
