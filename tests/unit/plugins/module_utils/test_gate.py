# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about opening the gate: what answers mean, and what a host does after its boot."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _gate, _hook
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._gate import Answer, Gate
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._registry import PROBE, Entry, Place, Registry
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._state import State

NOW = datetime(2026, 1, 14, 2, tzinfo=timezone.utc)
UUID = "6e1f3c0a-3a5f-4c50-9f7e-3a3f0d9a2c11"
OWN = State("acme", "erp", "erp", UUID, 3, "a", "b", "protected", "2026-01-14T02:00:00Z", "site")
SILENT = Answer("c", None, said="Connection refused")


def answer(epoch: int, active: str, machine: str = "c") -> Answer:
    return Answer(machine, epoch, active)


@pytest.mark.parametrize(
    "answers, unconfirmed, expected",
    [
        ([answer(3, "a")], False, (True, True, "confirmed by c")),
        ([SILENT, answer(3, "a", "b")], False, (True, True, "confirmed by b")),
        ([answer(4, "b")], False, (False, True, "the VM moved while this host was away")),
        ([SILENT, answer(4, "b", "b")], True, (False, True, "the VM moved while this host was away")),
        # A backup storage that was put back to an older day, and one that contradicts.
        ([answer(2, "b")], True, (False, False, "find out where it runs")),
        ([answer(3, "b")], True, (False, False, "find out where it runs")),
        ([SILENT, replace(SILENT, machine="b")], False, (False, False, "nobody could confirm that this host is")),
        ([SILENT, replace(SILENT, machine="b")], True, (True, True, "resilient_vm_start_unconfirmed is set")),
    ],
)
def test_what_answers_mean(answers: list[Answer], unconfirmed: bool, expected: tuple[bool, bool, str]) -> None:
    *flags, why = _gate.verdict(OWN, answers, unconfirmed)
    assert tuple(flags) == expected[:2]
    assert expected[2] in why


ANSWERS = st.one_of(st.just(SILENT), st.builds(answer, st.integers(1, 5), st.sampled_from(["a", "b"])))


@given(first=ANSWERS, second=ANSWERS, unconfirmed=st.booleans())
def test_only_a_machine_that_says_the_same_opens_it(first: Answer, second: Answer, unconfirmed: bool) -> None:
    is_open, final, why = _gate.verdict(OWN, [first, second], unconfirmed)
    given = [each for each in (first, second) if each.epoch is not None]
    same = bool(given) and (given[0].epoch, given[0].active) == (3, "a")
    assert is_open == (same or (not given and unconfirmed))
    assert final == (is_open or (bool(given) and (given[0].epoch or 0) > 3))
    assert why


@dataclass
class World:
    """Host a in a folder; what other machines answer and which domains run is the test's to say."""

    place: Path
    answers: dict[str, str] = field(default_factory=lambda: {"192.0.2.13": "3 a\n"})
    running: set[str] = field(default_factory=set)
    broken: str = ""
    asked: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    clock: float = 0.0

    def run(self, argv: list[str], **_options: Any) -> Completed:
        if argv[0] == "ssh":
            address = argv[-2].partition("@")[2]
            self.asked.append(address)
            said = self.answers.get(address)
            return Completed(0, said, "") if said else Completed(255, "", "ssh: connect: No route to host\n")
        if argv[0] == "systemctl":
            self.stopped.append(argv[-1])
            return Completed(0, "", "")
        if argv[3] == "domstate":
            return Completed(0, "running (booted)" if argv[4] in self.running else "shut off (unknown)", "")
        assert argv[3] == "start"
        if self.broken:
            return Completed(1, "", f"error: {self.broken}")
        self.running.add(argv[4])
        return Completed(0, "", "")

    @property
    def gate(self) -> Gate:
        registry = Registry(str(self.place / "gate"), str(self.place / "confirmed"))
        return Gate(self.run, lambda: NOW, registry, str(self.place), str(self.place / "boot_id"))

    def boots(self, name: str) -> None:
        (self.place / "boot_id").write_text(name)
        self.running.clear()

    def boot_unit(self) -> int:
        def sleep(seconds: float) -> None:
            self.clock += seconds

        return _gate.boot(self.gate, sleep, lambda: self.clock)

    def hook(self) -> int:
        xml = f"<domain><uuid>{UUID}</uuid></domain>".encode()
        places = (str(self.place / name) for name in ("gate", "confirmed", "boot_id"))
        return _hook.main(["erp", "start", "begin", "-"], xml, *places)

    def register(self, **changes: Any) -> None:
        ask = (Place("c", "192.0.2.13", 22), Place("b", "192.0.2.12", 22))
        state = str(self.place / "state.json")
        entry = replace(Entry(UUID, "acme", "erp", "a", state, "rvm-acme", True, False, ask), **changes)
        (self.place / "gate").mkdir(exist_ok=True)
        (self.place / "gate" / f"{entry.uuid}.json").write_text(entry.text())

    def holds(self, state: State) -> None:
        (self.place / "state.json").write_text(json.dumps(state.as_dict()))


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
    assert world.asked == ["192.0.2.13"]
    assert world.running == {UUID}
    assert world.stopped == ["resilient-vm-gate.timer"]
    assert world.hook() == 0


def test_within_one_boot_nobody_is_asked_again_and_what_was_shut_down_stays_so(world: World) -> None:
    world.boot_unit()
    world.running.clear()
    world.answers.clear()
    assert world.boot_unit() == 0
    assert len(world.asked) == 1
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
    assert "c: ssh: connect: No route to host; b: ssh: connect: No route to host" in capsys.readouterr().err
    assert not world.running and world.hook() == 1 and not world.stopped
    world.answers["192.0.2.13"] = "3 a\n"
    assert world.boot_unit() == 0
    assert world.running == {UUID}


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


def test_a_dry_look_opens_nothing(world: World) -> None:
    assert [opening.open for opening in world.gate.openings(dry=True)] == [True]
    assert not os.path.exists(world.place / "confirmed")


def test_the_throwaway_domain_is_no_vm(world: World) -> None:
    world.register(uuid=PROBE)
    assert [entry.uuid for entry in world.gate.registry.read()[0]] == [UUID]
