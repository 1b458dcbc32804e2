# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What travels between two movers: typed frames, and how they are written into a pipe.

A frame is 20 bytes (type, packed or not, number of blocks, length of the payload, first block) and its payload. A data
frame's payload is its blocks' digests and then their bytes, those as one zstd frame when the header says packed.
That of a frame which tells of known blocks is the first half of each one's digest, or nothing where all are zero.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Union

from ._errors import ResilientVmError
from ._limits import PIECE_BYTES

__all__ = [
    "ABORT",
    "CHECK",
    "CREDIT",
    "DATA",
    "DISK",
    "DISK_END",
    "DONE",
    "ECHO",
    "END",
    "FILE",
    "HEADER",
    "HELLO",
    "KEEP",
    "KNOCK",
    "KNOWN",
    "KNOWN_END",
    "LANE",
    "MARK",
    "MAX_PAYLOAD",
    "OFFER",
    "PLAN",
    "ZEROS",
    "Buffer",
    "Frame",
    "Outgoing",
    "pieces",
    "widen",
    "write",
]

HEADER = struct.Struct(">BBxxIIQ")
# A data frame carries at most 1 MiB of blocks and their digests; documents are far smaller.
MAX_PAYLOAD = 16 << 20
# A pipe's usual 64 KiB make two programs take turns; 1 MiB is what every user may ask for.
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031

HELLO, OFFER, DISK, PLAN, KNOWN, KNOWN_END, DATA, ZEROS = range(1, 9)
CHECK, DISK_END, FILE, END, DONE, ABORT, CREDIT, KEEP, MARK, ECHO, LANE = range(9, 20)
# The first frame of a further stream, from either end.
KNOCK = HEADER.pack(LANE, False, 0, 0, 0)

Buffer = Union[bytes, bytearray, memoryview]


@dataclass(frozen=True)
class Frame:
    """One frame. ``block`` is the first block it speaks of, ``count`` how many blocks. ``payload`` are a data frame's
    digests, else all there is; ``data`` are a data frame's blocks, unpacked. ``wire_bytes``: its length on the wire."""

    type: int
    block: int
    count: int
    payload: Buffer
    data: Buffer = b""
    wire_bytes: int = 0

    def document(self) -> dict[str, Any]:
        value = json.loads(bytes(self.payload))
        if not isinstance(value, dict):
            raise ResilientVmError("the other end sent something that is not a document; run the site playbook")
        return value


@dataclass(frozen=True)
class Outgoing:
    """A frame that is to be sent; its parts are written one after the other."""

    type: int
    block: int
    count: int
    parts: Sequence[Buffer]


def widen(*descriptors: int) -> None:
    for descriptor in descriptors:
        # Not a pipe, or the user's pipes are many: then it goes on with what it has.
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_BYTES)


def write(parts: list[Buffer], descriptor: int) -> None:
    """Write parts one after the other, without joining them first."""
    views = [memoryview(part) for part in parts if len(part)]
    while views:
        written = os.writev(descriptor, views)
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]


def pieces(parts: list[Buffer]) -> Iterator[memoryview]:
    for part in parts:
        view = memoryview(part)
        for at in range(0, len(view), PIECE_BYTES):
            yield view[at : at + PIECE_BYTES]
