# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about which images go: the worked example, its borders, and what holds for any store."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta, timezone, tzinfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._retention import (
    Image,
    Policy,
    decide,
    newest_of,
    next_erase,
)

UTC = timezone.utc


def image(day: str, **members: object) -> Image:
    """An image of 02:00 UTC on a day, or of a whole ISO time."""
    text = day if "T" in day else f"{day}T02:00:00Z"
    return Image(_clock.image_id(_clock.parse(text)), **members)  # type: ignore[arg-type]


def january(*days: int) -> list[Image]:
    return [image(f"2026-01-{day:02}") for day in days]


def policy(days: int = 14, minimum: int = 3, zone: tzinfo = UTC) -> Policy:
    return Policy(days, minimum, zone)


def left(images: list[Image], rule: Policy, standby: str | None = None) -> list[Image]:
    return [verdict.image for verdict in decide(images, rule, newest_of(images), standby) if not verdict.erase]


def reasons(images: list[Image], rule: Policy, standby: str | None = None) -> dict[str, str]:
    return {verdict.image.id: verdict.reason for verdict in decide(images, rule, newest_of(images), standby)}


def test_the_run_of_january_15th_erases_january_1st_and_leaves_fourteen() -> None:
    images: list[Image] = []
    for day in range(1, 16):
        images = left([*images, *january(day)], policy())
        if day < 15:
            assert images == january(*range(1, day + 1)), "nothing goes before the fifteenth"
    assert images == january(*range(2, 16))


def test_with_three_days_the_second_vm_keeps_three() -> None:
    images: list[Image] = []
    for day in range(1, 16):
        images = left([*images, *january(day)], policy(days=3))
    assert images == january(13, 14, 15)


@pytest.mark.parametrize(("days", "minimum", "stay"), [(14, 3, 3), (14, 1, 1), (2, 3, 2), (1, 3, 1), (14, 20, 14)])
def test_after_thirty_days_of_silence_the_minimum_remains(days: int, minimum: int, stay: int) -> None:
    images = [*january(*range(2, 16)), image("2026-02-14")]
    assert left(images, policy(days, minimum)) == images[-stay:]


def test_a_night_without_an_image_costs_none() -> None:
    verdicts = decide(january(1, 2, 3, 30), policy(), None)
    assert not any(verdict.erase for verdict in verdicts)
    assert {verdict.reason for verdict in verdicts} == {"there is no newest image to count from"}


def test_pinned_and_read_images_and_the_standbys_base_stay() -> None:
    pinned = replace(image("2026-01-01"), pinned_by=("audit",))
    read = replace(image("2026-01-02"), reading=True)
    base, old, *young = january(3, 4, 28, 29, 30)
    images = [pinned, read, base, old, *young]
    assert left(images, policy(), base.id) == [pinned, read, base, *young]
    said = reasons(images, policy(), base.id)
    assert said[pinned.id] == "pinned by audit"
    assert said[read.id] == "being read"
    assert said[base.id] == "the standby's generation is based on it and the standby has nothing newer"
    assert said[old.id] == f"26 days older than the newest image {young[-1].id}, 14 are kept"
    assert said[young[0].id] == f"2 days older than the newest image {young[-1].id}, 14 are kept"
    assert said[young[-1].id] == "the newest image"


def test_pinned_images_count_towards_the_minimum() -> None:
    pinned = [replace(one, pinned_by=("audit",)) for one in january(1, 2)]
    images = [*pinned, *january(3), image("2026-02-14")]
    assert left(images, policy(minimum=3)) == [*pinned, images[-1]]


def test_a_damaged_image_neither_counts_nor_is_counted_from() -> None:
    broken = [replace(one, complete=False) for one in january(1, 16)]
    whole = january(2, 3, 4)
    images = [broken[0], *whole, broken[1]]
    assert newest_of(images) == whole[-1]
    assert left(images, policy(days=1, minimum=3)) == [whole[-1], broken[1]]
    assert left([broken[0], *january(16)], policy(days=3)) == [broken[0], *january(16)], (
        "too few whole ones to erase any"
    )
    said = reasons([broken[0], *january(14, 15, 16)], policy(days=3))
    assert said[broken[0].id].startswith("not complete and 15 days older")


def test_what_only_the_minimum_keeps_says_so() -> None:
    said = reasons([*january(1, 2), image("2026-03-01")], policy())
    assert said["20260101T020000Z"] == "only 3 complete images are left, and 3 stay whatever their age"


def test_an_image_of_a_lower_epoch_taken_later_is_not_old() -> None:
    diverged = image("2026-01-20")
    newest = image("2026-01-05", epoch=2)
    assert newest_of([diverged, newest]) == newest
    assert left([diverged, newest], policy(days=1, minimum=1)) == [newest, diverged]


@pytest.mark.parametrize(
    ("zone", "old", "new", "goes"),
    [
        # 25 hours apart but the same two calendar days in UTC; in Amsterdam 23:30Z is the day after.
        ("UTC", "2026-01-01T23:30:00Z", "2026-01-02T00:30:00Z", True),
        ("Europe/Amsterdam", "2026-01-01T23:30:00Z", "2026-01-02T00:30:00Z", False),
        ("America/New_York", "2026-01-02T04:59:59Z", "2026-01-02T05:00:00Z", True),
        # Amsterdam's day of 23 hours (29 March) and of 25 hours (25 October).
        ("Europe/Amsterdam", "2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z", False),
        ("Europe/Amsterdam", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", True),
        ("Europe/Amsterdam", "2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z", False),
        ("Europe/Amsterdam", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", True),
    ],
)
def test_days_are_the_owners_calendar_days(zone: str, old: str, new: str, goes: bool) -> None:
    images = [image(old), image(new)]
    assert left(images, policy(1, 1, _clock.zone(zone))) == (images[1:] if goes else images)


def test_the_next_one_to_go_is_told_with_its_day() -> None:
    found = next_erase(january(*range(2, 16)), policy())
    assert found is not None
    assert (found.image, found.day) == (january(2)[0], date(2026, 1, 16))


def test_a_lone_image_goes_when_its_successors_make_the_minimum() -> None:
    found = next_erase(january(1), policy())
    assert found is not None
    assert found.day == date(2026, 1, 15)


def test_without_images_or_with_all_pinned_nothing_is_next() -> None:
    assert next_erase([], policy()) is None
    pinned = [replace(one, pinned_by=("audit",)) for one in january(1, 2, 3)]
    found = next_erase([*pinned, *january(4)], policy())
    assert found is not None
    assert found.image == january(4)[0]


def every_day(begin: date, end: date, rule: Policy) -> list[Image]:
    """What is left of an image a day, erased from every day."""
    images: list[Image] = []
    for ahead in range((end - begin).days + 1):
        images = left([*images, image((begin + timedelta(days=ahead)).isoformat())], rule)
    return images


def test_weeks_months_and_years_stay_beside_the_days() -> None:
    # 2026-03-15 is a Sunday; the week of January 1st 2026 is the first of that year and begins in 2025.
    rule = Policy(3, 1, UTC, weekly=3, monthly=4, yearly=2)
    kept = every_day(date(2025, 10, 1), date(2026, 3, 18), rule)
    assert [one.id[:8] for one in kept] == [
        "20251231",  # the year 2025, and December
        "20260131",
        "20260228",
        "20260308",  # the second last whole week
        "20260315",
        "20260316",  # three days
        "20260317",
        "20260318",
    ]
    assert reasons(kept, rule)["20251231T020000Z"] == "the newest image of 2025-12, and those of 4 months are kept"
    assert reasons(kept, rule)["20260308T020000Z"] == "the newest image of 2026-W10, and those of 3 weeks are kept"


def test_a_week_without_an_image_is_none() -> None:
    images = [image("2026-01-07"), image("2026-02-11"), image("2026-03-02"), image("2026-03-03")]
    assert left(images, Policy(1, 1, UTC, weekly=3)) == [images[0], images[1], images[3]]


def test_a_damaged_image_stands_for_no_week() -> None:
    whole, broken = image("2026-01-05"), image("2026-01-06", complete=False)
    assert left([whole, broken, image("2026-01-14")], Policy(1, 1, UTC, weekly=2)) == [whole, image("2026-01-14")]


def test_an_old_year_does_not_hide_what_goes_next() -> None:
    images = [image("2024-12-31"), *january(*range(2, 16))]
    found = next_erase(images, Policy(14, 3, UTC, yearly=3))
    assert found is not None
    assert (found.image, found.day) == (images[1], date(2026, 1, 16))


def test_a_year_that_runs_out_is_next() -> None:
    images = [image("2024-12-31"), *(image(f"2025-12-{day}") for day in range(25, 32))]
    found = next_erase(images, Policy(14, 3, UTC, yearly=2))
    assert found is not None
    assert (found.image, found.day) == (images[0], date(2026, 1, 1))


ZONES = st.sampled_from(["UTC", "Europe/Amsterdam", "America/New_York", "Pacific/Kiritimati", "Pacific/Marquesas"])
PERIODS = st.one_of(st.just(0), st.integers(0, 9))
RULES = st.builds(
    lambda days, minimum, zone, *periods: Policy(days, minimum, _clock.zone(zone), *periods),
    st.integers(1, 40),
    st.integers(1, 8),
    ZONES,
    PERIODS,
    PERIODS,
    PERIODS,
)


@st.composite
def stores(draw: st.DrawFn) -> list[Image]:
    begin = datetime(2026, 2, 20, 2, tzinfo=UTC)
    minutes = draw(st.lists(st.integers(0, 80 * 24 * 60), max_size=30, unique=True))
    return [
        Image(
            _clock.image_id(begin + timedelta(minutes=minute)),
            draw(st.sampled_from([1, 1, 1, 2])),
            draw(st.sampled_from([True, True, True, False])),
            draw(st.sampled_from([(), (), (), ("audit",)])),
            draw(st.sampled_from([False, False, False, True])),
        )
        for minute in minutes
    ]


@given(stores(), RULES)
def test_a_second_pass_erases_nothing(images: list[Image], rule: Policy) -> None:
    once = left(images, rule)
    assert left(once, rule) == once


@given(stores(), RULES)
@example(january(1, 2, 3), Policy(1, 1, UTC))
def test_never_fewer_than_the_minimum_remain(images: list[Image], rule: Policy) -> None:
    whole = sum(one.complete for one in images)
    assert sum(one.complete for one in left(images, rule)) >= min(whole, rule.floor)


@given(stores(), RULES)
def test_the_newest_complete_image_stays(images: list[Image], rule: Policy) -> None:
    newest = newest_of(images)
    assume(newest is not None)
    assert newest in left(images, rule)


@given(stores(), RULES, st.integers(0, 10))
@example(
    [
        Image("20260220T020000Z"),
        Image("20260220T020200Z", epoch=2),
        Image("20260326T024000Z"),
        Image("20260402T000000Z", epoch=2),
    ],
    Policy(2, 2, UTC),
    6,
)
def test_more_days_never_erase_more(images: list[Image], rule: Policy, more: int) -> None:
    longer = replace(rule, days=rule.days + more)
    assert set(left(images, rule)) <= set(left(images, longer))


@given(stores(), RULES)
def test_pins_readers_and_the_standby_are_never_robbed(images: list[Image], rule: Policy) -> None:
    for base in [*images, None]:
        kept = left(images, rule, base and base.id)
        assert base is None or base in kept
        assert all(one in kept for one in images if one.pinned_by or one.reading)


@given(stores(), RULES)
@example(
    [image("2025-12-31"), image("2026-01-05"), image("2026-01-06"), image("2026-12-01")],
    Policy(14, 3, UTC, yearly=2),
)
def test_rules_for_longer_only_ever_keep_more(images: list[Image], rule: Policy) -> None:
    days_alone = replace(rule, weekly=0, monthly=0, yearly=0)
    assert set(left(images, days_alone)) <= set(left(images, rule))
    for member in ("weekly", "monthly", "yearly"):
        more = replace(rule, **{member: getattr(rule, member) + 1})
        assert set(rule.ruled(images)) <= set(more.ruled(images))


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=90),
    st.integers(1, 20),
    ZONES,
    PERIODS,
    PERIODS,
    PERIODS,
)
def test_erasing_every_night_leaves_what_erasing_once_would(
    gaps: list[int], days: int, zone: str, weekly: int, monthly: int, yearly: int
) -> None:
    """Nothing that a later night's rule wants has been erased by an earlier one's."""
    rule = Policy(days, 1, _clock.zone(zone), weekly, monthly, yearly)
    day, whole, kept = date(2025, 11, 3), [], []
    for gap in gaps:
        day += timedelta(days=gap)
        whole.append(image(day.isoformat()))
        kept = left([*kept, whole[-1]], rule)
    assert kept == left(whole, rule)


@given(stores(), RULES)
def test_only_images_of_the_retained_age_go(images: list[Image], rule: Policy) -> None:
    newest = newest_of(images)
    for verdict in decide(images, rule, newest):
        assert verdict.reason
        if verdict.erase:
            assert newest is not None
            assert (rule.day(newest) - rule.day(verdict.image)).days >= rule.days


@given(stores(), RULES)
@example(
    [
        Image("20260220T020000Z", pinned_by=("audit",)),
        Image("20260221T120100Z", complete=False),
    ],
    Policy(1, 1, UTC),
)
def test_what_is_told_to_go_next_goes_on_that_day_and_nothing_goes_before(images: list[Image], rule: Policy) -> None:
    images = left(images, rule)
    found = next_erase(images, rule)
    newest = newest_of(images)
    assume(newest is not None and found is not None)
    day = rule.day(newest) + timedelta(days=1)
    store = images
    while True:
        at = datetime.combine(day, datetime.min.time().replace(hour=12), rule.zone)
        store = [*store, Image(_clock.image_id(at), newest.epoch)]
        kept = left(store, rule)
        gone = [one for one in images if one not in kept]
        if gone:
            assert (found.image in gone, day) == (True, found.day)
            return
        store = kept
        assert day < found.day
        day += timedelta(days=1)
