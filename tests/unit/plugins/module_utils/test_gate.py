# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about opening the gate: what answers mean, and what a host does after its boot."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.gate_fakes import OWN, UUID, World

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _gate, _registry
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._gate import Answer
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._registry import PROBE
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._transitions import PHASES, named

SILENT = Answer("c", None, said="Connection refused")


def answer(epoch: int, active: str, machine: str = "c", phase: str = "protected") -> Answer:
    return Answer(machine, epoch, active, phase=phase)


BOTH = [answer(3, "a"), answer(3, "a", "b")]
NOBODY = [SILENT, replace(SILENT, machine="b")]
ALONE = replace(OWN, phase="failed_over", unwitnessed="2026-01-14T02:00:00Z")


@pytest.mark.parametrize(
    "answers, unconfirmed, expected",
    [
        (BOTH, False, (True, True, "confirmed by c and b")),
        ([SILENT, answer(3, "a", "b")], False, (True, True, "confirmed by b")),
        # The other host may have taken it over while the backup storage was out of its reach.
        (
            [answer(3, "a"), NOBODY[1]],
            False,
            (False, False, "b has to say that it has not taken acme/erp over by itself"),
        ),
        ([answer(3, "a"), NOBODY[1]], True, (True, True, "b could not be asked, and resilient_vm_start_unconfirmed")),
        (
            [answer(3, "a"), answer(4, "b", "b")],
            True,
            (False, True, "b says the active host of acme/erp is b since epoch 4"),
        ),
        # It can't where it does not stand by.
        ([answer(3, "a", phase="failed_over")], False, (True, True, "confirmed by c")),
        ([answer(3, "a", phase="reprotecting")], False, (True, True, "confirmed by c")),
        # What it is about to do only the backup storage can say.
        ([answer(3, "a"), answer(3, "a", "b", "intended")], False, (True, True, "confirmed by c and b")),
        ([SILENT, answer(3, "a", "b", "intended")], False, (False, False, "b is about to take acme/erp over")),
        ([answer(4, "b")], False, (False, True, "the VM moved while this host was away")),
        ([SILENT, answer(4, "b", "b")], True, (False, True, "the VM moved while this host was away")),
        # A backup storage that was put back to an older day, and one that contradicts.
        ([answer(2, "b")], True, (False, False, "find out where it runs")),
        ([answer(3, "b")], True, (False, False, "find out where it runs")),
        (NOBODY, False, (False, False, "nobody could confirm that this host is")),
        (NOBODY, True, (True, True, "nobody could be asked, and resilient_vm_start_unconfirmed is set")),
    ],
)
def test_what_answers_mean(answers: list[Answer], unconfirmed: bool, expected: tuple[bool, bool, str]) -> None:
    *flags, why = _gate.verdict(OWN, answers, unconfirmed)
    assert tuple(flags) == expected[:2]
    assert expected[2] in why


@pytest.mark.parametrize(
    "answers, is_open",
    [
        (NOBODY, True),
        # What they held before.
        ([answer(2, "b"), answer(2, "b", "b")], True),
        ([answer(2, "b"), NOBODY[1]], True),
        ([answer(4, "b"), NOBODY[1]], False),
        ([answer(2, "b"), answer(4, "b", "b")], False),
        ([answer(3, "b")], False),
    ],
)
def test_a_host_that_took_it_over_by_itself_needs_no_word_and_heeds_a_newer_one(
    answers: list[Answer], is_open: bool
) -> None:
    assert _gate.verdict(ALONE, answers, False)[0] is is_open


def test_of_a_host_that_is_gone_for_good_nothing_is_waited_for() -> None:
    assert _gate.verdict(OWN, [answer(3, "a"), NOBODY[1]], False, ["b"]) == (True, True, "confirmed by c")
    assert not _gate.verdict(OWN, NOBODY, False, ["b"])[0]


def answers_of(machine: str) -> st.SearchStrategy[Answer]:
    phases = st.sampled_from(["protected", "failed_over", "reprotecting", "maintenance", "intended", ""])
    given = st.builds(answer, st.integers(1, 5), st.sampled_from(["a", "b"]), st.just(machine), phases)
    return st.one_of(st.just(replace(SILENT, machine=machine)), given)


@given(storage=answers_of("c"), other=answers_of("b"), unconfirmed=st.booleans())
def test_only_who_knows_and_says_the_same_opens_it(storage: Answer, other: Answer, unconfirmed: bool) -> None:
    is_open, final, why = _gate.verdict(OWN, [storage, other], unconfirmed)
    given = [each for each in (storage, other) if each.epoch is not None]
    same = all((each.epoch, each.active) == (3, "a") for each in given)
    nobody_stands_by = storage.epoch is not None and storage.phase in ("failed_over", "reprotecting")
    said = other.epoch is not None and (other.phase != "intended" or storage.epoch is not None)
    assert is_open == (same and (nobody_stands_by or said or unconfirmed))
    assert final == (is_open or _first_that_differs(given) > 3)
    assert why


def _first_that_differs(given: list[Answer]) -> int:
    return next((each.epoch or 0 for each in given if (each.epoch, each.active) != (3, "a")), 0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.register()
    world.holds(OWN)
    world.boots("one")
    return world


def test_after_a_boot_it_asks_the_storage_opens_starts_and_is_done(world: World) -> None:
    assert world.hook() == 1
    assert world.boot_unit() == 0
    assert world.asked == ["192.0.2.13", "192.0.2.12"]
    assert world.running == {UUID}
    assert world.stopped == ["resilient-vm-gate.timer"]
    assert world.hook() == 0


def test_within_one_boot_nobody_is_asked_again_and_what_was_shut_down_stays_so(world: World) -> None:
    world.boot_unit()
    world.running.clear()
    world.answers.clear()
    assert world.boot_unit() == 0
    assert len(world.asked) == 2
    assert not world.running
    assert world.hook() == 0


def test_the_next_boot_asks_anew(world: World) -> None:
    world.boot_unit()
    world.boots("two")
    assert world.hook() == 1
    assert world.boot_unit() == 0
    assert world.running == {UUID}


def test_a_silent_storage_is_replaced_by_the_other_host(world: World) -> None:
    world.answers = {"192.0.2.12": "3 a\n"}
    assert world.boot_unit() == 0
    assert world.running == {UUID}
    said = json.loads((world.place / "confirmed" / f"{UUID}.json").read_text())
    assert said == {"boot_id": "one", "epoch": 3, "why": "confirmed by b", "when": "2026-01-14T02:00:00Z"}


def test_while_nobody_answers_it_stays_closed_and_is_started_later(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.answers.clear()
    assert world.boot_unit() == 1
    assert (
        "(c: ssh: connect to host 192.0.2.13 port 22: No route to host; b: ssh: connect to host "
        in capsys.readouterr().err
    )
    assert not world.running and world.hook() == 1 and not world.stopped
    world.answers["192.0.2.13"] = "3 a protected\n"
    assert world.boot_unit() == 1
    assert "c knows of nothing new, but b has to say" in capsys.readouterr().err
    world.answers["192.0.2.12"] = "3 a protected\n"
    assert world.boot_unit() == 0
    assert world.running == {UUID}


def test_where_nobody_stands_by_the_storage_alone_is_asked(world: World) -> None:
    world.answers = {"192.0.2.13": "3 a failed_over\n"}
    assert world.boot_unit() == 0
    assert world.asked == ["192.0.2.13"] and world.running == {UUID}


def test_before_a_boot_both_are_asked_at_once(world: World) -> None:
    met = threading.Barrier(2, timeout=10)

    def run(argv: list[str], **options: Any) -> Completed:
        met.wait()
        return world.run(argv, **options)

    entry = world.gate.registry.read()[0][0]
    assert replace(world.gate, run=run).after_a_boot(entry) == ""
    assert sorted(world.asked) == ["192.0.2.12", "192.0.2.13"]


def test_before_a_boot_the_storage_alone_is_believed_as_after_it(world: World) -> None:
    """The other host, where nobody stands by, may not have heard of anything yet, or be gone: it is not waited for."""
    world.holds(replace(OWN, phase="failed_over"))
    world.answers = {"192.0.2.13": "3 a failed_over\n", "192.0.2.12": "2 b protected\n"}
    assert world.gate.after_a_boot(world.gate.registry.read()[0][0]) == ""
    assert world.asked == ["192.0.2.13"]
    world.holds(OWN)
    assert world.gate.after_a_boot(world.gate.registry.read()[0][0]) == ""


def test_a_host_that_is_gone_for_good_is_not_waited_for(world: World) -> None:
    world.answers = {"192.0.2.13": "3 a protected\n"}
    world.register(lost=("b",))
    assert world.boot_unit() == 0
    assert world.running == {UUID}


def test_the_phases_in_which_nobody_stands_by_know_no_takeover() -> None:
    for phase in _gate._NOBODY_STANDS_BY:
        assert phase in PHASES and phase not in named("fail_over").before


def test_unless_its_owner_wants_it_started_then(world: World) -> None:
    world.answers.clear()
    world.register(start_unconfirmed=True)
    assert world.boot_unit() == 0
    assert world.running == {UUID}


def test_a_vm_that_moved_stays_down_and_nothing_is_left_to_ask(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.answers["192.0.2.13"] = "4 b\n"
    assert world.boot_unit() == 0
    assert not world.running and world.hook() == 1
    assert "acme/erp: closed, c says the active host of acme/erp is b since epoch 4" in capsys.readouterr().out


def test_an_answer_that_is_none_counts_as_silence(world: World) -> None:
    world.answers = {"192.0.2.13": "Welcome to c\n3 a\n", "192.0.2.12": "3 a\n"}
    assert world.boot_unit() == 0
    assert world.asked == ["192.0.2.13", "192.0.2.12"]


def test_a_host_that_only_stands_by_asks_nobody(world: World) -> None:
    world.holds(replace(OWN, active="b", standby="a"))
    assert world.boot_unit() == 0
    assert not world.asked and not world.running and world.hook() == 1


def test_what_its_owner_does_not_want_started_is_confirmed_only(world: World) -> None:
    world.register(autostart=False)
    assert world.boot_unit() == 0
    assert not world.running and world.hook() == 0


def test_what_is_off_when_the_gate_is_first_laid_stays_off(world: World) -> None:
    assert world.gate.waiting(first=False) == []
    assert world.boot_unit() == 0
    assert not world.running


def test_a_start_that_fails_is_told_and_tried_again(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.broken = "no network br0"
    assert world.boot_unit() == 1
    assert "no network br0" in capsys.readouterr().err
    world.broken = ""
    assert world.boot_unit() == 0
    assert world.running == {UUID}


@pytest.mark.parametrize("fault", ["state", "entry"])
def test_one_damaged_file_keeps_no_other_vm_down(world: World, fault: str) -> None:
    other = "11111111-2222-4333-8444-555555555555"
    if fault == "entry":
        (world.place / "gate" / f"{other}.json").write_text("{")
    else:
        world.register(uuid=other, vm="crm", state=str(world.place / "nothing.json"))
    assert world.boot_unit() == 1
    assert world.running == {UUID}


def test_a_vm_that_is_forgotten_in_this_moment_is_nobody_s_problem(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its entry was listed, and is gone before it is read."""
    gone = world.place / "gate" / "11111111-2222-4333-8444-555555555555.json"
    gone.write_text("{}")
    read = _registry.read_json

    def meanwhile(path: str) -> Any:
        gone.unlink(missing_ok=True)
        return read(path)

    monkeypatch.setattr(_registry, "read_json", meanwhile)
    entries, problems = world.gate.registry.read()
    assert [entry.uuid for entry in entries] == [UUID] and not problems


def test_an_entry_that_another_account_has_laid_opens_and_stops_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the folder ever written through a link, as nothing of root's should, the file would be the account's."""
    laid = world.place / "gate" / f"{UUID}.json"
    laid.with_name("damaged.json").write_text(laid.read_text())
    entries, problems = world.gate.registry.read()
    assert [entry.uuid for entry in entries] == [UUID]
    assert problems == [f"{laid.with_name('damaged.json')} is none of the site playbook's; erase it"]
    monkeypatch.setattr(_registry.os, "geteuid", lambda: 12345)
    assert not world.gate.registry.read()[0]


def test_a_dry_look_opens_nothing(world: World) -> None:
    assert [opening.open for opening in world.gate.openings(dry=True)] == [True]
    assert not os.path.exists(world.place / "confirmed")


def test_the_throwaway_domain_is_no_vm(world: World) -> None:
    world.register(uuid=PROBE)
    assert [entry.uuid for entry in world.gate.registry.read()[0]] == [UUID]
