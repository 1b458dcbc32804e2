# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a VM's next image is due, and what it may count from. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from . import _clock

__all__ = ["base", "image_due"]


def image_due(
    newest: str | None, now: datetime, plan: Mapping[str, Any], of_former_epoch: bool = False
) -> tuple[bool, str]:
    """Whether an image is to be taken, and why (not): architecture's rule of one image a calendar day.

    The second condition keeps a run that slipped past midnight from costing the next evening's image.
    """
    if plan["force"]:
        return True, "resilient_vm_force is set"
    if newest is None:
        return True, "there is no image yet"
    if of_former_epoch:
        return True, "the newest image is from before the VM changed its host"
    taken = _clock.instant(newest)
    zone = _clock.zone(plan["timezone"])
    if _clock.calendar_day(taken, zone) != _clock.calendar_day(now, zone):
        return True, f"the newest image is of {_clock.calendar_day(taken, zone)}"
    if now - taken >= timedelta(hours=plan["min_interval_hours"]):
        return True, f"the newest image is older than {plan['min_interval_hours']} hours"
    return False, f"image {newest} is of today"


def base(newest: Mapping[str, Any] | None, newest_id: str | None, epoch: int | None) -> dict[str, Any] | None:
    """What a bitmap may count from: the newest image, only while it is whole and of the epoch in force."""
    if newest is None or newest["id"] != newest_id or newest["epoch"] != epoch:
        return None
    return {
        "image_id": newest["id"],
        "checkpoint": newest.get("checkpoint"),
        "disks": {
            disk["target"]: {"size_bytes": disk["size_bytes"], "checkpoint": disk.get("checkpoint")}
            for disk in newest["disks"]
        },
    }
