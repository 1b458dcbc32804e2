# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where on its device a file's blocks lie (FIEMAP), so that what files share is read once."""

from __future__ import annotations

import fcntl
import struct

__all__ = ["places"]

# linux/fiemap.h: _IOWR('f', 11, struct fiemap)
_FIEMAP = 0xC020660B
_SYNC = 0x1
_HEAD = struct.Struct("=QQIIII")
_EXTENT = struct.Struct("=QQQ16xI12x")
_EXTENTS = 128
# Last, merged and shared extents; any other kind (compressed, inline, not written yet…) has no place of its own.
_PLAIN = 0x1 | 0x1000 | 0x2000


def places(descriptor: int, offset: int, length: int, block_size: int) -> dict[int, int]:
    """{block: physical offset} of the blocks in a range of a file that lie in one plain extent each.

    A block that is not among them has no place that could be compared: read it.
    """
    request = bytearray(_HEAD.pack(offset, length, _SYNC, 0, _EXTENTS, 0)) + bytearray(_EXTENT.size * _EXTENTS)
    try:
        fcntl.ioctl(descriptor, _FIEMAP, request)
    except OSError:
        return {}  # a filesystem that can't tell; every file is read for itself
    found: dict[int, int] = {}
    for index in range(_HEAD.unpack_from(request)[3]):
        logical, physical, size, flags = _EXTENT.unpack_from(request, _HEAD.size + index * _EXTENT.size)
        if flags & ~_PLAIN:
            continue
        first = -(-max(logical, offset) // block_size)
        last = min(logical + size, offset + length) // block_size
        for block in range(first, last):
            found[block] = physical + block * block_size - logical
    return found
