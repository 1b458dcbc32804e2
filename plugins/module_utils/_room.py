# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what is to be laid has room where it is to lie."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Full", "full"]


class Full(NamedTuple):
    """A folder whose filesystem has too little room: bytes that are free, and that are needed there."""

    folder: str
    free: int
    needed: int


def full(needs: Iterable[tuple[str, int]], reserve_bytes: int) -> Full | None:
    """The first folder that lacks room for what is needed on its filesystem and a reserve, or None.

    ``needs``: (folder, bytes); folders of one filesystem share its room.
    """
    by_device: dict[int, tuple[str, int]] = {}
    for folder, count in needs:
        device = os.stat(folder).st_dev
        by_device[device] = (folder, by_device.get(device, ("", 0))[1] + count)
    for folder, needed in by_device.values():
        room = os.statvfs(folder)
        free = room.f_bavail * room.f_frsize
        if free < needed + reserve_bytes:
            return Full(folder, free, needed)
    return None
