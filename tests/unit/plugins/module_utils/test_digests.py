# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block digests, digest files, root digests and the rotating slice."""

from __future__ import annotations

import hashlib
import itertools
import os
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._digests import (
    BLOCK_SIZE,
    DIGEST_SIZE,
    INVALID,
    ZERO,
    DigestFile,
    RootDigest,
    block_count,
    block_digest,
    differing_blocks,
    prefixes_of,
    reread_slice,
)
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError

DIGEST = st.sampled_from([ZERO] + [hashlib.sha256(bytes([n])).digest() for n in range(3)])


def test_a_block_of_zeros_has_the_zero_digest_whatever_its_length() -> None:
    assert block_digest(bytes(BLOCK_SIZE)) == ZERO
    assert block_digest(bytes(100)) == ZERO
    assert block_digest(b"\1" + bytes(99)) == hashlib.sha256(b"\1" + bytes(99)).digest()


def test_the_prefix_of_a_digest_is_its_first_half() -> None:
    digests = [hashlib.sha256(bytes([n])).digest() for n in range(3)]
    assert prefixes_of(b"".join(digests)) == b"".join(digest[:16] for digest in digests)
    assert prefixes_of(b"") == b""


def test_root_digest_is_what_the_format_document_says() -> None:
    """Written out by hand once, so that another program could compute it from docs/formats.md."""
    size = BLOCK_SIZE * 2048 * 3 + 5
    first, last = hashlib.sha256(b"a").digest(), hashlib.sha256(b"b").digest()
    root = RootDigest(size)
    root.add(1, first)
    root.add(2048 * 3, last)
    header = b"resilient-vm root 1\n" + struct.pack(">QI", size, BLOCK_SIZE)
    groups = [
        hashlib.sha256((ZERO + first).ljust(2048 * DIGEST_SIZE, b"\0")).digest(),
        ZERO,
        ZERO,
        hashlib.sha256(last.ljust(2048 * DIGEST_SIZE, b"\0")).digest(),
    ]
    assert root.hexdigest() == hashlib.sha256(header + b"".join(groups)).hexdigest()


def write(path: Path, digests: list[bytes]) -> DigestFile:
    size = len(digests) * BLOCK_SIZE
    DigestFile.create(str(path), size)
    file = DigestFile(str(path), size, writable=True)
    for index, digest in enumerate(digests):
        if digest != ZERO:
            file.write(index, digest)
    return file


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(DIGEST, min_size=1, max_size=60), st.lists(DIGEST, min_size=1, max_size=60))
def test_differing_blocks_are_exactly_those_that_differ(tmp_path: Path, old: list[bytes], new: list[bytes]) -> None:
    for path in tmp_path.iterdir():
        path.unlink()
    with write(tmp_path / "old", old) as older, write(tmp_path / "new", new) as newer:
        found = {block for first, count in differing_blocks(older, newer) for block in range(first, first + count)}
        assert found == {i for i, digest in enumerate(new) if digest != (old[i] if i < len(old) else ZERO)}
        found = {block for first, count in differing_blocks(None, newer) for block in range(first, first + count)}
        assert found == {i for i, digest in enumerate(new) if digest != ZERO}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, 199), max_size=12), st.sets(st.integers(0, 199), max_size=12))
def test_few_changes_in_a_long_row_come_as_whole_runs(tmp_path: Path, one: set[int], neighbours: set[int]) -> None:
    for path in tmp_path.iterdir():
        path.unlink()
    changed = {*one, *(place for first in neighbours for place in range(first, min(first + 40, 200)))}
    same, other = (hashlib.sha256(word).digest() for word in (b"same", b"other"))
    after = [other if index in changed else same for index in range(200)]
    with write(tmp_path / "old", [same] * 200) as older, write(tmp_path / "new", after) as newer:
        runs = list(differing_blocks(older, newer))
    assert {block for first, count in runs for block in range(first, first + count)} == changed
    assert all(first + count < later for (first, count), (later, _count) in itertools.pairwise(runs))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(DIGEST, min_size=1, max_size=60), st.lists(st.integers(1, 9), min_size=1))
def test_root_digest_does_not_depend_on_how_it_is_fed(tmp_path: Path, digests: list[bytes], steps: list[int]) -> None:
    for path in tmp_path.iterdir():
        path.unlink()
    root, position, turn = RootDigest(len(digests) * BLOCK_SIZE), 0, 0
    while position < len(digests):
        piece = digests[position : position + steps[turn % len(steps)]]
        if any(digest != ZERO for digest in piece):
            root.add(position, b"".join(piece))
        position, turn = position + len(piece), turn + 1
    with write(tmp_path / "file", digests) as file:
        assert file.root() == root.hexdigest()


def test_a_block_that_never_arrived_has_no_root_digest(tmp_path: Path) -> None:
    with (
        write(tmp_path / "file", [ZERO, INVALID, ZERO]) as file,
        pytest.raises(ResilientVmError, match="never arrived"),
    ):
        file.root()


def test_a_digest_file_of_the_wrong_length_is_named(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(ZERO)
    with pytest.raises(ResilientVmError, match="short has 32 bytes where 64 belong"):
        DigestFile(str(tmp_path / "short"), 2 * BLOCK_SIZE)


@st.composite
def disks(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """Blocks of a disk, and where it may hold data."""
    held, position = [], 0
    for gap, count in draw(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), max_size=12)):
        held.append((position + gap, count))
        position += gap + count
    return position + draw(st.integers(1, 300)), held


@given(disks(), st.integers(1, 40))
def test_so_many_slices_cover_every_block_and_read_the_same_each(
    disk: tuple[int, list[tuple[int, int]]], share: int
) -> None:
    blocks, held = disk
    data = {block for first, count in held for block in range(first, first + count)}
    seen: set[int] = set()
    position = cycles = 0
    while cycles == 0 or position:
        first, count = reread_slice(blocks, position, share, held)
        assert first == position
        assert 0 < count <= blocks - first
        assert len(data.intersection(range(first, first + count))) <= -(-len(data) // share)
        seen.update(range(first, first + count))
        position, cycles = (first + count) % blocks, cycles + 1
    assert seen == set(range(blocks))
    assert cycles <= share


def test_slices_of_a_disk_whose_data_lies_at_its_beginning() -> None:
    held = [(0, 10), (90, 4)]
    slices, position = [], 0
    for _cycle in range(4):
        slices.append(reread_slice(1000, position, 4, held))
        position = sum(slices[-1]) % 1000
    assert slices == [(0, 4), (4, 4), (8, 84), (92, 908)]


@pytest.mark.parametrize("next_block", [-1, 100, 4000])
def test_a_place_beyond_the_disk_begins_anew(next_block: int) -> None:
    assert reread_slice(100, next_block, 14, [(0, 100)]) == (0, 8)


@pytest.mark.parametrize("size, blocks", [(1, 1), (BLOCK_SIZE, 1), (BLOCK_SIZE + 1, 2)])
def test_the_last_block_may_be_short(size: int, blocks: int) -> None:
    assert block_count(size) == blocks


def test_digest_file_of_a_sparse_terabyte_costs_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "x.digests")
    DigestFile.create(path, 1 << 40)
    with DigestFile(path, 1 << 40) as digests:
        assert list(digests.runs()) == digests.held() == []
        assert digests.root() == RootDigest(1 << 40).hexdigest()
    assert os.stat(path).st_blocks == 0
