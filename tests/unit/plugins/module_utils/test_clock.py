# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about instants, image ids, time zones and calendar days."""

from __future__ import annotations

import zoneinfo
from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError

INSTANTS = st.datetimes(
    min_value=datetime(1900, 1, 1), max_value=datetime(9000, 1, 1), timezones=st.just(timezone.utc)
).map(lambda when: when.replace(microsecond=0))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-14T02:00:00Z", "2026-01-14T02:00:00Z"),
        ("2026-01-14T02:00:00+00:00", "2026-01-14T02:00:00Z"),
        ("2026-01-14 02:00Z", "2026-01-14T02:00:00Z"),
        ("2026-01-14T02:00:00+0100", "2026-01-14T01:00:00Z"),
        ("2026-01-14T02:00:00-05:30", "2026-01-14T07:30:00Z"),
        ("2026-01-14T02:00:00.123456789Z", "2026-01-14T02:00:00Z"),
        (" 2026-01-14T02:00:00+01 ", "2026-01-14T01:00:00Z"),
    ],
)
def test_an_override_replaces_the_clock(text: str, expected: str) -> None:
    assert _clock.iso(_clock.now(text)) == expected


@pytest.mark.parametrize(
    "text", ["tomorrow", "2026-01-14", "2026-01-14T02:00:00", "1768356000", "2026-02-30T02:00:00Z"]
)
def test_a_bad_override_is_one_sentence_with_the_text_in_it(text: str) -> None:
    with pytest.raises(ResilientVmError) as failure:
        _clock.now(text)
    assert "resilient_vm_now" in str(failure.value) and text in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("override", [None, ""])
def test_without_an_override_it_is_the_clock_in_utc(override: str | None) -> None:
    before = datetime.now(timezone.utc)
    found = _clock.now(override)
    assert before <= found <= datetime.now(timezone.utc)
    assert found.utcoffset() == timedelta(0)


@given(INSTANTS)
def test_an_id_names_its_instant(when: datetime) -> None:
    assert _clock.instant(_clock.image_id(when)) == when
    assert _clock.parse(_clock.iso(when)) == when


@given(INSTANTS, INSTANTS)
def test_ids_sort_as_their_instants(first: datetime, second: datetime) -> None:
    assert (_clock.image_id(first) < _clock.image_id(second)) == (first < second)


@pytest.mark.parametrize("text", ["", "latest", "20260114T020000", "20261314T020000Z", "../20260114T020000Z", None])
def test_what_is_no_image_id_is_refused(text: str | None) -> None:
    with pytest.raises(ResilientVmError, match="is not an image id"):
        _clock.instant(text)


@pytest.mark.parametrize("name", ["Europe/Amsterdm", "CEST?", "", "/etc/passwd", "../etc/passwd", "Europe"])
def test_a_wrong_time_zone_is_one_sentence(name: str) -> None:
    with pytest.raises(ResilientVmError) as failure:
        _clock.zone(name)
    assert f"resilient_vm_timezone is {name!r}, which is not a time zone" in str(failure.value)


def test_a_machine_without_a_time_zone_database_says_so_and_still_knows_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    monkeypatch.setattr(zoneinfo, "ZoneInfo", missing)
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    assert _clock.calendar_day(_clock.instant("20260114T235959Z"), _clock.zone("UTC")) == date(2026, 1, 14)
    with pytest.raises(ResilientVmError, match="no time zone database"):
        _clock.zone("Europe/Amsterdam")


@pytest.mark.parametrize(
    ("image_id", "name", "expected"),
    [
        ("20260114T233000Z", "UTC", date(2026, 1, 14)),
        ("20260114T233000Z", "Europe/Amsterdam", date(2026, 1, 15)),
        ("20260114T043000Z", "America/New_York", date(2026, 1, 13)),
        # Around the night in which Amsterdam's clocks go forward (01:00Z).
        ("20260328T225959Z", "Europe/Amsterdam", date(2026, 3, 28)),
        ("20260328T230000Z", "Europe/Amsterdam", date(2026, 3, 29)),
        ("20260329T220000Z", "Europe/Amsterdam", date(2026, 3, 30)),
    ],
)
def test_days_are_calendar_days_in_the_time_zone(image_id: str, name: str, expected: date) -> None:
    assert _clock.calendar_day(_clock.instant(image_id), _clock.zone(name)) == expected
