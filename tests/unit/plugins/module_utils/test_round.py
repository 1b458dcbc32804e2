# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a verification is: a round reads everything within its days, whatever happens in between."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._round import Round, merged, todo

NOW = datetime(2026, 1, 14, 2, tzinfo=timezone.utc)
RANGES = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 60)), max_size=8)


@given(RANGES)
def test_merged_ranges_hold_the_same_blocks_once_and_ascend(ranges: list[tuple[int, int]]) -> None:
    found = merged(ranges)
    assert {b for first, count in ranges for b in range(first, first + count)} == {
        b for first, count in found for b in range(first, first + count)
    }
    assert all(sum(found[index]) < found[index + 1][0] for index in range(len(found) - 1))


@given(RANGES, st.integers(1, 20), st.sets(st.integers(0, 19)), st.integers(0, 3599))
def test_every_block_is_read_within_the_days_even_when_days_are_missed(
    ranges: list[tuple[int, int]], days: int, missed: set[int], late: int
) -> None:
    """The last day of a round makes up for all that were missed."""
    held, blocks = merged(ranges), 400
    state, read = Round(), set()
    for day in range(days):
        if day in missed and day not in (0, days - 1):
            continue
        now = NOW + timedelta(days=day, seconds=late if day else 0)
        first, count = todo(blocks, state, held, days, now)
        assert first == state.next_block
        read.update(range(first, first + count))
        state = state.begun(now).at(first + count, blocks)
        if state.proven:
            break
    assert {b for first, count in held for b in range(first, first + count)} <= read
    assert (state.next_block, state.started) == (0, None)
    assert state.proven == "2026-01-14T02:00:00Z"


@given(st.integers(1, 400), st.integers(1, 30))
def test_a_day_reads_its_share_of_the_data(size: int, days: int) -> None:
    _first, count = todo(1000, Round(), [(500, size)], days, NOW)
    assert days == 1 or size <= days or count <= 500 + -(-size // days)


@pytest.mark.parametrize("junk", [None, [], {"next_block": -1}, {"next_block": "7", "started": "yesterday"}, 7])
def test_what_cannot_be_read_is_a_round_that_begins(junk: Any) -> None:
    assert Round.of(junk) == Round()


def test_a_disk_that_shrank_begins_again() -> None:
    assert todo(10, Round(50, "2026-01-13T02:00:00Z"), [(0, 10)], 1, NOW) == (0, 10)
