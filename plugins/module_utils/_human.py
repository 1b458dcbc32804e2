# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes, ages and progress as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

__all__ = ["clock_difference", "human_age", "human_size", "limits_text", "progress_text"]

_WAYS = {"fetch": "to the backup storage", "refresh": "to the standby host", "restore": "to where it is restored"}
_FOUND = {"bitmap": "changes by dirty bitmap", "digests": "comparing digests", "allocation": "all data"}


def human_size(count: float) -> str:
    """A number of bytes as a person reads it."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def human_age(age: timedelta) -> str:
    """A length of time in its two largest units."""
    seconds = max(int(age.total_seconds()), 0)
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def limits_text(limits: Mapping[str, Any], compression: str, streams: int = 1, streams_reason: str = "") -> str:
    """The limits a copy kept to, what was done about compression, and its connections if it was not just one."""
    parts = [
        f"{human_size(limits[name])}/s{whose}"
        for name, whose in (("rate", ""), ("machine_rate", " for all copies on that machine"))
        if limits.get(name)
    ]
    if limits.get("window"):
        parts.append(f"from {limits['window'].replace('-', ' to ')} ({limits['timezone']})")
    text = f"limits: {', '.join(parts) or 'none'}; compression: {compression}"
    if streams > 1 or streams_reason:
        text += f"; connections: {streams}" + (f" ({streams_reason})" if streams_reason else "")
    return text


def progress_text(progress: Mapping[str, Any]) -> str:
    """A progress document in one line: what is copied where, how far it is, how fast, how long it will take."""
    parts = [f"image {progress.get('image_id')} {_WAYS.get(str(progress.get('hop')), '')}".rstrip()]
    if progress.get("waiting"):
        return f"{parts[0]}: waiting {progress['waiting']}"
    done, total = progress.get("done_bytes"), progress.get("total_bytes")
    if done is not None and total:
        found = _FOUND.get(str(progress.get("found_by")), "")
        parts.append(
            f"disk {progress.get('disk')} {min(100, 100 * done // total)} %, {human_size(done)} of {human_size(total)}"
            + (f" ({found})" if found else "")
        )
    if progress.get("bytes_sent") is not None:
        parts.append(f"{human_size(progress['bytes_sent'])} sent")
    if progress.get("bytes_per_second"):
        parts.append(f"{human_size(progress['bytes_per_second'])}/s")
    if progress.get("seconds_left") is not None:
        left = timedelta(seconds=progress["seconds_left"])
        parts.append(f"{human_age(left) if left.seconds >= 60 or left.days else 'less than a minute'} left")
    return ", ".join(parts)


def clock_difference(seconds: float) -> str:
    """How far a clock is ahead (or behind, below 0), as a person reads it."""
    if not seconds:
        return "agrees"
    size = abs(seconds)
    text = next(
        (
            f"{size / unit:.0f} {word}"
            for unit, word in ((86400, "days"), (3600, "hours"), (60, "minutes"))
            if size >= 2 * unit
        ),
        f"{size:.0f} seconds",
    )
    return f"{text} {'ahead' if seconds > 0 else 'behind'}"
