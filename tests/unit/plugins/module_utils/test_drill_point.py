# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about whose turn it is to be tried, and what status says of drills."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._drill_point import alarm, proof, proven, rotating

FIRST = datetime(2026, 1, 1, 2, tzinfo=timezone.utc)


def night(number: int) -> str:
    return (FIRST + timedelta(days=number)).strftime("%Y%m%dT%H%M%SZ")


def drill(number: int, on: int, passed: bool = True) -> dict[str, Any]:
    said = "ready after 4.6 s" if passed else "not ready within 300 s (guest agent)"
    return {
        "image": night(number),
        "host": "b",
        "ended": _clock.iso(FIRST + timedelta(days=on, hours=1)),
        "passed": passed,
        "seconds_to_ready": 4.6,
        "checks": [{"check": "guest agent", "passed": passed, "said": said}],
        "evidence": "/e",
    }


def after(nights: int, start: int, keep: int, broken: Sequence[int] = ()) -> tuple[list[str], list[dict[str, Any]]]:
    """What is kept, and what of it was tried, when a drill follows each of so many images."""
    drills: dict[str, dict[str, Any]] = {}
    kept = [night(number) for number in range(start)]
    for number in range(start, start + nights):
        kept = [*kept, night(number)][-keep:]
        drills = {image: told for image, told in drills.items() if image in kept}
        turn = rotating(kept, drills.values())
        assert turn is not None and turn in kept
        drills[turn] = {**drill(0, number, number not in broken), "image": turn}
    return kept, list(drills.values())


@given(st.integers(0, 30), st.integers(1, 20), st.sets(st.integers(0, 60)))
def test_after_as_many_nights_as_images_are_kept_each_of_them_has_been_tried(
    start: int, keep: int, broken: set[int]
) -> None:
    kept, drills = after(keep, start, keep, sorted(broken))
    assert sorted(told["image"] for told in drills) == kept


@given(st.integers(1, 20))
def test_without_new_images_each_is_tried_in_as_many_nights(count: int) -> None:
    kept, drills = [night(number) for number in range(count)], []
    for on in range(count):
        turn = rotating(kept, drills)
        assert turn is not None
        drills.append({"image": turn, "ended": _clock.iso(FIRST + timedelta(days=100 + on))})
    assert sorted(told["image"] for told in drills) == kept
    assert rotating(kept, drills) == drills[0]["image"], "then from the one tried longest ago"


def test_the_newest_one_never_tried_comes_first_and_what_is_gone_never() -> None:
    assert rotating([night(1), night(2), night(3)], [drill(3, 3, passed=False)]) == night(2)
    assert rotating([night(2)], [drill(1, 1), drill(2, 9)]) == night(2)
    assert rotating([], [drill(1, 1)]) is None


def test_status_is_red_while_the_newest_image_that_was_tried_failed() -> None:
    assert alarm("erp", []) == alarm("erp", [drill(1, 1, passed=False), drill(2, 2)]) == ""
    wrong = alarm("erp", [drill(2, 2, passed=False), drill(1, 3)])
    assert wrong == (
        f"the drill of image {night(2)} of erp failed at 2026-01-03T03:00:00Z: not ready within 300 s (guest agent); "
        "look at /e on b, then run the drill playbook again"
    )


def test_a_line_says_what_was_proven_when_by_what_and_how_fast() -> None:
    drills = [drill(1, 1), drill(2, 2), drill(3, 3, passed=False)]
    assert proof(proven(drills), 2, 5) == (
        f"image {night(2)} proven by a drill at 2026-01-03T03:00:00Z (guest agent), ready after 5 s; "
        "2 of 5 images proven"
    )
    assert proof(proven([]), 0, 5) == "no image proven by a drill yet"
