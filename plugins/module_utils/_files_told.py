# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image holds, as a person reads it. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import _clock
from ._human import human_size
from ._unpack import plain

__all__ = ["shown", "told"]

_MARKS = {"directory": "/", "link": "@", "device": " (device)", "pipe": " (pipe)"}


def shown(listings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Listings whose names can be shown: a guest may name its files as it likes."""
    return [
        {**listing, "entries": [{**entry, "name": plain(entry["name"])} for entry in listing["entries"]]}
        for listing in listings
    ]


def told(answer: Mapping[str, Any]) -> list[str]:
    return [*map(_file_system, answer["file_systems"], [answer["mounted"]] * len(answer["file_systems"]))] + [
        line for listing in answer["listings"] for line in _listing(listing)
    ]


def _file_system(entry: Mapping[str, Any], mounted: Mapping[str, str]) -> str:
    points = sorted(point for point, device in mounted.items() if device == entry["device"])
    words = [plain(entry["type"]), *([human_size(entry["size_bytes"])] if entry["size_bytes"] else [])]
    words += ["encrypted, can't be read without its key"] if entry["encrypted"] else []
    words += [f"mounted at {', '.join(map(plain, points))}"] if points else []
    return f"file system {plain(entry['device'])}: {', '.join(words)}"


def _listing(listing: Mapping[str, Any]) -> Iterator[str]:
    for entry in listing["entries"]:
        name = plain(entry["name"])
        path = name if listing["itself"] else posixpath.join(listing["path"], name)
        if entry["type"] is None:
            yield f"{'?':<34}{path} (a name that is no UTF-8)"
            continue
        owner = f"{entry['uid']}:{entry['gid']}"
        time = _time(entry["mtime_seconds"])
        yield f"{entry['mode']} {owner:<12}{entry['size_bytes']:>14} {time} {path}{_MARKS.get(entry['type'], '')}"
    left = listing["total"] - len(listing["entries"])
    if left:
        yield f"… and {left} more in {listing['path']}; name a directory in it, or take all of it out"


def _time(seconds: int) -> str:
    try:
        return _clock.iso(_clock.of_epoch(seconds))
    except (OverflowError, ValueError, OSError):
        # A guest may write what it likes there.
        return f"{'no time':<20}"
