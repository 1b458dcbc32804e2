# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of each step beside a VM's change of host: kept on the host that it runs on since, for a rerun."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ._files import locked, read_json, write_json
from ._layout import Layout

__all__ = ["RECORD", "keep", "read"]

RECORD = "steps.json"


def read(layout: Layout, epoch: int) -> dict[str, Any]:
    """{move, steps} of this epoch; without a move when there was none, or none that took steps."""
    found = read_json(os.path.join(layout.directory, RECORD)) or {}
    if found.get("epoch") != epoch:
        return {"move": "", "steps": []}
    return {"move": found["move"], "steps": found["steps"]}


def keep(
    layout: Layout, epoch: int, move: str | None, step: Mapping[str, Any] | None, dry: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Begin the record of a move, or put into it what came of a step: (before, after)."""
    if dry:
        found = read(layout, epoch)
        return found, _after(found, move, step)
    with locked(layout.lock, "steps"):
        found = read(layout, epoch)
        after = _after(found, move, step)
        if after != found:
            write_json(os.path.join(layout.directory, RECORD), {"epoch": epoch, **after}, 0o600)
    return found, after


def _after(found: Mapping[str, Any], move: str | None, step: Mapping[str, Any] | None) -> dict[str, Any]:
    steps = list(found["steps"])
    if step:
        names = [each["name"] for each in steps]
        at = names.index(step["name"]) if step["name"] in names else len(steps)
        steps[at : at + 1] = [dict(step)]
    return {"move": found["move"] or move or "", "steps": steps}
