# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk of an open snapshot, read through its export over NBD."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from ._digests import BLOCK_SIZE
from ._errors import ResilientVmError
from ._frames import Buffer
from ._regions import Extent, Region, block_regions

try:
    import nbd
except ImportError:
    nbd = None

__all__ = ["SnapshotDisk"]

_ALLOCATION = "base:allocation"
# base:allocation's flag for "reads as zero", and the dirty bitmap's only flag (NBD protocol, QEMU's nbd.txt)
_READS_ZERO = 2
_DIRTY = 1
# One question for block status; its answer is bounded by the number of extents QEMU puts into a reply.
_STATUS_WINDOW = 1 << 30


class SnapshotDisk:
    """One disk of the open snapshot, read through its NBD export. ``disk`` is its entry in snapshot.json."""

    # Buffers serve again, also the next disk: libnbd 1.14's aio_pread never lets go of one.
    _spare: ClassVar[dict[int, list[Any]]] = {}

    def __init__(self, disk: dict[str, Any]) -> None:
        if nbd is None:
            raise ResilientVmError("Python's libnbd is not on this machine; run the site playbook")
        self.target: str = disk["target"]
        self.size_bytes: int = disk["size_bytes"]
        self._bitmap: str | None = f"qemu:dirty-bitmap:{disk['bitmap']}" if disk.get("bitmap") else None
        self._handle = nbd.NBD()
        try:
            self._handle.add_meta_context(_ALLOCATION)
            if self._bitmap:
                self._handle.add_meta_context(self._bitmap)
            self._handle.set_export_name(disk["export"])
            if hasattr(self._handle, "set_pread_initialize"):
                # An answer is used only when the read succeeded, so that clearing its buffer first is for nothing.
                self._handle.set_pread_initialize(False)
            self._handle.connect_unix(disk["socket"])
            if self._bitmap and not self._handle.can_meta_context(self._bitmap):
                self._bitmap = None
            size = self._handle.get_size()
        except nbd.Error as error:
            raise self._gone(error) from error
        if size < self.size_bytes:
            raise ResilientVmError(
                f"disk {self.target} has {size} bytes now and had {self.size_bytes} when the snapshot was "
                "opened; run again"
            )

    def _gone(self, error: Exception) -> ResilientVmError:
        return ResilientVmError(
            f"the snapshot of disk {self.target} can no longer be read ({error}): the VM stopped or the backup was "
            "aborted; run again"
        )

    def close(self) -> None:
        if self._handle.aio_is_ready():
            self._handle.shutdown()
        del self._handle

    @property
    def has_bitmap(self) -> bool:
        return self._bitmap is not None

    def regions(self, how: str) -> Iterator[Region]:
        """Regions of the whole disk; what ``changed`` means depends on how changed blocks are found.

        ``bitmap``: dirty since the base; ``digests``: everything; ``allocation``: everything not surely zero.
        """
        if how == "bitmap":
            return block_regions(self._extents(with_bitmap=True), self.size_bytes)
        if how == "digests":
            return (region._replace(changed=True) for region in block_regions(self._extents(False), self.size_bytes))
        return (
            region._replace(changed=not region.zero) for region in block_regions(self._extents(False), self.size_bytes)
        )

    def _extents(self, with_bitmap: bool) -> Iterator[Extent]:
        contexts = [_ALLOCATION] + ([self._bitmap] if with_bitmap and self._bitmap else [])
        offset = 0
        while offset < self.size_bytes:
            answers = self._status(offset, min(_STATUS_WINDOW, self.size_bytes - offset))
            missing = [context for context in contexts if not answers.get(context)]
            if missing:
                raise ResilientVmError(f"QEMU gave no {missing[0]} of disk {self.target}; run again")
            lists = [answers[context] for context in contexts]
            covered = min(*(sum(length for length, _flags in answer) for answer in lists), self.size_bytes - offset)
            for length, flags in _overlay(lists, covered):
                changed = bool(flags[1] & _DIRTY) if len(flags) > 1 else False
                yield Extent(offset, length, bool(flags[0] & _READS_ZERO), changed)
                offset += length

    def _status(self, offset: int, length: int) -> dict[str, list[tuple[int, int]]]:
        answers: dict[str, list[tuple[int, int]]] = {}

        def hear(context: str, _offset: int, entries: list[int], _error: Any) -> int:
            answers.setdefault(context, []).extend(zip(entries[::2], entries[1::2]))
            return 0

        try:
            self._handle.block_status(length, offset, hear)
        except nbd.Error as error:
            raise self._gone(error) from error
        return answers

    def ask(self, first: int, count: int) -> tuple[int, Any]:
        """Begin to read count blocks; the disk's last block may be short."""
        offset = first * BLOCK_SIZE
        length = min(count * BLOCK_SIZE, self.size_bytes - offset)
        spare = self._spare.setdefault(length, [])
        buffer = spare.pop() if spare else nbd.Buffer(length)
        try:
            return self._handle.aio_pread(buffer, offset), buffer
        except nbd.Error as error:
            raise self._gone(error) from error

    def answer(self, asked: tuple[int, Any]) -> Buffer:
        """The bytes that were asked for, in place: they are there until ``done``."""
        cookie, buffer = asked
        try:
            while not self._handle.aio_command_completed(cookie):
                self._handle.poll(-1)
        except nbd.Error as error:
            raise self._gone(error) from error
        # Before libnbd 1.14 it is to be had as a copy only.
        data: bytearray = buffer.to_buffer() if hasattr(buffer, "to_buffer") else buffer.to_bytearray()
        return data

    def done(self, asked: tuple[int, Any]) -> None:
        """Another read may have the buffer."""
        _cookie, buffer = asked
        self._spare[buffer.size()].append(buffer)

    def digests(self, _first: int, _count: int) -> bytes | None:
        """Nothing is known of a live disk before it is read."""
        return None


def _overlay(lists: list[list[tuple[int, int]]], covered: int) -> Iterator[tuple[int, list[int]]]:
    """Cut several lists of (length, flags) at each other's edges, up to ``covered`` bytes."""
    places = [0] * len(lists)
    left = [answer[0][0] for answer in lists]
    done = 0
    while done < covered:
        length = min(*left, covered - done)
        yield length, [answer[place][1] for answer, place in zip(lists, places)]
        done += length
        for index, answer in enumerate(lists):
            left[index] -= length
            if left[index] == 0 and places[index] + 1 < len(answer):
                places[index] += 1
                left[index] = answer[places[index]][0]
