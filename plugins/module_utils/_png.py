# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture of a console as PNG: libvirt gives what QEMU makes, which older ones know as PPM only. Pure."""

from __future__ import annotations

import re
import struct
import zlib

from ._errors import ResilientVmError

__all__ = ["as_png"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PPM = re.compile(rb"P6\s+(?:#[^\n]*\n\s*)*(\d+)\s+(\d+)\s+255\s")


def as_png(picture: bytes) -> bytes:
    """The same picture as PNG. Raises ResilientVmError for what is neither that nor a whole PPM."""
    if picture.startswith(_SIGNATURE):
        return picture
    head = _PPM.match(picture)
    if head is None:
        raise ResilientVmError("the picture of the console is neither PNG nor PPM; look at it with virsh screenshot")
    width, height = int(head[1]), int(head[2])
    line, pixels = 3 * width, picture[head.end() :]
    if not line or len(pixels) != line * height:
        raise ResilientVmError("the picture of the console is not whole; look at it with virsh screenshot")
    # Each line begins with its filter: none.
    lines = b"".join(b"\0" + pixels[at : at + line] for at in range(0, len(pixels), line))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(lines)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
