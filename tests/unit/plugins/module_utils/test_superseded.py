# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about a host whose VM was taken over elsewhere while nobody could reach it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unit.gate_fakes import OWN, UUID, World

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _files, _gate, _journal, _superseded


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.active(tmp_path)


def test_while_it_is_the_active_host_nothing_happens(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.turn() == 0
    assert world.asked == ["192.0.2.13", "192.0.2.12"]
    assert world.running == {UUID} and world.hook() == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("address", ["192.0.2.13", "192.0.2.12"])
def test_what_moved_is_stopped_once_and_never_started_again(
    world: World, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.answers = {address: "4 b\n"}
    assert world.turn() == 1
    assert not world.running and world.hook() == 1
    assert "acme/erp was stopped on a: " in capsys.readouterr().err
    [entry] = _journal.read(str(world.place / "acme" / "erp" / "journal.jsonl"))
    assert (entry["what"], entry["epoch"], entry["active"]) == ("stop", 3, "a")
    assert world.turn() == 0
    assert world.boot_unit() == 0
    assert not world.running and world.hook() == 1


def test_what_the_other_host_took_over_by_itself_is_stopped_though_the_storage_knows_nothing(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.answers["192.0.2.12"] = "4 b failed_over\n"
    assert world.turn() == 1
    assert not world.running and world.hook() == 1
    assert "b says b is active since epoch 4" in capsys.readouterr().err


def test_the_gate_of_what_was_off_when_it_moved_closes_too(world: World) -> None:
    world.running.clear()
    world.answers["192.0.2.13"] = "4 b\n"
    assert world.turn() == 0
    assert world.hook() == 1


def test_what_is_no_longer_defined_here_leaves_nothing_to_stop(world: World) -> None:
    """Its disks were taken to another host by hand; asked every minute, this is no failure."""
    world.defined = False
    world.answers["192.0.2.13"] = "4 b\n"
    assert world.turn() == 0
    assert world.hook() == 1


@pytest.mark.parametrize("said", [{}, {"192.0.2.13": "2 b\n"}, {"192.0.2.13": "3 b\n"}, {"192.0.2.13": "4 a\n"}])
def test_silence_or_anything_but_a_higher_epoch_elsewhere_stops_nothing(world: World, said: dict[str, str]) -> None:
    """The backup storage that was put back to an older day knows less than this host."""
    world.answers = said
    assert world.turn() == 0
    assert world.running == {UUID} and world.hook() == 0


def moves(world: World) -> None:
    """A playbook tells this host that the VM lives on the other one."""
    state = world.place / "acme" / "erp" / "state.json"
    state.write_text(json.dumps(replace(OWN, epoch=4, active="b", standby="a").as_dict()))


def test_what_runs_on_where_a_playbook_told_that_it_moved_is_stopped(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    moves(world)
    assert world.turn() == 1
    assert not world.running and not world.asked
    assert "acme/erp was stopped on a: b is active since epoch 4" in capsys.readouterr().err
    assert world.turn() == 0


def test_a_host_that_only_stands_by_asks_nobody_and_nothing(world: World) -> None:
    moves(world)
    world.boots("two")
    Path(world.gate.registry.confirmation(UUID)).unlink()
    world.running.add("what libvirt is not asked about")
    assert world.turn() == 0
    assert not world.asked


def test_a_damaged_document_is_told_and_keeps_no_other_vm_running(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "11111111-2222-4333-8444-555555555555"
    world.register(uuid=other, vm="crm", state=str(world.place / "nothing.json"))
    world.answers["192.0.2.13"] = "4 b\n"
    assert world.turn() == 1
    assert "nothing.json" in capsys.readouterr().err
    assert not world.running


# where nobody answers

SILENT_SECONDS = 600


def cut_off(world: World) -> None:
    world.register(state=str(world.place / "acme" / "erp" / "state.json"), self_stop_seconds=SILENT_SECONDS)
    world.answers.clear()


def minutes(world: World, count: int) -> list[int]:
    """A look every minute."""
    codes = []
    for _minute in range(count):
        begun = world.clock
        codes.append(world.turn())
        world.clock = begun + 60
    return codes


def test_by_default_a_host_that_hears_of_nobody_runs_its_vm_for_ever(world: World) -> None:
    world.answers.clear()
    assert set(minutes(world, 100)) == {0}
    assert world.running == {UUID} and world.hook() == 0


def test_where_it_is_wished_a_host_that_hears_of_nobody_stops_its_vm(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_off(world)
    assert minutes(world, 10) == [0] * 10
    assert world.running == {UUID}
    assert minutes(world, 3) == [1, 0, 0]
    assert not world.running and world.hook() == 1
    said = capsys.readouterr().err
    assert (
        "acme/erp was stopped on a: nobody answered for 600 s (c: ssh: connect to host 192.0.2.13 port 22: No route to"
        in said
    )
    [entry] = _journal.read(str(world.place / "acme" / "erp" / "journal.jsonl"))
    assert (entry["what"], entry["epoch"], entry["active"]) == ("stop", 3, "a")


def test_each_answer_begins_the_count_anew(world: World) -> None:
    cut_off(world)
    for _round in range(3):
        assert set(minutes(world, 9)) == {0}
        world.answers = {"192.0.2.12": "3 a\n"}
        assert minutes(world, 1) == [0]
        world.answers.clear()
    assert world.running == {UUID}


def test_what_was_counted_before_a_boot_counts_no_more(world: World) -> None:
    cut_off(world)
    minutes(world, 10)
    world.boots("two")
    world.running.add(UUID)
    world.clock = 5.0
    assert set(minutes(world, 10)) == {0}
    assert world.running == {UUID}
    assert minutes(world, 1) == [1]


def test_it_is_started_again_once_somebody_confirms_it(world: World) -> None:
    cut_off(world)
    world.register(
        state=str(world.place / "acme" / "erp" / "state.json"), self_stop_seconds=SILENT_SECONDS, autostart=False
    )
    minutes(world, 12)
    assert set(world.started) == {_gate.TIMER} and not world.running
    # The gate's timer may just have ended, with nothing to wait for.
    world.started.clear()
    minutes(world, 1)
    assert world.started == [_gate.TIMER]
    assert world.boot_unit() == 1
    assert not world.running
    world.answers = {"192.0.2.13": "3 a protected\n", "192.0.2.12": "3 a protected\n"}
    assert world.boot_unit() == 0
    assert world.running == {UUID} and world.hook() == 0
    world.answers.clear()
    assert set(minutes(world, 10)) == {0}, "the count began anew"
    world.running.clear()
    assert world.boot_unit() == 0
    assert not world.running, "its owner shut it down"


def test_it_is_not_started_again_where_it_was_taken_over_meanwhile(world: World) -> None:
    cut_off(world)
    minutes(world, 12)
    world.answers = {"192.0.2.13": "4 b\n"}
    assert world.boot_unit() == 0
    assert world.turn() == 0
    assert not world.running and world.hook() == 1


def test_what_its_owner_shut_down_is_not_started_by_it(world: World) -> None:
    cut_off(world)
    world.running.clear()
    assert set(minutes(world, 20)) == {0}
    world.answers = {"192.0.2.13": "3 a protected\n", "192.0.2.12": "3 a protected\n"}
    world.boot_unit()
    assert not world.running


@pytest.mark.parametrize("before", [True, False])
def test_a_kill_between_its_steps_leaves_no_vm_that_nobody_starts_again(
    world: World, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    cut_off(world)
    minutes(world, 10)
    destroyed = _superseded._destroyed

    def killed(*given: Any) -> str:
        if not before:
            destroyed(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(_superseded, "_destroyed", killed)
    with pytest.raises(KeyboardInterrupt):
        world.turn()
    monkeypatch.undo()
    minutes(world, 1)
    assert not world.running
    world.answers = {"192.0.2.13": "3 a protected\n", "192.0.2.12": "3 a protected\n"}
    assert world.boot_unit() == 0
    assert world.running == {UUID}


def test_a_gate_that_looks_while_it_is_being_stopped_leaves_it_to_be_started(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link comes back in the very moment."""
    cut_off(world)
    minutes(world, 10)
    destroyed = _superseded._destroyed

    def in_between(*given: Any) -> str:
        world.answers = {"192.0.2.13": "3 a protected\n", "192.0.2.12": "3 a protected\n"}
        assert world.boot_unit() == 0
        return destroyed(*given)

    monkeypatch.setattr(_superseded, "_destroyed", in_between)
    assert minutes(world, 1) == [1]
    assert not world.running
    assert world.boot_unit() == 0
    assert world.running == {UUID}


def test_a_lock_that_somebody_holds_keeps_nobody_from_being_told_and_started_again(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_files, "_LOCK_TRIES", 0)
    cut_off(world)
    minutes(world, 10)
    with _files.locked(str(world.place / "acme" / "erp" / "lock"), "vm_standby"):
        assert minutes(world, 1) == [1]
    said = capsys.readouterr().err
    assert "acme/erp was stopped on a: nobody answered for 600 s" in said
    assert "the VM's journal doesn't say so, for" in said and "is held by vm_standby" in said
    assert not world.running
    world.answers = {"192.0.2.13": "3 a protected\n", "192.0.2.12": "3 a protected\n"}
    assert world.boot_unit() == 0
    assert world.running == {UUID}


# while nobody answers


def test_a_host_that_was_cut_off_stops_what_moved_within_seconds_of_its_return(world: World) -> None:
    world.answers.clear()
    world.later = {world.clock + 21: {"192.0.2.13": "4 b\n"}}
    assert world.turn() == 1
    assert not world.running and world.clock == 25


def test_it_asks_on_until_shortly_before_its_next_turn(world: World) -> None:
    world.answers.clear()
    assert world.turn() == 0
    assert world.clock == 40 and world.running == {UUID}


@pytest.mark.parametrize("answering", ["192.0.2.13", "192.0.2.12"])
def test_while_anybody_answers_a_look_a_turn_is_enough(world: World, answering: str) -> None:
    world.answers = {answering: "3 a protected\n"}
    assert world.turn() == 0
    assert world.clock == 0


def test_nobody_is_waited_for_where_nothing_can_run(world: World) -> None:
    world.answers.clear()
    Path(world.gate.registry.confirmation(UUID)).unlink()
    assert world.turn() == 0
    assert world.clock == 0


def test_what_goes_wrong_is_told_once_a_turn(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.register(uuid="11111111-2222-4333-8444-555555555555", vm="crm", state=str(world.place / "nothing.json"))
    (world.place / "nothing.json").write_text("{")
    world.answers.clear()
    assert world.turn() == 1
    assert world.clock == 40 and capsys.readouterr().err.count("nothing.json") == 1
