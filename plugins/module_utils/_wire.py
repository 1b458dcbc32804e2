# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How two movers talk: frames over a pair of pipes, with a handshake that refuses strangers.

One thread writes and one reads ahead, so that the work at either end and the link overlap. Data frames may also travel
over further streams, each with a thread of its own; whichever stream has room takes the next one.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from . import _frames
from ._compression import AVAILABLE, Compressor, decompress
from ._digests import BLOCK_SIZE, DIGEST_SIZE
from ._errors import ResilientVmError
from ._frames import ABORT, CREDIT, DATA, ECHO, HEADER, HELLO, KNOCK, LANE, MAX_PAYLOAD, Buffer, Frame, Outgoing
from ._limits import Credit
from ._mailbox import Mailbox

__all__ = ["PROTOCOL", "LinkBrokenError", "Wire"]

PROTOCOL = 4

# What may wait to be written, and what may have been read ahead: a few frames of 1 MiB each.
_AHEAD_BYTES = 4 << 20
_LAST_WORDS_SECONDS = 2.0
# As long as ssh takes to notice that the other machine is gone.
_ALONE_SECONDS = 30.0
# The shortest of some round trips is the link's; the others had to wait for a processor.
_ECHOES = 3


class LinkBrokenError(ResilientVmError):
    """The other end went away without a word; the transfer can be tried again."""


class Wire:
    """One end of the conversation, over two file descriptors that it closes. Counts the bytes it sends and receives,
    and in ``streams`` over how many streams data frames travelled.

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
        self.data_frames_sent = 0
        self.streams = 1
        self._counting = threading.Lock()
        self._echoes: Mailbox[bool] = Mailbox(_AHEAD_BYTES)
        self._outbox: Mailbox[Outgoing] = Mailbox(_AHEAD_BYTES)
        self._inbox: Mailbox[Frame | ResilientVmError] = Mailbox(_AHEAD_BYTES)
        _frames.widen(reader, writer)
        for work in (self._write_all, self._read_all):
            threading.Thread(target=work, daemon=True).start()

    # sending

    def send(self, kind: int, payload: Buffer = b"", block: int = 0, count: int = 0) -> None:
        """Put a frame on its way. Nothing may change the payload afterwards."""
        self._post(Outgoing(kind, block, count, (payload,)))

    def send_data(self, block: int, count: int, digests: Buffer, data: Buffer) -> None:
        """Put blocks and their digests on their way."""
        self.data_frames_sent += 1
        self._post(Outgoing(DATA, block, count, (digests, data)))

    def _post(self, frame: Outgoing) -> None:
        if not self._outbox.put(frame, sum(len(part) for part in frame.parts)):
            self._broken()

    def grant(self, amount: int) -> bool:
        """Allow the sender so many more bytes of data frames. False: the connection ended."""
        return self._outbox.put(Outgoing(CREDIT, amount, 0, ()), 0)

    def flush(self) -> None:
        """Wait until everything is written."""
        if not self._outbox.settled():
            self._broken()

    def send_document(self, kind: int, document: dict[str, Any]) -> None:
        self.send(kind, json.dumps(document).encode())
        self.flush()

    def _write_all(self) -> None:
        try:
            self._write_each(self._writer)
        finally:
            os.close(self._writer)

    def _write_each(self, writer: int, lane: bool = False) -> None:
        """Write what is to be sent; over a further stream only data frames, packed by a compressor of its own."""
        compressor, carried = None, not lane
        try:
            while True:
                frame = self._outbox.get(_is_data if lane else None)
                if frame is None:
                    return
                if not carried:
                    self._carries()
                    compressor = Compressor(self.compressor.mode) if self.compressor is not None else None
                    carried = True
                self._write_frame(frame, writer, compressor if lane else self.compressor)
        except OSError:
            # The other end is gone. Whoever sends next hears of it.
            return
        except ResilientVmError as error:
            # Closed first: whoever sends next then listens for the reason.
            self._outbox.close()
            self.fail(error)
        finally:
            self._outbox.close()

    def _write_frame(self, frame: Outgoing, writer: int, compressor: Compressor | None) -> None:
        parts, packed = list(frame.parts), None
        if frame.type == DATA and compressor is not None:
            packed = compressor.pack(memoryview(parts[1]))
            if packed is not None:
                parts[1] = packed
        length = sum(len(part) for part in parts)
        header = HEADER.pack(frame.type, packed is not None, frame.count, length, frame.block)
        started = time.monotonic()
        if frame.type == DATA and self.gate is not None:
            for piece in _frames.pieces([header, *parts]):
                self.gate(len(piece))
                _frames.write([piece], writer)
        else:
            _frames.write([header, *parts], writer)
        with self._counting:
            self.bytes_sent += len(header) + length
        if frame.type == DATA and compressor is not None:
            compressor.sent(length, time.monotonic() - started, raw=packed is None)

    def fail(self, error: ResilientVmError) -> None:
        """Have whoever receives next stop with this error."""
        self._inbox.put(error, 0)

    def _carries(self) -> None:
        with self._counting:
            self.streams += 1

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
            self._read_each(self._reader)
        finally:
            if self.credit is not None:
                self.credit.close()
            self._echoes.close()
            os.close(self._reader)

    def _read_each(self, reader: int, lane: bool = False) -> None:
        """Read ahead to the end of a stream, over a further one only data frames."""
        carried = not lane
        try:
            while True:
                frame = self._read_frame(reader)
                if lane and frame.type != DATA:
                    self.stranger()
                if not carried:
                    self._carries()
                    carried = True
                if frame.type == CREDIT and self.credit is not None:
                    self.credit.grant(frame.block)
                elif frame.type == ECHO and frame.count:
                    self._outbox.put(Outgoing(ECHO, 0, 0, ()), 0)
                elif frame.type == ECHO:
                    self._echoes.put(True, 0)
                elif not self._inbox.put(frame, len(frame.payload) + len(frame.data)):
                    return
        except LinkBrokenError as error:
            self._ended(error, lane)
        except ResilientVmError as error:
            self.fail(error)
        except OSError as error:
            self._ended(LinkBrokenError(f"the connection to {self.peer} broke ({error.strerror})"), lane)

    def _ended(self, error: LinkBrokenError, lane: bool) -> None:
        if not lane:
            self.fail(error)
            return
        # An end that stops closes all its streams, and says why on the first one: not to be cut short. Nor does it
        # matter that one ends when all it carried has come.
        timer = threading.Timer(_ALONE_SECONDS, self.fail, (error,))
        timer.daemon = True
        timer.start()

    def _read_frame(self, reader: int) -> Frame:
        kind, packed, count, length, block = HEADER.unpack(self._read(reader, HEADER.size))
        if not HELLO <= kind <= LANE or length > MAX_PAYLOAD:
            self.stranger()
        if kind == DATA:
            self._count_data(HEADER.size)
        payload: Buffer = self._read(reader, length, data=kind == DATA)
        data: Buffer = b""
        if kind == DATA:
            view = memoryview(payload)
            payload, data = view[: count * DIGEST_SIZE], view[count * DIGEST_SIZE :]
            if packed:
                data = decompress(data, count * BLOCK_SIZE)
        return Frame(kind, block, count, payload, data, HEADER.size + length)

    def _read(self, reader: int, count: int, data: bool = False) -> bytearray:
        content = bytearray(count)
        view = memoryview(content)
        while view:
            arrived = os.readv(reader, [view])
            if arrived == 0:
                raise LinkBrokenError(f"the connection to {self.peer} broke")
            view = view[arrived:]
            if data:
                self._count_data(arrived)
        return content

    def _count_data(self, count: int) -> None:
        with self._counting:
            self.data_bytes_read += count

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

    # further streams

    def lane(self, reader: int, writer: int, sends: bool) -> None:
        """Carry data frames over one more stream, in the calling thread, until that or the wire ends; closes both
        descriptors. Raises ResilientVmError when it ended before it could be used.

        The sender knocks, and sends nothing before the receiver has answered; from its answer on the receiver takes
        the stream's end for the wire's, a while later. So whatever was sent is either received or breaks the transfer.
        """
        _frames.widen(reader, writer)
        try:
            try:
                if sends:
                    _frames.write([KNOCK], writer)
                if self._read_frame(reader).type != LANE:
                    self.stranger()
                if not sends:
                    _frames.write([KNOCK], writer)
            except OSError as error:
                raise LinkBrokenError(f"a further stream to {self.peer} broke ({error.strerror})") from error
            if sends:
                self._write_each(writer, lane=True)
            else:
                self._read_each(reader, lane=True)
        finally:
            os.close(reader)
            os.close(writer)

    def round_trip(self) -> float:
        """Seconds the other end is away. To be asked before data flows: an echo waits behind what is on its way."""
        shortest = math.inf
        for _echo in range(_ECHOES):
            started = time.monotonic()
            self.send(ECHO, count=1)
            if self._echoes.get() is None:
                # The connection ended; whoever receives next hears of it.
                break
            shortest = min(shortest, time.monotonic() - started)
        return shortest

    # beginning and end

    def abort(self, error: ResilientVmError) -> None:
        """Tell the other end why this end stops; if it is gone already, there is nobody to tell."""
        try:
            self.send_document(ABORT, {"message": str(error), "facts": error.facts})
        except ResilientVmError:
            return

    def handshake(
        self, role: str, vm: str, version: str, wishes: dict[str, Any] | None = None, door: str | None = None
    ) -> dict[str, Any]:
        """Say who we are and hear who the other end is. Raises ResilientVmError unless both belong together.

        ``wishes``: what the backup storage's end asks for (``compression``, a mode, and ``limited``, whether the sender
        waits for credit); the other end passes None and follows, and tells its ``door`` for further streams.
        """
        hello = {"protocol": PROTOCOL, "version": version, "role": role, "vm": vm, "zstd": AVAILABLE}
        self.send_document(HELLO, {**hello, "wishes": wishes, "door": door})
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


def _is_data(frame: Outgoing) -> bool:
    return frame.type == DATA
