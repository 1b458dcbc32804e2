# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How two movers talk: typed frames over a pair of pipes, with a handshake that refuses strangers.

A frame is 20 bytes (type, packed or not, number of blocks, length of the payload, first block) and its payload. A data
frame's payload is its blocks' digests and then their bytes, those as one zstd frame when the header says packed.
One thread writes and one reads ahead, so that the work at either end and the link overlap.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Union

from ._compression import AVAILABLE, Compressor, decompress
from ._digests import BLOCK_SIZE, DIGEST_SIZE
from ._errors import ResilientVmError
from ._limits import PIECE_BYTES, Credit
from ._mailbox import Mailbox

__all__ = [
    "ABORT",
    "CHECK",
    "CREDIT",
    "DATA",
    "DISK",
    "DISK_END",
    "DONE",
    "END",
    "FILE",
    "HELLO",
    "KEEP",
    "KNOWN",
    "KNOWN_END",
    "MARK",
    "OFFER",
    "PLAN",
    "PROTOCOL",
    "ZEROS",
    "Frame",
    "LinkBrokenError",
    "Wire",
]

PROTOCOL = 2

_HEADER = struct.Struct(">BBxxIIQ")
# A data frame carries at most 1 MiB of blocks and their digests; documents are far smaller.
MAX_PAYLOAD = 16 << 20
# What may wait to be written, and what may have been read ahead: a few frames of 1 MiB each.
_AHEAD_BYTES = 4 << 20
# A pipe's usual 64 KiB make two programs take turns; 1 MiB is what every user may ask for.
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031
_LAST_WORDS_SECONDS = 2.0

HELLO, OFFER, DISK, PLAN, KNOWN, KNOWN_END, DATA, ZEROS = range(1, 9)
CHECK, DISK_END, FILE, END, DONE, ABORT, CREDIT, KEEP, MARK = range(9, 18)

Buffer = Union[bytes, bytearray, memoryview]


class LinkBrokenError(ResilientVmError):
    """The other end went away without a word; the transfer can be tried again."""


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
class _Outgoing:
    type: int
    block: int
    count: int
    parts: Sequence[Buffer]


class Wire:
    """One end of the conversation, over two file descriptors that it closes. Counts the bytes it sends and receives.

    ``compressor``: packs the blocks of data frames that are sent; set it once the handshake says the other end can
    unpack them. ``gate``: called with a number of bytes before so many of a data frame are written; it waits.
    """

    def __init__(self, reader: int, writer: int, peer: str) -> None:
        self._reader = reader
        self._writer = writer
        self.peer = peer
        self.compressor: Compressor | None = None
        self.gate: Callable[[int], None] | None = None
        self.credit: Credit | None = None
        self.bytes_sent = 0
        self.bytes_received = 0
        self.data_bytes_read = 0
        self._outbox: Mailbox[_Outgoing] = Mailbox(_AHEAD_BYTES)
        self._inbox: Mailbox[Frame | ResilientVmError] = Mailbox(_AHEAD_BYTES)
        for descriptor in (reader, writer):
            # Not a pipe, or the user's pipes are many: then it goes on with what it has.
            with contextlib.suppress(OSError):
                fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_BYTES)
        for work in (self._write_all, self._read_all):
            threading.Thread(target=work, daemon=True).start()

    # sending

    def send(self, kind: int, payload: Buffer = b"", block: int = 0, count: int = 0) -> None:
        """Put a frame on its way. Nothing may change the payload afterwards."""
        self._post(_Outgoing(kind, block, count, (payload,)))

    def send_data(self, block: int, count: int, digests: Buffer, data: Buffer) -> None:
        """Put blocks and their digests on their way."""
        self._post(_Outgoing(DATA, block, count, (digests, data)))

    def _post(self, frame: _Outgoing) -> None:
        if not self._outbox.put(frame, sum(len(part) for part in frame.parts)):
            self._broken()

    def grant(self, amount: int) -> bool:
        """Allow the sender so many more bytes of data frames. False: the connection ended."""
        return self._outbox.put(_Outgoing(CREDIT, amount, 0, ()), 0)

    def flush(self) -> None:
        """Wait until everything is written."""
        if not self._outbox.settled():
            self._broken()

    def send_document(self, kind: int, document: dict[str, Any]) -> None:
        self.send(kind, json.dumps(document).encode())
        self.flush()

    def _write_all(self) -> None:
        try:
            while True:
                frame = self._outbox.get()
                if frame is None:
                    return
                self._write_frame(frame)
        except OSError:
            # The other end is gone. Whoever sends next hears of it.
            return
        finally:
            self._outbox.close()
            os.close(self._writer)

    def _write_frame(self, frame: _Outgoing) -> None:
        parts, packed = list(frame.parts), None
        if frame.type == DATA and self.compressor is not None:
            packed = self.compressor.pack(memoryview(parts[1]))
            if packed is not None:
                parts[1] = packed
        length = sum(len(part) for part in parts)
        header = _HEADER.pack(frame.type, packed is not None, frame.count, length, frame.block)
        started = time.monotonic()
        if frame.type == DATA and self.gate is not None:
            for piece in _pieces([header, *parts]):
                self.gate(len(piece))
                _write([piece], self._writer)
        else:
            _write([header, *parts], self._writer)
        self.bytes_sent += len(header) + length
        if frame.type == DATA and self.compressor is not None:
            self.compressor.sent(length, time.monotonic() - started, raw=packed is None)

    def _broken(self) -> NoReturn:
        """Raise what the other end said before it went away, if it said anything."""
        timer = threading.Timer(_LAST_WORDS_SECONDS, self._inbox.close)
        timer.daemon = True
        timer.start()
        while True:
            self.receive()

    # receiving

    def _read_all(self) -> None:
        try:
            while True:
                frame = self._read_frame()
                if frame.type == CREDIT and self.credit is not None:
                    self.credit.grant(frame.block)
                    continue
                if not self._inbox.put(frame, len(frame.payload) + len(frame.data)):
                    return
        except ResilientVmError as error:
            self._inbox.put(error, 0)
        except OSError as error:
            self._inbox.put(LinkBrokenError(f"the connection to {self.peer} broke ({error.strerror})"), 0)
        finally:
            if self.credit is not None:
                self.credit.close()
            os.close(self._reader)

    def _read_frame(self) -> Frame:
        kind, packed, count, length, block = _HEADER.unpack(self._read(_HEADER.size))
        if not HELLO <= kind <= MARK or length > MAX_PAYLOAD:
            self.stranger()
        if kind == DATA:
            self.data_bytes_read += _HEADER.size
        payload: Buffer = self._read(length, data=kind == DATA)
        data: Buffer = b""
        if kind == DATA:
            view = memoryview(payload)
            payload, data = view[: count * DIGEST_SIZE], view[count * DIGEST_SIZE :]
            if packed:
                data = decompress(data, count * BLOCK_SIZE)
        return Frame(kind, block, count, payload, data, _HEADER.size + length)

    def _read(self, count: int, data: bool = False) -> bytearray:
        content = bytearray(count)
        view = memoryview(content)
        while view:
            arrived = os.readv(self._reader, [view])
            if arrived == 0:
                raise LinkBrokenError(f"the connection to {self.peer} broke")
            view = view[arrived:]
            if data:
                self.data_bytes_read += arrived
        return content

    def receive(self) -> Frame:
        """The next frame. Raises LinkBrokenError at the end of the stream, and the other end's own words on ABORT."""
        frame = self._inbox.get()
        if frame is None:
            raise LinkBrokenError(f"the connection to {self.peer} broke")
        if isinstance(frame, ResilientVmError):
            self._inbox.close()
            raise frame
        self.bytes_received += frame.wire_bytes
        if frame.type == ABORT:
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

    # beginning and end

    def abort(self, error: ResilientVmError) -> None:
        """Tell the other end why this end stops; if it is gone already, there is nobody to tell."""
        try:
            self.send_document(ABORT, {"message": str(error), "facts": error.facts})
        except ResilientVmError:
            return

    def handshake(self, role: str, vm: str, version: str, wishes: dict[str, Any] | None = None) -> dict[str, Any]:
        """Say who we are and hear who the other end is. Raises ResilientVmError unless both belong together.

        ``wishes``: what the backup storage's end asks for (``compression``, a mode, and ``limited``, whether the sender
        waits for credit); the other end passes None and follows.
        """
        hello = {"protocol": PROTOCOL, "version": version, "role": role, "vm": vm, "zstd": AVAILABLE}
        self.send_document(HELLO, {**hello, "wishes": wishes})
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
        wish = wishes if wishes is not None else other.get("wishes") or {}
        if role == "sender" and wish.get("compression") and AVAILABLE and other.get("zstd"):
            self.compressor = Compressor(wish["compression"])
        return other

    def close(self) -> None:
        """Let go of both ends. What was not flushed is of no use to anybody any more."""
        self._outbox.close()
        self._inbox.close()


def _write(parts: list[Buffer], descriptor: int) -> None:
    """Write parts one after the other, without joining them first."""
    views = [memoryview(part) for part in parts if len(part)]
    while views:
        written = os.writev(descriptor, views)
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]


def _pieces(parts: list[Buffer]) -> Iterator[memoryview]:
    for part in parts:
        view = memoryview(part)
        for at in range(0, len(view), PIECE_BYTES):
            yield view[at : at + PIECE_BYTES]
