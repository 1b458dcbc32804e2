# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of blocks, the file that holds them, and the root digest that stands for a whole disk.

A digest file holds, for block i of a disk, 32 bytes at offset 32 * i: the SHA-256 of the block's
bytes (the last block may be short), or 32 zero bytes when all its bytes are zero. So an empty region of a sparse
disk is a hole in its digest file too, and both are cloned, compared and summed without being read.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator, Sequence

from ._errors import ResilientVmError
from ._files import begin_writeback, data_ranges, zero_range

__all__ = [
    "ALGORITHM",
    "BLOCK_SIZE",
    "DIGEST_SIZE",
    "INVALID",
    "PREFIX_SIZE",
    "ZERO",
    "DigestFile",
    "RootDigest",
    "block_count",
    "block_digest",
    "differing_blocks",
    "digests_of",
    "prefixes_of",
    "reread_slice",
    "wrong_blocks",
]

ALGORITHM = "sha256"
# qcow2's default cluster and dirty bitmap granularity: a smaller block finds no smaller change, a larger one
# sends neighbours that did not change.
BLOCK_SIZE = 64 * 1024
DIGEST_SIZE = 32
ZERO = bytes(DIGEST_SIZE)
# Stands for "not known to hold what it should"; no SHA-256 that anybody will ever see.
INVALID = b"\xff" * DIGEST_SIZE
# What a machine tells another of each block it holds is half a digest: at 1 % changed, whole ones would be 5 % of what
# travels. That two blocks agree in 128 bits nobody will see, and the root digests that end a walk are of whole ones.
PREFIX_SIZE = 16
_PREFIX = struct.Struct(f"{PREFIX_SIZE}s{DIGEST_SIZE - PREFIX_SIZE}x")

_ZEROS = bytes(BLOCK_SIZE)
# 2048 digests, 128 MiB of disk: one digest file page cache read, and an empty group costs nothing.
_GROUP = 2048
_EMPTY_GROUP = bytes(_GROUP * DIGEST_SIZE)
_WINDOW = 1 << 20


def prefixes_of(digests: bytes) -> bytes:
    """The first PREFIX_SIZE bytes of each digest."""
    return b"".join(prefix for (prefix,) in _PREFIX.iter_unpack(digests))


def block_count(size_bytes: int) -> int:
    """Number of blocks of a disk, the last possibly short."""
    return (size_bytes + BLOCK_SIZE - 1) // BLOCK_SIZE


def block_digest(block: bytes | memoryview) -> bytes:
    """The 32 bytes that stand for one block (at most BLOCK_SIZE bytes)."""
    # Python compares a view item by item, which takes three times as long as hashing it: a copy of it is quicker.
    if not any(block[:1]) and bytes(block) == (_ZEROS if len(block) == BLOCK_SIZE else _ZEROS[: len(block)]):
        return ZERO
    return hashlib.sha256(block).digest()


def digests_of(data: bytes | memoryview) -> bytes:
    """Digests of consecutive blocks, 32 bytes each; the last block may be short."""
    view = memoryview(data)
    return b"".join(block_digest(view[at : at + BLOCK_SIZE]) for at in range(0, len(view), BLOCK_SIZE))


def wrong_blocks(data: bytes | memoryview, wanted: bytes | memoryview) -> Iterator[int]:
    """Which of consecutive blocks, counted from 0, are not what these digests say."""
    view = memoryview(data)
    for index in range(len(wanted) // DIGEST_SIZE):
        block = view[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE]
        if block_digest(block) != wanted[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE]:
            yield index


class RootDigest:
    """Root digest of a disk from its block digests, given in ascending order; what is left out is zero.

    SHA-256 over a header (format, disk size, block size) and, for each group of 2048 digests, the SHA-256 of
    the group (the last one padded with zero digests), or 32 zero bytes for a group of zero digests.
    """

    def __init__(self, size_bytes: int) -> None:
        self._hash = hashlib.sha256(b"resilient-vm root 1\n" + struct.pack(">QI", size_bytes, BLOCK_SIZE))
        self._groups = (block_count(size_bytes) + _GROUP - 1) // _GROUP
        self._group = 0
        self._pending = bytearray()

    def add(self, first_block: int, digests: bytes) -> None:
        """Add the digests of consecutive blocks; first_block may not lie before what was added already."""
        position = self._group * _GROUP + len(self._pending) // DIGEST_SIZE
        if first_block < position:
            raise ValueError(f"block {first_block} comes after block {position}")
        self._skip_to(first_block)
        self._pending += digests
        while len(self._pending) >= len(_EMPTY_GROUP):
            self._close(bytes(self._pending[: len(_EMPTY_GROUP)]))
            del self._pending[: len(_EMPTY_GROUP)]

    def _skip_to(self, block: int) -> None:
        group, within = divmod(block, _GROUP)
        if group > self._group:
            if self._pending:
                self._close(bytes(self._pending).ljust(len(_EMPTY_GROUP), b"\0"))
                self._pending.clear()
            empty = group - self._group
            self._hash.update(ZERO * empty)
            self._group += empty
        self._pending += bytes(within * DIGEST_SIZE - len(self._pending))

    def _close(self, group: bytes) -> None:
        self._hash.update(ZERO if group == _EMPTY_GROUP else hashlib.sha256(group).digest())
        self._group += 1

    def hexdigest(self) -> str:
        """The root digest; nothing may be added afterwards."""
        self._skip_to(self._groups * _GROUP)
        return self._hash.hexdigest()


class DigestFile:
    """A digest file opened for reading, or for reading and writing."""

    def __init__(self, path: str, size_bytes: int, writable: bool = False) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.blocks = block_count(size_bytes)
        self._descriptor = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
        length = os.fstat(self._descriptor).st_size
        if length != self.blocks * DIGEST_SIZE:
            os.close(self._descriptor)
            raise ResilientVmError(
                f"{path} has {length} bytes where {self.blocks * DIGEST_SIZE} belong to a disk of {size_bytes} bytes; "
                "this image is damaged and is not used",
                path=path,
            )

    @staticmethod
    def create(path: str, size_bytes: int) -> None:
        """Make a digest file of an empty disk."""
        with open(path, "xb") as stream:
            stream.truncate(block_count(size_bytes) * DIGEST_SIZE)

    def __enter__(self) -> DigestFile:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._descriptor)

    def begin_writeback(self) -> None:
        """Have the kernel begin to write it to the disk."""
        begin_writeback(self._descriptor)

    def sync(self) -> None:
        """Wait until it is on the disk."""
        os.fsync(self._descriptor)

    def read(self, first_block: int, count: int) -> bytes:
        """Digests of count blocks, 32 bytes each."""
        wanted = count * DIGEST_SIZE
        data = os.pread(self._descriptor, wanted, first_block * DIGEST_SIZE)
        if len(data) != wanted:
            raise ResilientVmError(f"{self.path} ends early; this image is damaged", path=self.path)
        return data

    def write(self, first_block: int, digests: bytes) -> None:
        os.pwrite(self._descriptor, digests, first_block * DIGEST_SIZE)

    def clear(self, first_block: int, count: int) -> None:
        """Say that a range of blocks is zero, and give the space of its digests back."""
        zero_range(self._descriptor, first_block * DIGEST_SIZE, count * DIGEST_SIZE)

    def runs(self) -> Iterator[tuple[int, bytes]]:
        """(first block, digests) of the regions that may hold anything but zero digests, ascending.

        Holes of the file are left out; the digests come in pieces of at most 1 MiB.
        """
        for first, blocks in self.held():
            for at in range(first, first + blocks, _WINDOW // DIGEST_SIZE):
                yield at, self.read(at, min(first + blocks - at, _WINDOW // DIGEST_SIZE))

    def held(self) -> list[tuple[int, int]]:
        """(first block, count) of the regions that may hold anything but zero digests, ascending and apart."""
        found = []
        for begin, stop in data_ranges(self._descriptor, self.blocks * DIGEST_SIZE):
            first = begin // DIGEST_SIZE
            found.append((first, min((stop + DIGEST_SIZE - 1) // DIGEST_SIZE, self.blocks) - first))
        return found

    def root(self) -> str:
        """Root digest of the disk, hexadecimal. Raises ResilientVmError while any block is INVALID."""
        root = RootDigest(self.size_bytes)
        for first, digests in self.runs():
            if _holds(digests, INVALID):
                raise ResilientVmError(f"{self.path} has blocks that never arrived; run again", path=self.path)
            root.add(first, digests)
        return root.hexdigest()


def _holds(digests: bytes, wanted: bytes) -> bool:
    position = digests.find(wanted)
    while position >= 0:
        if position % DIGEST_SIZE == 0:
            return True
        position = digests.find(wanted, position + 1)
    return False


def differing_blocks(old: DigestFile | None, new: DigestFile) -> Iterator[tuple[int, int]]:
    """(first block, count) of the blocks whose digests differ, ascending; ``old`` None is an empty disk.

    Both files are read only where either holds data. Blocks past the end of ``old`` count as zero there.
    """
    for first, count in _union(old, new):
        mine = new.read(first, count)
        overlap = 0 if old is None else max(0, min(count, old.blocks - first))
        theirs = (old.read(first, overlap) if old is not None and overlap else b"").ljust(len(mine), b"\0")
        yield from _differing(mine, theirs, first)


# Runs of so many equal digests are passed over at once: looked at one by one, a disk of 1 TiB took seconds.
_STRIDE = 32 * DIGEST_SIZE


def _differing(mine: bytes, theirs: bytes, first: int) -> Iterator[tuple[int, int]]:
    """(first block, count) of the digests that differ in two rows of them; the rows begin with block ``first``."""
    if mine == theirs:
        return
    start = None
    for stride in range(0, len(mine), _STRIDE):
        if start is None and mine[stride : stride + _STRIDE] == theirs[stride : stride + _STRIDE]:
            continue
        for at in range(stride, min(stride + _STRIDE, len(mine)), DIGEST_SIZE):
            if mine[at : at + DIGEST_SIZE] != theirs[at : at + DIGEST_SIZE]:
                start = at if start is None else start
            elif start is not None:
                yield first + start // DIGEST_SIZE, (at - start) // DIGEST_SIZE
                start = None
    if start is not None:
        yield first + start // DIGEST_SIZE, (len(mine) - start) // DIGEST_SIZE


def _union(old: DigestFile | None, new: DigestFile) -> Iterator[tuple[int, int]]:
    """Block ranges, ascending and disjoint, where either file may hold anything but zero digests."""
    ranges: list[tuple[int, int]] = []
    for file in (old, new):
        if file is None:
            continue
        for begin, stop in data_ranges(file._descriptor, file.blocks * DIGEST_SIZE):
            ranges.append((begin // DIGEST_SIZE, min((stop + DIGEST_SIZE - 1) // DIGEST_SIZE, new.blocks)))
    position = 0
    for first, last in sorted(ranges):
        position = max(position, first)
        while position < last:
            count = min(last - position, _WINDOW // DIGEST_SIZE)
            yield position, count
            position += count


def reread_slice(blocks: int, next_block: int, share: int, held: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """(first block, count) of this cycle's part of the rotating re-read.

    ``share`` cycles cover the whole disk; ``next_block`` is where the previous cycle stopped; ``held``: (first, count)
    of the ranges that may hold data, ascending. Every cycle has the same amount of those to read: ranges of zeros cost
    nothing, wherever on the disk they are.
    """
    first = next_block if 0 <= next_block < blocks else 0
    left = -(-sum(count for _first, count in held) // share)
    for begin, count in held:
        begin, end = max(begin, first), begin + count
        if begin >= end:
            continue
        stop = min(begin + left, end)
        left -= stop - begin
        if stop < end:
            return first, stop - first
    # No data behind it: the round ends here.
    return first, blocks - first
