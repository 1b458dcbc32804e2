# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of disks that are kept aside: which there are, until when, and which a run has erased. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from . import _clock
from ._human import human_size

__all__ = ["erased", "kept", "remarks"]


def kept(hosts: Mapping[str, Mapping[str, Any]], keep_days: int) -> list[dict[str, Any]]:
    """One entry for what was put aside at one time on one host: its files, their size, and until when they stay."""
    found = []
    for host, fact in sorted(hosts.items()):
        entries = fact.get("kept_aside") or []
        for when in sorted({entry["when"] for entry in entries}):
            files = [entry for entry in entries if entry["when"] == when]
            until = _clock.parse(when, "the time at which it was kept aside") + timedelta(days=keep_days)
            found.append(
                {
                    "host": host,
                    "when": when,
                    "until": _clock.iso(until) if keep_days else None,
                    "bytes_allocated": sum(file["bytes_allocated"] for file in files),
                    "files": [file["aside"] for file in files],
                }
            )
    return found


def remarks(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"kept aside on {entry['host']}: disks of until {entry['when']}, {human_size(entry['bytes_allocated'])}, "
        + (f"erased after {entry['until']}" if entry["until"] else "for good")
        for entry in entries
    ]


def erased(registered: Mapping[str, Any] | None, check_mode: bool) -> list[str]:
    """What came of a loop of aside_prune over the hosts that keep something."""
    verb, lines = "would erase" if check_mode else "erased", []
    for answer in (registered or {}).get("results") or []:
        gone = answer.get("erased") or []
        if gone:
            size = human_size(sum(file["bytes_allocated"] for file in gone))
            names = ", ".join(file["aside"] for file in gone)
            lines.append(f"{verb} what was kept aside on {answer['cycle_keeper']}: {names} ({size})")
        lines += answer.get("stays") or []
    return lines
