# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cases measure what the report asks for."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from bench import report
from bench.cases import Figures, choices, each
from bench.cases.every import CASES
from bench.histogram import percentile


def test_every_figure_has_its_case_and_every_case_a_figure() -> None:
    assert {ratio.case for ratio in report.RATIOS} == {case.name for case in CASES}


def test_every_choice_says_what_was_chosen() -> None:
    assert all(case.why for case in choices.CASES)
    assert not {case.name for case in choices.CASES} & {case.name for case in CASES}


@pytest.mark.parametrize(("repetition", "order"), [(0, "abc"), (1, "bca"), (2, "cab"), (3, "abc")])
def test_every_contestant_is_first_in_turn_and_begins_with_quiet_disks(repetition: int, order: str) -> None:
    seen: list[str] = []

    def contestant(name: str) -> Callable[[], Figures]:
        return lambda: seen.append(name) or {"seconds": float(len(seen))}

    bench: Any = SimpleNamespace(settle=lambda: seen.append("settle"))
    found = each(bench, {name: contestant(name) for name in "abc"}, repetition)
    assert seen == [word for name in order for word in ("settle", name)]
    assert list(found) == list(order)


def test_a_percentile_is_the_bound_under_which_that_share_lies() -> None:
    assert [percentile([1, 2, 3], [5, 4, 1, 0], share) for share in (0.5, 0.9, 0.99)] == [1, 2, 3]


def test_a_percentile_above_all_bounds_is_not_made_up() -> None:
    with pytest.raises(ValueError, match="above all bounds"):
        percentile([1, 2, 3], [1, 0, 0, 9], 0.5)
