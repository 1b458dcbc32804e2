# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about restore points: what each form means, and what is said of one that means nothing."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._restore_point import Candidate, find

UTC = timezone.utc
AMSTERDAM = ZoneInfo("Europe/Amsterdam")
NOW = _clock.parse("2026-01-15T12:00:00Z")
ROTTEN = "disk vda is damaged at byte 65536"


def nights(*days: int, hour: int = 2) -> list[Candidate]:
    return [Candidate(f"202601{day:02}T{hour:02}0000Z") for day in days]


def means(wish: str, images: list[Candidate], zone: timezone | ZoneInfo = UTC, now: datetime = NOW) -> str:
    return find(wish, "erp", images, zone, now)


def sentence(wish: str, images: list[Candidate], zone: timezone | ZoneInfo = UTC, now: datetime = NOW) -> str:
    with pytest.raises(ResilientVmError) as caught:
        means(wish, images, zone, now)
    return str(caught.value)


HISTORY = nights(*range(2, 16))


@pytest.mark.parametrize(
    ("wish", "image_id"),
    [
        ("latest", "20260115T020000Z"),
        ("20260107T020000Z", "20260107T020000Z"),
        ("2026-01-07", "20260107T020000Z"),
        ("-8d", "20260107T020000Z"),
        ("-0d", "20260115T020000Z"),
    ],
)
def test_each_form_names_an_image(wish: str, image_id: str) -> None:
    assert means(wish, HISTORY) == image_id


def test_days_are_those_of_the_owners_time_zone() -> None:
    late = nights(13, hour=23)  # half past midnight of the 14th in Amsterdam
    assert means("2026-01-14", late, AMSTERDAM) == means("2026-01-13", late) == "20260113T230000Z"
    just_past_midnight = _clock.parse("2026-01-15T23:30:00Z")
    assert means("-2d", late, AMSTERDAM, just_past_midnight) == "20260113T230000Z"


def test_latest_is_of_the_newest_epoch_and_whole() -> None:
    behind = Candidate("20260116T020000Z", epoch=1)
    ahead = Candidate("20260115T030000Z", epoch=2)
    rotten = Candidate("20260117T020000Z", epoch=2, wrong=ROTTEN)
    assert means("latest", [behind, ahead, rotten]) == ahead.id


def test_of_a_day_with_one_whole_image_that_one_is_meant() -> None:
    assert means("2026-01-14", [Candidate("20260114T020000Z", wrong=ROTTEN), *nights(14, hour=9)]) == "20260114T090000Z"


GAP = nights(2, 3, 9)
TWO = [*nights(13), *nights(14), *nights(14, hour=9)]
DAMAGED = [*nights(13), Candidate("20260114T020000Z", wrong=ROTTEN)]


@pytest.mark.parametrize(
    ("wish", "images", "words"),
    [
        ("yesterday", HISTORY, ["'yesterday' of erp is none", "name an image id like"]),
        ("-8", HISTORY, ["'-8' of erp is none"]),
        ("2026-02-30", HISTORY, ["'2026-02-30' of erp is no day that exists"]),
        ("2026-01-16", HISTORY, ["2026-01-16 is in the future, today is 2026-01-15", "to 20260115T020000Z"]),
        ("2026-01-01", HISTORY, ["of 2026-01-01 is kept any more", "from 20260102T020000Z to 20260115T020000Z"]),
        ("-14d", HISTORY, ["of -14d (2026-01-01) is kept any more"]),
        ("20260107T030000Z", HISTORY, ["no image 20260107T030000Z of erp", "from 20260102T020000Z"]),
        ("2026-01-05", GAP, ["no image of erp of 2026-01-05", "nearest are 20260103T020000Z and 20260109T020000Z"]),
        ("-0d", GAP, ["no image of erp of -0d (2026-01-15)", "nearest are 20260109T020000Z"]),
        ("2026-01-14", TWO, ["several images of 2026-01-14: 20260114T020000Z, 20260114T090000Z", "by its id"]),
        ("2026-01-14", DAMAGED, [ROTTEN, "name another one: 20260113T020000Z"]),
        ("20260114T020000Z", DAMAGED, [ROTTEN, "name another one: 20260113T020000Z"]),
        ("latest", DAMAGED[1:], ["no image of erp can be restored", ROTTEN]),
        ("20260114T020000Z", DAMAGED[1:], ["no other one can be either"]),
        ("latest", [], ["there is no image of erp", "run the daily playbook"]),
        ("20260101T020000Z", nights(2), ["the only one is 20260102T020000Z"]),
    ],
)
def test_what_names_no_image_is_told_in_one_sentence(wish: str, images: list[Candidate], words: list[str]) -> None:
    said = sentence(wish, images)
    assert "\n" not in said
    for word in words:
        assert word in said


instants = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))
histories = st.lists(
    st.builds(
        lambda when, epoch, whole: Candidate(_clock.image_id(when), epoch, "" if whole else ROTTEN),
        instants,
        st.integers(1, 3),
        st.booleans(),
    ),
    unique_by=lambda image: image.id,
    max_size=20,
)
zones = st.sampled_from([UTC, AMSTERDAM, ZoneInfo("Pacific/Kiritimati"), ZoneInfo("America/St_Johns")])


@given(histories, zones, instants)
def test_an_id_means_exactly_itself(images: list[Candidate], zone: ZoneInfo, now: datetime) -> None:
    for image in images:
        if image.wrong:
            assert ROTTEN in sentence(image.id, images, zone, now)
        else:
            assert means(image.id, images, zone, now) == image.id


@given(histories, zones, instants, st.integers(0, 9999))
def test_a_day_means_the_one_whole_image_of_it_or_none(
    images: list[Candidate], zone: ZoneInfo, now: datetime, days: int
) -> None:
    day = _clock.calendar_day(now, zone) - timedelta(days=days)
    whole = [
        image.id for image in images if not image.wrong and _clock.calendar_day(_clock.instant(image.id), zone) == day
    ]
    for wish in (f"-{days}d", day.isoformat()):
        if len(whole) == 1:
            assert means(wish, images, zone, now) == whole[0]
        else:
            assert "\n" not in sentence(wish, images, zone, now)


@given(histories, zones, instants)
def test_every_day_with_one_image_is_found_by_its_date(images: list[Candidate], zone: ZoneInfo, now: datetime) -> None:
    days: dict[date, list[str]] = {}
    for image in images:
        if not image.wrong:
            days.setdefault(_clock.calendar_day(_clock.instant(image.id), zone), []).append(image.id)
    for day, ids in days.items():
        if len(ids) == 1:
            assert means(day.isoformat(), images, zone, now) == ids[0]
        else:
            said = sentence(day.isoformat(), images, zone, now)
            assert all(image_id in said for image_id in ids)


@given(st.text(max_size=12), histories, zones, instants)
def test_any_text_means_an_image_or_gets_one_sentence(
    wish: str, images: list[Candidate], zone: ZoneInfo, now: datetime
) -> None:
    said = ""
    try:
        found = find(wish, "erp", images, zone, now)
    except ResilientVmError as error:
        said = str(error)
    assert ("\n" not in said) if said else found in {image.id for image in images}
