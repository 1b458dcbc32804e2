# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about a host whose VM was taken over elsewhere while nobody could reach it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from unit.gate_fakes import OWN, UUID, World

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _journal, _superseded


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Up since boot one, its VM confirmed and running."""
    home = tmp_path / "acme" / "erp"
    home.mkdir(parents=True)
    (home / "lock").touch()
    world = World(tmp_path)
    world.register(state=str(home / "state.json"))
    (home / "state.json").write_text(json.dumps(OWN.as_dict()))
    world.boots("one")
    world.boot_unit()
    world.asked.clear()
    assert world.running == {UUID} and world.hook() == 0
    return world


def test_while_it_is_the_active_host_nothing_happens(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert _superseded.stop(world.gate) == 0
    assert world.asked == ["192.0.2.13"]
    assert world.running == {UUID} and world.hook() == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("address", ["192.0.2.13", "192.0.2.12"])
def test_what_moved_is_stopped_once_and_never_started_again(
    world: World, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.answers = {address: "4 b\n"}
    assert _superseded.stop(world.gate) == 1
    assert not world.running and world.hook() == 1
    assert "acme/erp was stopped on a: " in capsys.readouterr().err
    [entry] = _journal.read(str(world.place / "acme" / "erp" / "journal.jsonl"))
    assert (entry["what"], entry["epoch"], entry["active"]) == ("stop", 3, "a")
    assert _superseded.stop(world.gate) == 0
    assert world.boot_unit() == 0
    assert not world.running and world.hook() == 1


def test_the_gate_of_what_was_off_when_it_moved_closes_too(world: World) -> None:
    world.running.clear()
    world.answers["192.0.2.13"] = "4 b\n"
    assert _superseded.stop(world.gate) == 0
    assert world.hook() == 1


def test_what_is_no_longer_defined_here_leaves_nothing_to_stop(world: World) -> None:
    """Its disks were taken to another host by hand; asked every minute, this is no failure."""
    world.defined = False
    world.answers["192.0.2.13"] = "4 b\n"
    assert _superseded.stop(world.gate) == 0
    assert world.hook() == 1


@pytest.mark.parametrize("said", [{}, {"192.0.2.13": "2 b\n"}, {"192.0.2.13": "3 b\n"}, {"192.0.2.13": "4 a\n"}])
def test_silence_or_anything_but_a_higher_epoch_elsewhere_stops_nothing(world: World, said: dict[str, str]) -> None:
    """The backup storage that was put back to an older day knows less than this host."""
    world.answers = said
    assert _superseded.stop(world.gate) == 0
    assert world.running == {UUID} and world.hook() == 0


def moves(world: World) -> None:
    """A playbook tells this host that the VM lives on the other one."""
    state = world.place / "acme" / "erp" / "state.json"
    state.write_text(json.dumps(replace(OWN, epoch=4, active="b", standby="a").as_dict()))


def test_what_runs_on_where_a_playbook_told_that_it_moved_is_stopped(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    moves(world)
    assert _superseded.stop(world.gate) == 1
    assert not world.running and not world.asked
    assert "acme/erp was stopped on a: b is active since epoch 4" in capsys.readouterr().err
    assert _superseded.stop(world.gate) == 0


def test_a_host_that_only_stands_by_asks_nobody_and_nothing(world: World) -> None:
    moves(world)
    world.boots("two")
    Path(world.gate.registry.confirmation(UUID)).unlink()
    world.running.add("what libvirt is not asked about")
    assert _superseded.stop(world.gate) == 0
    assert not world.asked


def test_a_damaged_document_is_told_and_keeps_no_other_vm_running(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "11111111-2222-4333-8444-555555555555"
    world.register(uuid=other, vm="crm", state=str(world.place / "nothing.json"))
    world.answers["192.0.2.13"] = "4 b\n"
    assert _superseded.stop(world.gate) == 1
    assert "nothing.json" in capsys.readouterr().err
    assert not world.running
