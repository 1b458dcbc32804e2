# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sending end of a transfer: look at blocks, leave out what the receiver has, send the rest with digests."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Protocol

from . import _frames
from ._digests import BLOCK_SIZE, DIGEST_SIZE, PREFIX_SIZE, ZERO, RootDigest, block_count, digests_of, prefixes_of
from ._frames import Buffer
from ._regions import Known, Region, Work, join
from ._wire import Wire

__all__ = ["DiskSource", "Plan", "Sender", "Source"]

# 1 MiB a read and a frame: large enough that a request's own cost is lost in it, small enough to buffer several.
_CHUNK = 16
# Reads under way while an earlier one is looked at: a single reader gets a quarter of what QEMU can give.
_AHEAD = 8
# What was read and is being hashed while the next is received: either alone is as fast as QEMU can give.
_HASHED_AHEAD = 6
# What is surely zero is not read, and goes by the GiB.
_ZERO_CHUNK = 16384
_MARK_SECONDS = 1.0


class DiskSource(Protocol):
    """What a sender reads a disk from: SnapshotDisk or ImageDisk.

    ``ask`` begins to read blocks, ``answer`` waits for them, ``done`` says that they are needed no more; what is asked
    first is answered first.
    """

    target: str
    size_bytes: int

    def regions(self, how: str) -> Iterator[Region]: ...

    def ask(self, first: int, count: int) -> Any: ...

    def answer(self, asked: Any) -> Buffer: ...

    def done(self, asked: Any) -> None: ...

    def digests(self, first: int, count: int) -> bytes | None: ...

    def close(self) -> None: ...


class Plan:
    """How a disk is sent: ``how`` bitmap, digests or allocation; ``known`` of which blocks the receiver must tell
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
    """Serves one receiver until it is done. ``alive`` is called often, whenever something moved, and told how far the
    disk is: ``disk``, ``found_by``, ``done_bytes`` and ``total_bytes`` of what is to be looked at."""

    def __init__(self, wire: Wire, source: Source, alive: Callable[..., None]) -> None:
        self._wire = wire
        self._source = source
        self._alive = alive

    def run(self) -> dict[str, Any]:
        """Returns the receiver's result. The handshake is done already."""
        self._wire.send_document(_frames.OFFER, self._source.offer())
        while True:
            frame = self._wire.receive()
            self._alive()
            if frame.type == _frames.DISK:
                self._send_disk(frame.document())
            elif frame.type == _frames.END:
                return self._finish()
            elif frame.type != _frames.KEEP:
                self._wire.stranger()

    def _finish(self) -> dict[str, Any]:
        for name, content in self._source.definition():
            self._wire.send_document(_frames.FILE, {"name": name, "size_bytes": len(content)})
            self._wire.send(_frames.FILE, content)
        # Only now: everything the receiver will publish has been read.
        self._source.still_valid()
        self._wire.send_document(_frames.END, {})
        return self._wire.expect(_frames.DONE).document()

    def _send_disk(self, request: dict[str, Any]) -> None:
        plan, disk = self._source.plan(request)
        try:
            before = self._wire.data_frames_sent
            self._wire.send_document(_frames.PLAN, {"how": plan.how, "known": plan.known, "reason": plan.reason})
            with ThreadPoolExecutor(1) as hasher:
                pass_ = _DiskPass(self._wire, disk, plan.how, self._alive, hasher)
                pass_.send()
                if request.get("reread") and plan.how == "bitmap":
                    pass_.reread(*request["reread"])
            self._wire.send_document(
                _frames.DISK_END,
                {
                    "root_digest": plan.root_digest or pass_.root_digest(),
                    "bytes_read": pass_.bytes_read,
                    "changed_bytes": pass_.changed_bytes,
                    "reread_bytes": pass_.reread_bytes,
                    # Those on further streams may come after this word.
                    "data_frames": self._wire.data_frames_sent - before,
                },
            )
        finally:
            disk.close()


class _DiskPass:
    """One walk over one disk. What is to be done with each piece is a step with one ``yield``: up to there when it is
    its turn among the reads that are under way, and the rest when everything before it was hashed and is sent."""

    def __init__(
        self, wire: Wire, disk: DiskSource, how: str, alive: Callable[..., None], hasher: ThreadPoolExecutor
    ) -> None:
        self._wire = wire
        self._disk = disk
        self._how = how
        self._alive = alive
        self._hasher = hasher
        # Asked for again by the walk, not kept: the regions of a large scattered disk would fill the memory.
        self._total_bytes = BLOCK_SIZE * sum(region.blocks for region in disk.regions(how) if region.changed)
        self._done_bytes = 0
        self._next_mark = 0.0
        self._root = RootDigest(disk.size_bytes)
        self._asked: deque[Iterator[None]] = deque()
        self._begun: deque[Iterator[None]] = deque()
        self.bytes_read = 0
        self.changed_bytes = 0
        self.reread_bytes = 0

    def root_digest(self) -> str | None:
        """The whole disk's root digest, where every block that is not zero was looked at."""
        return None if self._how == "bitmap" else self._root.hexdigest()

    def send(self) -> None:
        known_digests = _known_digests(self._wire)
        for work in join(self._disk.regions(self._how), known_digests):
            if work.changed and work.zero:
                self._done_bytes += work.blocks * BLOCK_SIZE
            if work.zero:
                self._then(self._send_zeros(work))
                continue
            for first in range(work.first, work.first + work.blocks, _CHUNK):
                count = min(_CHUNK, work.first + work.blocks - first)
                known = work.known
                if known:
                    begin = (first - work.first) * PREFIX_SIZE
                    known = known[begin : begin + count * PREFIX_SIZE]
                self._send_chunk(first, count, known)
                self._done_bytes += count * BLOCK_SIZE if work.changed else 0
        self._finish()
        for _rest in known_digests:
            continue

    def _then(self, step: Iterator[None]) -> None:
        self._asked.append(step)
        while len(self._asked) > _AHEAD:
            self._begin()

    def _finish(self) -> None:
        while self._asked:
            self._begin()
        while self._begun:
            self._end()

    def _begin(self) -> None:
        step = self._asked.popleft()
        next(step)
        self._begun.append(step)
        while len(self._begun) > _HASHED_AHEAD:
            self._end()

    def _end(self) -> None:
        next(self._begun.popleft(), None)
        facts = {
            "disk": self._disk.target,
            "found_by": self._how,
            "done_bytes": self._done_bytes,
            "total_bytes": self._total_bytes,
        }
        self._alive(**facts)
        if time.monotonic() >= self._next_mark:
            # The receiver sees only what differs; how far the looking is must be told.
            self._next_mark = time.monotonic() + _MARK_SECONDS
            self._wire.send(_frames.MARK, json.dumps(facts).encode())

    def _send_zeros(self, work: Work) -> Iterator[None]:
        yield
        if work.known is None:
            self._zeros(work.first, work.blocks)
        elif work.known:
            for start, count, differs in _runs([prefix != _ZERO for prefix in _split(work.known)]):
                if differs:
                    self._zeros(work.first + start, count)
        # An empty ``known``: the receiver has zeros there already.

    def _zeros(self, first: int, count: int) -> None:
        self._wire.send(_frames.ZEROS, block=first, count=count)
        self.changed_bytes += count * BLOCK_SIZE

    def _send_chunk(self, first: int, count: int, known: bytes | None) -> None:
        digests = self._disk.digests(first, count)
        if digests is None:
            # A live disk: only reading tells what differs.
            self._then(self._look(first, known, self._disk.ask(first, count)))
            return
        self._root.add(first, digests)
        for start, length, action in _actions(digests, known):
            at = first + start
            if action == _SEND:
                part = digests[start * DIGEST_SIZE : (start + length) * DIGEST_SIZE]
                self._then(self._send_read(at, part, self._disk.ask(at, length)))
            elif action == _CLEAR:
                self._then(self._clear(at, length))

    def _clear(self, first: int, count: int) -> Iterator[None]:
        yield
        self._zeros(first, count)

    def _look(self, first: int, known: bytes | None, asked: Any) -> Iterator[None]:
        data, hashed = self._read(asked)
        yield
        digests = hashed.result()
        self._root.add(first, digests)
        for start, length, action in _actions(digests, known):
            if action == _SEND:
                part = digests[start * DIGEST_SIZE : (start + length) * DIGEST_SIZE]
                block = data[start * BLOCK_SIZE : (start + length) * BLOCK_SIZE]
                self._send_data(first + start, length, part, block)
            elif action == _CLEAR:
                self._zeros(first + start, length)
        self._disk.done(asked)

    def _send_read(self, first: int, digests: bytes, asked: Any) -> Iterator[None]:
        data = self._disk.answer(asked)
        self.bytes_read += len(data)
        yield
        self._send_data(first, len(digests) // DIGEST_SIZE, digests, data)
        self._disk.done(asked)

    def _send_data(self, first: int, count: int, digests: bytes, data: Buffer) -> None:
        # It is on its way longer than it lies where it was read.
        self._wire.send_data(first, count, digests, bytes(data))
        self.changed_bytes += len(data)

    def _read(self, asked: Any) -> tuple[memoryview, Future[bytes]]:
        view = memoryview(self._disk.answer(asked))
        self.bytes_read += len(view)
        return view, self._hasher.submit(digests_of, view)

    def reread(self, first: int, count: int) -> None:
        """Send the digests of the blocks in a slice that the bitmap calls unchanged, freshly read."""
        last = min(first + count, block_count(self._disk.size_bytes))
        for region in self._disk.regions("bitmap"):
            start, end = max(first, region.first), min(last, region.first + region.blocks)
            if region.first >= last:
                break
            if region.changed or start >= end:
                continue
            step = _ZERO_CHUNK if region.zero else _CHUNK
            for at in range(start, end, step):
                blocks = min(step, end - at)
                asked = None if region.zero else self._disk.ask(at, blocks)
                self._then(self._send_check(at, blocks, asked))
        self._finish()

    def _send_check(self, first: int, count: int, asked: Any) -> Iterator[None]:
        hashed = None if asked is None else self._read(asked)[1]
        yield
        # Without digests: all of them are zero.
        self._wire.send(_frames.CHECK, b"" if hashed is None else hashed.result(), first, count)
        self.reread_bytes += min(count * BLOCK_SIZE, self._disk.size_bytes - first * BLOCK_SIZE)
        if asked is not None:
            self._disk.done(asked)


_NOTHING, _SEND, _CLEAR = range(3)
_ZERO = prefixes_of(ZERO)


def _actions(digests: bytes, known: bytes | None) -> Iterator[tuple[int, int, int]]:
    """(start, blocks, action) for blocks with these digests where the receiver holds what has the prefixes ``known``:
    None is not known, empty is all zero."""
    prefixes = prefixes_of(digests)
    if prefixes == known:
        return
    mine = _split(prefixes)
    theirs: list[bytes | None] = [None] * len(mine)
    if known is not None:
        theirs = list(_split(known)) if known else [_ZERO] * len(mine)
    yield from _runs([_NOTHING if a == b else (_CLEAR if a == _ZERO else _SEND) for a, b in zip(mine, theirs)])


def _split(prefixes: bytes) -> list[bytes]:
    return [prefixes[at : at + PREFIX_SIZE] for at in range(0, len(prefixes), PREFIX_SIZE)]


def _runs(values: list[Any]) -> Iterator[tuple[int, int, Any]]:
    """(start, length, value) of equal neighbours."""
    start = 0
    for index in range(1, len(values) + 1):
        if index == len(values) or values[index] != values[start]:
            yield start, index - start, values[start]
            start = index


def _known_digests(wire: Wire) -> Iterator[Known]:
    """The prefixes of digests that the receiver sends, to their end."""
    while True:
        frame = wire.receive()
        if frame.type == _frames.KNOWN_END:
            return
        if frame.type != _frames.KNOWN:
            wire.stranger()
        yield Known(frame.block, frame.count, bytes(frame.payload))
