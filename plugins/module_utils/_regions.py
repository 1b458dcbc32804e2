# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which blocks a sender has to look at: block regions out of byte extents, joined with what the receiver holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ._digests import BLOCK_SIZE, PREFIX_SIZE, block_count

__all__ = ["Extent", "Known", "Region", "Work", "block_regions", "join"]


class Extent(NamedTuple):
    """A byte range of a disk as a storage layer tells it."""

    offset: int
    length: int
    zero: bool
    changed: bool


class Region(NamedTuple):
    """A range of blocks; ``zero``: all bytes are surely zero; ``changed``: may differ from the base."""

    first: int
    blocks: int
    changed: bool
    zero: bool


class Known(NamedTuple):
    """Blocks the receiver holds, by the prefixes of their digests; empty ``prefixes`` means all of them are zero."""

    first: int
    blocks: int
    prefixes: bytes


class Work(NamedTuple):
    """A range of blocks to look at. ``known``: the prefixes of what the receiver holds there; None: it says nothing."""

    first: int
    blocks: int
    changed: bool
    zero: bool
    known: bytes | None


def block_regions(extents: Iterable[Extent], size_bytes: int) -> Iterator[Region]:
    """Regions of whole blocks, ascending and without gaps, out of extents that are so in bytes.

    A block is changed when any of its bytes is, and zero only when all are.
    """
    pending: Region | None = None
    for part in _whole_blocks(extents, size_bytes):
        if pending is not None and (pending.changed, pending.zero) == (part.changed, part.zero):
            pending = pending._replace(blocks=pending.blocks + part.blocks)
            continue
        if pending is not None:
            yield pending
        pending = part
    if pending is not None:
        yield pending


def _whole_blocks(extents: Iterable[Extent], size_bytes: int) -> Iterator[Region]:
    block: tuple[int, bool, bool] | None = None  # a block of which only a part was seen: index, changed, zero
    for extent in extents:
        start, end = extent.offset, extent.offset + extent.length
        while start < end:
            index, within = divmod(start, BLOCK_SIZE)
            block_end = min((index + 1) * BLOCK_SIZE, size_bytes)
            if block is None and within == 0 and end >= block_end:
                last = block_count(size_bytes) if end >= size_bytes else end // BLOCK_SIZE
                yield Region(index, last - index, extent.changed, extent.zero)
                start = min(last * BLOCK_SIZE, size_bytes)
                continue
            _index, changed, zero = block or (index, False, True)
            block = (index, changed or extent.changed, zero and extent.zero)
            start = min(end, block_end)
            if start == block_end:
                yield Region(index, 1, block[1], block[2])
                block = None


def join(regions: Iterable[Region], known: Iterable[Known]) -> Iterator[Work]:
    """What to look at: every region that is changed, and everything the receiver spoke of.

    Both inputs ascend; regions have no gaps.
    """
    speaking = iter(known)
    said = next(speaking, None)
    for region in regions:
        first, end = region.first, region.first + region.blocks
        while first < end:
            while said is not None and said.first + said.blocks <= first:
                said = next(speaking, None)
            stop, prefixes = end, None
            if said is not None and said.first < end:
                if said.first > first:
                    stop = said.first
                else:
                    stop = min(end, said.first + said.blocks)
                    begin = (first - said.first) * PREFIX_SIZE
                    prefixes = said.prefixes[begin : begin + (stop - first) * PREFIX_SIZE]
            if region.changed or prefixes is not None:
                yield Work(first, stop - first, region.changed, region.zero, prefixes)
            first = stop
