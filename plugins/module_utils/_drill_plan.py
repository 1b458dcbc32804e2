# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill does for one VM: from its plan and what its machines said. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from . import _restore_plan
from ._drill_point import rotating
from ._layout import Layout
from ._preflight import standby_host

__all__ = ["decide"]


def decide(
    plan: Mapping[str, Any],
    hosts: Mapping[str, Mapping[str, Any]],
    images: Mapping[str, Mapping[str, Any]],
    now: datetime,
    version: str = "",
) -> _restore_plan.Decision:
    """That of a restore beside the VM on the host that stands by, of the image whose turn it is when none is named.

    Raises ResilientVmError with one sentence when nothing can be tried so.
    """
    host, stored = standby_host(plan, hosts), images.get(plan["backup_storage"]) or {}
    usable = [image["id"] for image in stored.get("images") or [] if image["complete"] and not image["damaged"]]
    point = plan["restore_point"] or rotating(usable, stored.get("drills") or []) or "latest"
    wish = {
        "restore_point": point,
        "restore_to": "beside",
        "restore_host": host,
        "restore_name": f"{plan['vm']}-drill",
        "restore_mode": "copy",
        "restore_format": "raw",
    }
    decision = _restore_plan.decide({**plan, **wish}, hosts, images, now, version)
    return replace(decision, path=Layout(plan["customer"], plan["vm"], plan["roots"][host]).drill)
