# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How two movers talk: typed frames over a pair of pipes, with a handshake that refuses strangers.

A frame is 20 bytes (type, number of blocks, length of the payload, first block) and its payload.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
from dataclasses import dataclass
from typing import IO, Any, NoReturn

from ._errors import ResilientVmError

__all__ = [
    "ABORT",
    "CHECK",
    "DATA",
    "DISK",
    "DISK_END",
    "DONE",
    "END",
    "FILE",
    "HELLO",
    "KNOWN",
    "KNOWN_END",
    "OFFER",
    "PLAN",
    "PROTOCOL",
    "ZEROS",
    "Frame",
    "LinkBrokenError",
    "Wire",
    "pipe_wire",
]

PROTOCOL = 1

_HEADER = struct.Struct(">BxxxIIQ")
# A data frame carries at most 1 MiB of blocks and their digests; documents are far smaller.
MAX_PAYLOAD = 16 << 20

HELLO, OFFER, DISK, PLAN, KNOWN, KNOWN_END, DATA, ZEROS, CHECK, DISK_END, FILE, END, DONE, ABORT = range(1, 15)


class LinkBrokenError(ResilientVmError):
    """The other end went away without a word; the transfer can be tried again."""


@dataclass(frozen=True)
class Frame:
    """One frame. ``block`` is the first block it speaks of, ``count`` how many blocks."""

    type: int
    block: int
    count: int
    payload: bytes

    def document(self) -> dict[str, Any]:
        value = json.loads(self.payload)
        if not isinstance(value, dict):
            raise ResilientVmError("the other end sent something that is not a document; run the site playbook")
        return value


class Wire:
    """One end of the conversation. Counts the bytes it sends and receives."""

    def __init__(self, reader: IO[bytes], writer: IO[bytes], peer: str) -> None:
        self._reader = reader
        self._writer = writer
        self.peer = peer
        self.bytes_sent = 0
        self.bytes_received = 0

    def send(self, kind: int, payload: bytes | bytearray | memoryview = b"", block: int = 0, count: int = 0) -> None:
        self.send_parts(kind, block, count, payload)

    def send_parts(self, kind: int, block: int, count: int, *parts: bytes | bytearray | memoryview) -> None:
        """Send a frame whose payload is the parts in order, without joining them first."""
        length = sum(len(part) for part in parts)
        try:
            self._writer.write(_HEADER.pack(kind, count, length, block))
            for part in parts:
                self._writer.write(part)
        except (BrokenPipeError, ConnectionError) as error:
            raise LinkBrokenError(f"the connection to {self.peer} broke") from error
        self.bytes_sent += _HEADER.size + length

    def flush(self) -> None:
        try:
            self._writer.flush()
        except (BrokenPipeError, ConnectionError) as error:
            raise LinkBrokenError(f"the connection to {self.peer} broke") from error

    def close(self) -> None:
        """Let go of both ends. What was not flushed is of no use to anybody any more."""
        for stream in (self._writer, self._reader):
            with contextlib.suppress(OSError):
                stream.close()

    def send_document(self, kind: int, document: dict[str, Any]) -> None:
        self.send(kind, json.dumps(document).encode())
        self.flush()

    def _read(self, count: int) -> bytes:
        data = self._reader.read(count)
        if len(data) != count:
            raise LinkBrokenError(f"the connection to {self.peer} broke")
        return data

    def receive(self) -> Frame:
        """The next frame. Raises LinkBrokenError at the end of the stream, and the other end's own words on ABORT."""
        kind, count, length, block = _HEADER.unpack(self._read(_HEADER.size))
        if not HELLO <= kind <= ABORT or length > MAX_PAYLOAD:
            self.stranger()
        payload = self._read(length)
        self.bytes_received += _HEADER.size + length
        frame = Frame(kind, block, count, payload)
        if kind == ABORT:
            document = frame.document()
            raise ResilientVmError(str(document.get("message")), **dict(document.get("facts") or {}))
        return frame

    def expect(self, kind: int) -> Frame:
        frame = self.receive()
        if frame.type != kind:
            self.stranger()
        return frame

    def stranger(self) -> NoReturn:
        raise ResilientVmError(
            f"{self.peer} does not speak this mover's protocol; run the site playbook so that all machines "
            "have one version"
        )

    def abort(self, error: ResilientVmError) -> None:
        """Tell the other end why this end stops; if it is gone already, there is nobody to tell."""
        try:
            self.send_document(ABORT, {"message": str(error), "facts": error.facts})
        except LinkBrokenError:
            return

    def handshake(self, role: str, vm: str, version: str) -> dict[str, Any]:
        """Say who we are and hear who the other end is. Raises ResilientVmError unless both belong together."""
        self.send_document(HELLO, {"protocol": PROTOCOL, "version": version, "role": role, "vm": vm})
        other = self.expect(HELLO).document()
        if (other.get("protocol"), other.get("version")) != (PROTOCOL, version):
            raise ResilientVmError(
                f"{self.peer} runs mover version {other.get('version')} (protocol {other.get('protocol')}) "
                "and this machine "
                f"{version} (protocol {PROTOCOL}); run the site playbook so that all machines have one version"
            )
        if other.get("vm") != vm or other.get("role") == role:
            raise ResilientVmError(
                f"{self.peer} answers as {other.get('role')} of {other.get('vm')} where {vm} was asked for; "
                "its authorized_keys are mixed up: run the site playbook"
            )
        return other


def pipe_wire(reader: int, writer: int, peer: str) -> Wire:
    """A Wire over two file descriptors, with buffers a few frames large."""
    return Wire(os.fdopen(reader, "rb", buffering=1 << 20), os.fdopen(writer, "wb", buffering=1 << 18), peer)
