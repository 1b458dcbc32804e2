# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A read-only NBD server for one client over two descriptors: as much of the protocol as QEMU's client speaks.

What is zero travels as a few bytes where the client takes structured replies, which QEMU's does.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Iterator
from typing import Protocol

__all__ = ["Hole", "Source", "serve"]

_GREETING = b"NBDMAGIC" + b"IHAVEOPT"
_OPTION = struct.Struct(">8sII")
_OPTION_REPLY = struct.Struct(">QIII")
_REQUEST = struct.Struct(">IHHQQI")
_SIMPLE = struct.Struct(">IIQ")
_CHUNK = struct.Struct(">IHHQI")

_OPTION_MAGIC = b"IHAVEOPT"
_OPTION_REPLY_MAGIC = 0x0003E889045565A9
_REQUEST_MAGIC = 0x25609513
_SIMPLE_MAGIC = 0x67446698
_CHUNK_MAGIC = 0x668E33EF

# options, and the answers to them
_EXPORT_NAME, _ABORT, _INFO, _GO, _STRUCTURED = 1, 2, 6, 7, 8
_ACK, _IS_INFO, _UNSUPPORTED, _INVALID = 1, 3, (1 << 31) + 1, (1 << 31) + 3
# commands
_READ, _WRITE, _DISCONNECT = 0, 1, 2
# chunks of a structured reply
_DONE, _DATA, _HOLE, _ERROR = 1, 1, 2, (1 << 15) + 1

_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_FLAGS = 1 | 2  # it has flags, it is read-only
_MAX_OPTION = 8 << 10
_MAX_READ = 32 << 20


class Hole(int):
    """So many bytes that are zero."""


class Source(Protocol):
    """What is served. ``pieces`` are the bytes asked for, in order; OSError where they can't be had."""

    size_bytes: int

    def pieces(self, offset: int, length: int) -> Iterable[Hole | memoryview]: ...


class _Gone(Exception):
    """The client has hung up."""


def serve(reader: int, writer: int, source: Source) -> int:
    """Serve one client until it goes; how many bytes of data it was sent."""
    session = _Session(reader, writer, source)
    try:
        if session.negotiate():
            session.answer_all()
    except (_Gone, BrokenPipeError, ConnectionResetError):
        pass
    return session.sent


class _Session:
    def __init__(self, reader: int, writer: int, source: Source) -> None:
        self._reader = reader
        self._writer = writer
        self._source = source
        self._structured = False
        self._no_zeroes = False
        self.sent = 0

    def negotiate(self) -> bool:
        """Whether the client wants to read; it may have come to ask only."""
        self._send(_GREETING, struct.pack(">H", _FIXED_NEWSTYLE | _NO_ZEROES))
        (flags,) = struct.unpack(">I", self._take(4))
        self._no_zeroes = bool(flags & _NO_ZEROES)
        while True:
            magic, option, length = _OPTION.unpack(self._take(_OPTION.size))
            if magic != _OPTION_MAGIC or length > _MAX_OPTION:
                return False
            data = self._take(length)
            if option == _EXPORT_NAME:
                self._send(self._export(), b"" if self._no_zeroes else bytes(124))
                return True
            if option in (_INFO, _GO):
                self._reply(option, _IS_INFO, struct.pack(">H", 0) + self._export())
                self._reply(option, _ACK)
                if option == _GO:
                    return True
            elif option == _STRUCTURED:
                self._structured = not data
                self._reply(option, _INVALID if data else _ACK)
            elif option == _ABORT:
                self._reply(option, _ACK)
                return False
            else:
                self._reply(option, _UNSUPPORTED)

    def _export(self) -> bytes:
        return struct.pack(">QH", self._source.size_bytes, _FLAGS)

    def _reply(self, option: int, kind: int, data: bytes = b"") -> None:
        self._send(_OPTION_REPLY.pack(_OPTION_REPLY_MAGIC, option, kind, len(data)), data)

    def answer_all(self) -> None:
        while True:
            magic, _flags, command, cookie, offset, length = _REQUEST.unpack(self._take(_REQUEST.size))
            if magic != _REQUEST_MAGIC or command == _DISCONNECT:
                return
            if command == _WRITE:
                # Its data has to be out of the way before anything can be said.
                for at in range(0, length, _MAX_OPTION):
                    self._take(min(_MAX_OPTION, length - at))
            if command != _READ:
                self._refuse(cookie, errno.EPERM if command == _WRITE else errno.EINVAL)
            elif length > _MAX_READ or offset + length > self._source.size_bytes or not length:
                self._refuse(cookie, errno.EINVAL)
            else:
                self._read(cookie, offset, length)

    def _read(self, cookie: int, offset: int, length: int) -> None:
        try:
            pieces = list(self._source.pieces(offset, length))
        except OSError:
            self._refuse(cookie, errno.EIO)
            return
        if not self._structured:
            self._send(_SIMPLE.pack(_SIMPLE_MAGIC, 0, cookie), *map(_filled, pieces))
            return
        for last, piece in _marked(pieces):
            flags = _DONE if last else 0
            if isinstance(piece, Hole):
                self._send(_CHUNK.pack(_CHUNK_MAGIC, flags, _HOLE, cookie, 12), struct.pack(">QI", offset, piece))
                offset += piece
            else:
                head = _CHUNK.pack(_CHUNK_MAGIC, flags, _DATA, cookie, 8 + len(piece))
                self._send(head, struct.pack(">Q", offset), piece)
                offset += len(piece)

    def _refuse(self, cookie: int, error: int) -> None:
        if self._structured:
            self._send(_CHUNK.pack(_CHUNK_MAGIC, _DONE, _ERROR, cookie, 6), struct.pack(">IH", error, 0))
        else:
            self._send(_SIMPLE.pack(_SIMPLE_MAGIC, error, cookie))

    def _take(self, count: int) -> bytes:
        taken = bytearray()
        while len(taken) < count:
            data = os.read(self._reader, count - len(taken))
            if not data:
                raise _Gone
            taken += data
        return bytes(taken)

    def _send(self, *parts: bytes | memoryview) -> None:
        views = [memoryview(part) for part in parts if len(part)]
        while views:
            written = os.writev(self._writer, views)
            self.sent += written
            while views and written >= len(views[0]):
                written -= len(views[0])
                del views[0]
            if written:
                views[0] = views[0][written:]


def _filled(piece: Hole | memoryview) -> bytes | memoryview:
    return bytes(piece) if isinstance(piece, Hole) else piece


def _marked(pieces: list[Hole | memoryview]) -> Iterator[tuple[bool, Hole | memoryview]]:
    """Each piece with whether it is the last one."""
    for number, piece in enumerate(pieces, 1):
        yield number == len(pieces), piece
