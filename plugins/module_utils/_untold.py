# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that were not told of a step which the backup storage has taken, since the run was cut off in between, or since
it learnt late of what they had decided. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["untold"]


def untold(decided: Mapping[str, Any], known: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
    """Which of the hosts, by their documents, hold the VM in another phase of the same epoch, or as unwitnessed.

    One that missed an epoch is another matter: what it has on its disks is older than what runs.
    """
    return [
        name
        for name, state in known.items()
        if state
        and (state["epoch"], state["active"]) == (decided.get("epoch"), decided.get("active"))
        and (state["phase"] != decided["phase"] or state.get("unwitnessed"))
    ]
