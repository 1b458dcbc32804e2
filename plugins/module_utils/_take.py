# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host takes a VM over by the backup storage's document: the same for the playbook and for a takeover from the host
alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import _change, _clock
from ._gate import Gate
from ._layout import Layout
from ._process import run
from ._promote import Promotion, withdraw
from ._state import State
from ._virsh import Virsh

__all__ = ["take_over"]


def take_over(layout: Layout, given: Mapping[str, Any], dry: bool) -> dict[str, Any]:
    """Bring it to run here; what M(vm_failover) returns, whose options ``given`` are."""
    now = _clock.now(given["now"])
    decided = State.from_json(given["document"], f"the document that {layout.name} shall follow")
    before, after = _change.follow(layout, decided, given["who"], now, dry)
    promotion = Promotion(
        layout,
        given["domain"],
        given["epoch"],
        given["networks"],
        run,
        Gate(run, lambda: now),
        given["host"],
        given["guest_address"],
        given["despite_findings"],
        given["point"],
    )
    was = Virsh(run).state(decided.uuid or given["domain"])[0]
    result: dict[str, Any] = {}
    if not dry:
        record = promotion.carry_out()
        # Decided long since; what is left of it would only puzzle whoever looks.
        withdraw(layout, given["epoch"])
        result = {
            "generation": record["generation"],
            "data_time": record["instant"],
            "guest": promotion.wait_for_guest(record["uuid"], given["guest_wait_seconds"]),
            "port": promotion.wait_for_port(given["guest_wait_seconds"]),
            "remarks": promotion.warnings,
            "seconds": promotion.seconds,
        }
    told = [{"active": state.active, "epoch": state.epoch, "phase": state.phase} for state in (before, after)]
    return {
        "changed": before != after or was != "running",
        "diff": {"before": {**told[0], "domain": was}, "after": {**told[1], "domain": "running"}},
        **result,
    }
