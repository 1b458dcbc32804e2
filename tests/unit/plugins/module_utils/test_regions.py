# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Extents become block regions; regions and the receiver's word become work."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._digests import (
    BLOCK_SIZE,
    PREFIX_SIZE,
    block_count,
)
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._regions import (
    Extent,
    Known,
    Region,
    block_regions,
    join,
)

PIECES = st.lists(st.tuples(st.integers(1, 3 * BLOCK_SIZE), st.booleans(), st.booleans()), min_size=1, max_size=20)


def extents_of(pieces: list[tuple[int, bool, bool]]) -> list[Extent]:
    extents, offset = [], 0
    for length, zero, changed in pieces:
        extents.append(Extent(offset, length, zero, changed))
        offset += length
    return extents


@given(PIECES)
def test_a_block_is_changed_if_any_byte_is_and_zero_only_if_all_are(pieces: list[tuple[int, bool, bool]]) -> None:
    extents = extents_of(pieces)
    size = extents[-1].offset + extents[-1].length
    found = {}
    position = 0
    for region in block_regions(extents, size):
        assert region.first == position
        position += region.blocks
        for block in range(region.first, region.first + region.blocks):
            found[block] = (region.changed, region.zero)
    assert position == block_count(size)
    for block, flags in found.items():
        begin, end = block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE
        parts = [extent for extent in extents if extent.offset < end and extent.offset + extent.length > begin]
        assert flags == (any(part.changed for part in parts), all(part.zero for part in parts))


@given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.booleans()), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), st.booleans()), max_size=12),
)
def test_work_is_what_changed_and_what_the_receiver_spoke_of(
    layout: list[tuple[int, bool, bool]], spoken: list[tuple[int, int, bool]]
) -> None:
    regions, blocks = [], 0
    for count, changed, zero in layout:
        regions.append(Region(blocks, count, changed, zero))
        blocks += count
    known, position = [], 0
    for gap, count, zeros in spoken:
        first = position + gap
        count = min(count, blocks - first)
        if count <= 0:
            break
        prefixes = (
            b"" if zeros else b"".join(bytes([index % 251 + 1]) * PREFIX_SIZE for index in range(first, first + count))
        )
        known.append(Known(first, count, prefixes))
        position = first + count
    said = {}
    for entry in known:
        for index in range(entry.blocks):
            said[entry.first + index] = entry.prefixes[index * PREFIX_SIZE : (index + 1) * PREFIX_SIZE]
    flags = {region.first + index: region for region in regions for index in range(region.blocks)}
    seen = set()
    last = -1
    for work in join(regions, known):
        for index in range(work.blocks):
            block = work.first + index
            assert block > last
            last = block
            seen.add(block)
            assert (work.changed, work.zero) == (flags[block].changed, flags[block].zero)
            prefix = None if work.known is None else work.known[index * PREFIX_SIZE : (index + 1) * PREFIX_SIZE]
            assert prefix == said.get(block)
    assert seen == {block for block in flags if flags[block].changed or block in said}
