# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rates, windows and slots."""

from __future__ import annotations

import fcntl
import os
import threading
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _limits
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._limits import (
    PIECE_BYTES,
    Limits,
    Slot,
    Window,
    grant_all,
    spend,
)
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._wire import Wire

RATE = 1_000_000


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=300), st.integers(1 << 16, 1 << 30))
def test_a_rate_is_never_passed_by_more_than_a_burst(thinking: list[float], rate: int) -> None:
    """Whatever time passes between pieces, so much has travelled at most as the rate gives in the time it took."""
    now = tokens = sent = last = 0.0
    for pause in thinking:
        now += pause
        tokens, wait = spend(tokens, now - last, rate, PIECE_BYTES)
        last = now
        now += wait
        sent += PIECE_BYTES
        assert sent <= rate * now * 1.0001 + rate * 0.1 + 1


def test_a_busy_transfer_reaches_its_rate() -> None:
    now = tokens = last = 0.0
    for _each in range(160):
        tokens, wait = spend(tokens, now - last, RATE, PIECE_BYTES)
        last = now
        now += wait
    assert 160 * PIECE_BYTES / now == pytest.approx(RATE, rel=0.02)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("window", "now", "opens"),
    [
        ("22:00-06:00", "2026-01-14 23:00", None),
        ("22:00-06:00", "2026-01-14 22:00", None),
        ("22:00-06:00", "2026-01-14 05:59:59", None),
        ("22:00-06:00", "2026-01-14 06:00", "2026-01-14 22:00"),
        ("01:00-05:30", "2026-01-14 05:30", "2026-01-15 01:00"),
        ("01:00-05:30", "2026-01-14 00:30", "2026-01-14 01:00"),
        ("01:00-05:30", "2026-12-31 12:00", "2027-01-01 01:00"),
    ],
)
def test_window(window: str, now: str, opens: str | None) -> None:
    assert Window.parse(window, "UTC").opens(at(now)) == (at(opens) if opens else None)


def test_a_window_is_of_the_clock_on_the_wall() -> None:
    window = Window.parse("22:00-06:00", "Europe/Amsterdam")
    assert window.opens(at("2026-07-14 20:30")) is None
    assert window.opens(at("2026-01-14 20:30")) == at("2026-01-14 21:00")
    # The night in which summer time begins: 22:00 on the wall is an hour earlier in UTC than the day before.
    assert window.opens(at("2026-03-29 12:00")) == at("2026-03-29 20:00")


@given(st.integers(0, 1439), st.integers(0, 1439), st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)))
def test_a_window_opens_when_it_says(begin: int, end: int, now: datetime) -> None:
    if begin == end:
        return
    text = f"{begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"
    window, when = Window.parse(text, "UTC"), now.replace(tzinfo=timezone.utc)
    opens = window.opens(when)
    if opens is not None:
        assert when < opens <= when + timedelta(days=1)
        assert window.opens(opens) is None
        assert window.opens(opens - timedelta(seconds=1)) is not None


@pytest.mark.parametrize("text", ["", "22:00", "22:00-22:00", "24:00-06:00", "22:60-06:00", "at night"])
def test_no_window(text: str) -> None:
    with pytest.raises(ResilientVmError, match="write it like 22:00-06:00"):
        Window.parse(text, "UTC")


def test_outside_its_window_a_transfer_says_until_when_and_goes_on_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [at("2026-01-14 21:59:58")]
    monkeypatch.setattr(_limits._clock, "now", lambda _override: clock[0])
    said: list[str] = []

    def sleep(seconds: float) -> None:
        clock[0] += timedelta(seconds=seconds)

    Limits(window=Window.parse("22:00-06:00", "UTC"), sleep=sleep).take(1, said.append)
    assert said == ["2026-01-14T22:00:00Z"] * 2


def test_transfers_of_one_machine_share_its_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rate.json").write_text("")
    now = [1000.0]
    monkeypatch.setattr(_limits.time, "monotonic", lambda: now[0])

    def sleep(seconds: float) -> None:
        now[0] += seconds

    two = [Limits(machine_rate=RATE, shared=str(tmp_path), sleep=sleep) for _each in range(2)]
    for _each in range(100):
        for limits in two:
            limits.take(PIECE_BYTES, print)
    assert 200 * PIECE_BYTES / (now[0] - 1000) == pytest.approx(RATE, rel=0.02)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"tokens": "many"}', '{"tokens": 5'])
def test_a_bucket_that_a_killed_transfer_left_half_written_is_an_empty_one(tmp_path: Path, content: str) -> None:
    (tmp_path / "rate.json").write_text(content)
    waited: list[float] = []
    Limits(machine_rate=RATE, shared=str(tmp_path), sleep=waited.append).take(PIECE_BYTES, print)
    assert sum(waited) <= PIECE_BYTES / RATE


@pytest.mark.parametrize("there", [True, False])
def test_what_is_not_as_site_laid_it_is_not_used(tmp_path: Path, there: bool) -> None:
    """Through a link another customer's files would be overwritten."""
    (tmp_path / "victim").write_text("precious")
    for name in ("rate.json", "slot.0") if there else ():
        (tmp_path / name).symlink_to(tmp_path / "victim")
    with pytest.raises(ResilientVmError, match=r"rate\.json, by which .* run the site playbook"):
        Limits(machine_rate=RATE, shared=str(tmp_path)).take(PIECE_BYTES, print)
    with pytest.raises(ResilientVmError, match=r"slot\.0, by which .* run the site playbook"):
        Slot(str(tmp_path), 1, pytest.fail).take()
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_rate_that_cannot_be_kept_ends_the_copy_with_its_reason(tmp_path: Path) -> None:
    limits = Limits(machine_rate=RATE, shared=str(tmp_path / "gone"))
    down, up = os.pipe(), os.pipe()
    here, there = Wire(down[0], up[1], "there"), Wire(up[0], down[1], "here")
    threading.Thread(target=grant_all, args=(here, limits, print), daemon=True).start()
    with pytest.raises(ResilientVmError, match=r"rate\.json, by which the copies .*; run the site playbook"):
        here.receive()
    # And where this end sends.
    there.gate = partial(limits.take, paused=print)

    def send_on() -> None:
        for number in range(100):
            there.send_data(number, 1, bytes(32), bytes(1 << 16))

    with pytest.raises(ResilientVmError, match="run the site playbook"):
        send_on()
    here.close()
    there.close()


@pytest.fixture
def slots(tmp_path: Path) -> Path:
    for number in range(2):
        (tmp_path / f"slot.{number}").touch()
    return tmp_path


def test_site_lays_as_many_slots_as_may_be_asked_for() -> None:
    tasks = Path(__file__).parents[4] / "roles/machine/tasks/main.yml"
    assert f"for number in range({_limits.SLOTS}) " in tasks.read_text()


def test_a_slot_is_waited_for_and_given_back(slots: Path) -> None:
    first, second = (Slot(str(slots), 2, print) for _each in range(2))
    first.take()
    second.take()
    waits = 0

    def waiting() -> None:
        nonlocal waits
        waits += 1
        if waits == 3:
            first.free()

    third = Slot(str(slots), 2, waiting, sleep=lambda _seconds: None)
    with third:
        assert waits == 3
        second.free()
    with open(slots / "slot.0", "rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_outside_its_window_a_transfer_keeps_nobody_from_theirs(slots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [at("2026-01-14 21:59:58")]
    monkeypatch.setattr(_limits._clock, "now", lambda _override: clock[0])
    waits: list[str] = []

    def busy() -> None:
        waits.append("busy")
        other.free()

    mine, other = Slot(str(slots), 1, busy, sleep=lambda _seconds: None), Slot(str(slots), 1, pytest.fail)

    def sleep(seconds: float) -> None:
        """The other one has it for as long as this one is paused, and longer."""
        other.take()
        clock[0] += timedelta(seconds=seconds)

    with mine:
        Limits(window=Window.parse("22:00-06:00", "UTC"), sleep=sleep).take(1, waits.append, mine)
        assert waits == ["2026-01-14T22:00:00Z"] * 2 + ["busy"]
        with pytest.raises(BlockingIOError), open(slots / "slot.0", "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_transfer_that_is_over_takes_no_slot_again(slots: Path) -> None:
    """The thread that grants bytes may still wait for the window of a connection that broke."""
    with Slot(str(slots), 1, pytest.fail) as slot:
        slot.free()
    slot.take()
    Slot(str(slots), 1, pytest.fail).take()
