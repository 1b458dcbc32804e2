# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the backup storage holds newer data than the host that would take a VM over. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from . import _clock
from ._human import human_age

__all__ = ["remarks", "than", "why"]


def than(held: Mapping[str, Any], storage: Mapping[str, Any]) -> dict[str, Any] | None:
    """The backup storage's newest whole image when the host has nothing whole that is as new."""
    newest = storage.get("newest")
    if not newest:
        return None
    current = _whole(held)
    if current and (current["epoch"], current["id"]) >= (newest["epoch"], newest["id"]):
        return None
    return dict(newest)


def why(storage: str, taker: str, held: Mapping[str, Any]) -> str:
    return f"{storage} holds {held['current']['id']}, newer than what {taker} has; it is brought there first"


def remarks(
    plan: Mapping[str, Any],
    taker: str,
    held: Mapping[str, Any],
    newer: Mapping[str, Any] | None,
    brought: Mapping[str, Any],
) -> list[str]:
    """What people are told of it, before it is brought, after that, and when it could not be."""
    storage = plan["backup_storage"]
    if brought and brought["problem"]:
        return [
            f"{storage} holds {brought['image']}, which could not be brought to {taker} ({brought['problem']}); it "
            f"goes on from what {taker} has"
        ]
    if brought:
        return [f"{brought['image']} was brought from {storage} first, in {brought['seconds']} s"]
    if newer is None or plan["prefer"] == "newest":
        return []
    current = _whole(held)
    saved = "" if current is None else f", {human_age(_time(newer) - _time(current))} newer"
    return [
        f"{storage} holds {newer['id']}{saved}, which {taker} has not; -e resilient_vm_prefer=newest brings it there "
        "first"
    ]


def _whole(held: Mapping[str, Any]) -> Mapping[str, Any] | None:
    current = held.get("current")
    return current if current and current.get("complete") and not current.get("damaged") else None


def _time(image: Mapping[str, Any]) -> datetime:
    return _clock.parse(image["instant"], "the image's time")
