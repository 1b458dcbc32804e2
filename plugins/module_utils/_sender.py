# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sending end of a transfer: look at blocks, leave out what the receiver has, send the rest with digests."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any, Callable, Protocol

from . import _wire
from ._digests import BLOCK_SIZE, DIGEST_SIZE, ZERO, RootDigest, block_count, block_digest
from ._errors import ResilientVmError
from ._regions import Known, Region, Work, join
from ._wire import Frame, Wire

__all__ = ["DiskSource", "Plan", "Sender", "Source"]

# 1 MiB a read and a frame: large enough that a request's own cost is lost in it, small enough to buffer several.
_CHUNK = 16
_QUEUE = 64


class DiskSource(Protocol):
    """What a sender reads a disk from: SnapshotDisk or ImageDisk."""

    target: str
    size_bytes: int

    def regions(self, how: str) -> Iterator[Region]: ...

    def read(self, first: int, count: int) -> bytes: ...

    def digests(self, first: int, count: int) -> bytes | None: ...

    def close(self) -> None: ...


class Plan:
    """How a disk is sent: ``how`` bitmap, digests or allocation; ``known`` which digests the receiver must send
    first: ``all``, or ``resumed`` (blocks that arrived in an interrupted transfer); ``root_digest`` where the
    source knows it beforehand."""

    def __init__(self, how: str, known: str, reason: str = "", root_digest: str | None = None) -> None:
        self.how = how
        self.known = known
        self.reason = reason
        self.root_digest = root_digest


class Source(Protocol):
    """An image to be sent: its offer, its disks and its definition."""

    def offer(self) -> dict[str, Any]: ...

    def plan(self, request: dict[str, Any]) -> tuple[Plan, DiskSource]: ...

    def definition(self) -> Iterator[tuple[str, bytes]]: ...

    def still_valid(self) -> None: ...


class Sender:
    """Serves one receiver until it is done. ``alive`` is called often, whenever something moved."""

    def __init__(self, wire: Wire, source: Source, alive: Callable[[], None]) -> None:
        self._wire = wire
        self._source = source
        self._alive = alive
        self.bytes_read = 0

    def run(self) -> dict[str, Any]:
        """Returns the receiver's result. The handshake is done already."""
        self._wire.send_document(_wire.OFFER, self._source.offer())
        while True:
            frame = self._wire.receive()
            self._alive()
            if frame.type == _wire.DISK:
                self._send_disk(frame.document())
            elif frame.type == _wire.END:
                return self._finish()
            else:
                self._wire.stranger()

    def _finish(self) -> dict[str, Any]:
        for name, content in self._source.definition():
            self._wire.send_document(_wire.FILE, {"name": name, "size_bytes": len(content)})
            self._wire.send(_wire.FILE, content)
        # Only now: everything the receiver will publish has been read.
        self._source.still_valid()
        self._wire.send_document(_wire.END, {})
        return self._wire.expect(_wire.DONE).document()

    def _send_disk(self, request: dict[str, Any]) -> None:
        plan, disk = self._source.plan(request)
        try:
            self._wire.send_document(_wire.PLAN, {"how": plan.how, "known": plan.known, "reason": plan.reason})
            pass_ = _DiskPass(self._wire, disk, self._alive)
            pass_.send(plan.how)
            if request.get("reread") and plan.how == "bitmap":
                pass_.reread(*request["reread"])
            self.bytes_read += pass_.bytes_read
            self._wire.send_document(
                _wire.DISK_END,
                {
                    "root_digest": plan.root_digest or pass_.root_digest(plan.how),
                    "bytes_read": pass_.bytes_read,
                    "changed_bytes": pass_.changed_bytes,
                    "reread_bytes": pass_.reread_bytes,
                },
            )
        finally:
            disk.close()


class _DiskPass:
    """One walk over one disk."""

    def __init__(self, wire: Wire, disk: DiskSource, alive: Callable[[], None]) -> None:
        self._wire = wire
        self._disk = disk
        self._alive = alive
        self._root = RootDigest(disk.size_bytes)
        self.bytes_read = 0
        self.changed_bytes = 0
        self.reread_bytes = 0

    def root_digest(self, how: str) -> str | None:
        """The whole disk's root digest, where every block that is not zero was looked at."""
        return None if how == "bitmap" else self._root.hexdigest()

    def send(self, how: str) -> None:
        known_digests = _KnownDigests(self._wire)
        for work in join(self._disk.regions(how), known_digests):
            self._alive()
            if work.zero:
                self._send_zeros(work)
                continue
            for first in range(work.first, work.first + work.blocks, _CHUNK):
                count = min(_CHUNK, work.first + work.blocks - first)
                known = work.known
                if known:
                    begin = (first - work.first) * DIGEST_SIZE
                    known = known[begin : begin + count * DIGEST_SIZE]
                self._send_chunk(first, count, known)
                self._alive()
        known_digests.finish()

    def _send_zeros(self, work: Work) -> None:
        if work.known is None:
            self._zeros(work.first, work.blocks)
        elif work.known:
            for start, count, differs in _runs([d != ZERO for d in _split(work.known)]):
                if differs:
                    self._zeros(work.first + start, count)
        # An empty ``known``: the receiver has zeros there already.

    def _zeros(self, first: int, count: int) -> None:
        self._wire.send(_wire.ZEROS, block=first, count=count)
        self.changed_bytes += count * BLOCK_SIZE

    def _send_chunk(self, first: int, count: int, known: bytes | None) -> None:
        data: bytes | None = None
        digests = self._disk.digests(first, count)
        if digests is None:
            data, digests = self._read(first, count)
        mine = _split(digests)
        self._root.add(first, digests)
        if known is None:
            theirs: list[bytes | None] = [None] * count
        else:
            theirs = list(_split(known)) if known else [ZERO] * count
        # What to do with each block: 0 nothing, 1 send it, 2 say that it is zero.
        todo = [0 if a == b else (2 if a == ZERO else 1) for a, b in zip(mine, theirs)]
        for start, length, action in _runs(todo):
            if action == 2:
                self._zeros(first + start, length)
            elif action == 1:
                block = self._disk.read(first + start, length) if data is None else self._cut(data, start, length)
                if data is None:
                    self.bytes_read += len(block)
                part = digests[start * DIGEST_SIZE : (start + length) * DIGEST_SIZE]
                self._wire.send_parts(_wire.DATA, first + start, length, part, block)
                self.changed_bytes += len(block)

    def _read(self, first: int, count: int) -> tuple[bytes, bytes]:
        data = self._disk.read(first, count)
        self.bytes_read += len(data)
        view = memoryview(data)
        digests = b"".join(block_digest(view[at : at + BLOCK_SIZE]) for at in range(0, len(data), BLOCK_SIZE))
        return data, digests

    @staticmethod
    def _cut(data: bytes, start: int, length: int) -> bytes | memoryview:
        return memoryview(data)[start * BLOCK_SIZE : (start + length) * BLOCK_SIZE]

    def reread(self, first: int, count: int) -> None:
        """Send the digests of the blocks in a slice that the bitmap calls unchanged, freshly read."""
        last = min(first + count, block_count(self._disk.size_bytes))
        for region in self._disk.regions("bitmap"):
            start, end = max(first, region.first), min(last, region.first + region.blocks)
            if region.first >= last:
                break
            if region.changed or start >= end:
                continue
            for at in range(start, end, _CHUNK):
                blocks = min(_CHUNK, end - at)
                digests = ZERO * blocks if region.zero else self._read(at, blocks)[1]
                self._wire.send(_wire.CHECK, digests, at, blocks)
                self.reread_bytes += min(blocks * BLOCK_SIZE, self._disk.size_bytes - at * BLOCK_SIZE)
                self._alive()


def _split(digests: bytes) -> list[bytes]:
    return [digests[at : at + DIGEST_SIZE] for at in range(0, len(digests), DIGEST_SIZE)]


def _runs(values: list[Any]) -> Iterator[tuple[int, int, Any]]:
    """(start, length, value) of equal neighbours."""
    start = 0
    for index in range(1, len(values) + 1):
        if index == len(values) or values[index] != values[start]:
            yield start, index - start, values[start]
            start = index


class _KnownDigests:
    """The digests the receiver sends, read by a thread so that neither end waits for the other's pipe.

    At most _QUEUE frames of a MiB wait here; then the receiver's own thread waits, its reading end never does.
    """

    def __init__(self, wire: Wire) -> None:
        self._queue: queue.Queue[Frame | Exception] = queue.Queue(_QUEUE)
        self._ended = False
        self._thread = threading.Thread(target=self._hear, args=(wire,), daemon=True)
        self._thread.start()

    def _hear(self, wire: Wire) -> None:
        try:
            while True:
                frame = wire.receive()
                if frame.type not in (_wire.KNOWN, _wire.KNOWN_END):
                    wire.stranger()
                self._queue.put(frame)
                if frame.type == _wire.KNOWN_END:
                    return
        except (ResilientVmError, OSError, ValueError) as error:
            self._queue.put(error)

    def finish(self) -> None:
        """Hear the rest, so that the next frame on the wire is the next word of the conversation."""
        for _known in self:
            continue

    def __iter__(self) -> Iterator[Known]:
        while not self._ended:
            item = self._queue.get()
            if isinstance(item, Exception):
                raise item
            if item.type == _wire.KNOWN_END:
                self._thread.join()
                self._ended = True
                return
            yield Known(item.block, item.count, item.payload)
