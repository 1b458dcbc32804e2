# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What verify has mended of a VM lately, kept on the machine for whoever asks how it stands."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from . import _clock
from ._files import read_json, write_json
from ._layout import Layout

__all__ = ["mended", "remarks", "write_down"]

_KEPT = 20


def _path(layout: Layout) -> str:
    return os.path.join(layout.verification, "mended.json")


def mended(layout: Layout) -> list[dict[str, Any]]:
    """The last of it, oldest first: each with its store, image, disk, offset, where the right bytes were, and when."""
    return list(read_json(_path(layout)) or [])


def write_down(layout: Layout, store: str, repaired: Iterable[Mapping[str, Any]], now: datetime) -> None:
    entries = [{"store": store, "when": _clock.iso(now), **entry} for entry in repaired]
    if entries:
        os.makedirs(layout.verification, 0o750, exist_ok=True)
        write_json(_path(layout), [*mended(layout), *entries][-_KEPT:])


def remarks(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The last one in a sentence; what a person does about it is the same for one and for twenty."""
    if not entries:
        return []
    last = max(entries, key=lambda entry: str(entry["when"]))
    kind = "generation" if last["store"] == "generations" else "image"
    return [
        f"mended by verify, last at {last['when']}: {kind} {last['image']}, {last['disk']} at byte "
        f"{last['offset_bytes']}, from {last['from']}; look at that machine's disks"
    ]
