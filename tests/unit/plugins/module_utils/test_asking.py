# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about a host that asks other machines about many VMs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unit.gate_fakes import OWN, UUID, World

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _asking, _gate, _superseded
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.active(tmp_path)


@pytest.mark.parametrize("outdated", [False, True])
def test_a_machine_out_of_reach_is_not_waited_for_by_every_vm(
    world: World, monkeypatch: pytest.MonkeyPatch, outdated: bool
) -> None:
    """Five seconds each, times a hundred VMs: nothing that moved would be heard of in time."""
    world.outdated = outdated
    monkeypatch.setattr(_superseded, "AT_ONCE", 1)
    moved = [world.another(number) for number in range(5)][-1]
    del world.answers["192.0.2.13"]
    assert world.turn() == 0
    assert world.asked.count("192.0.2.13") == 1 and world.asked.count("192.0.2.12") == (7 if outdated else 1)
    # The next turn asks it again.
    world.answers["192.0.2.13"] = "4 b\n"
    assert world.turn() == 1
    assert moved not in world.running


@pytest.mark.parametrize(
    ("silent", "again"),
    [
        ("ssh: connect to host {} port 22: Connection timed out", False),
        ("Connection to {} port 22 timed out", False),
        # Another VM's key may be another matter.
        ("rvm-acme@{}: Permission denied (publickey).", True),
        ("Connection closed by {} port 22", True),
    ],
)
def test_a_gate_waits_once_for_a_machine_out_of_reach(
    world: World, monkeypatch: pytest.MonkeyPatch, silent: str, again: bool
) -> None:
    monkeypatch.setattr(_gate, "AT_ONCE", 1)
    for number in range(3):
        world.another(number)
    world.boots("two")
    world.silent = silent
    world.answers.clear()
    world.gate.openings()
    # About all four, and then, where that may help, about each.
    assert world.asked.count("192.0.2.13") == (5 if again else 1)


def test_a_machine_is_asked_once_about_all_vms_also_those_that_are_off(world: World) -> None:
    moved = [world.another(number) for number in range(100)]
    world.running = {UUID, moved[7]}
    assert world.turn() == 0
    assert world.asked == ["192.0.2.13", "192.0.2.12"]
    world.asked.clear()
    # What one of them settles the other is not asked about.
    world.answers["192.0.2.13"] = "4 b\n"
    assert world.turn() == 1
    assert world.asked == ["192.0.2.13"] and not world.running
    assert not any(Path(world.gate.registry.confirmation(uuid)).exists() for uuid in (UUID, *moved))


def test_what_moved_is_told_from_what_did_not(world: World) -> None:
    """One machine's answers about several VMs, one of which it knows nothing of."""
    _stays, moved, unknown = (world.another(number) for number in range(3))
    told = {"erp": "3 a protected", "vm0": "3 a protected", "vm1": "4 b protected", "vm2": "rvm knows nothing of it"}

    def run(argv: list[str], **options: Any) -> Completed:
        if argv[0] != "ssh":
            return world.run(argv, **options)
        if argv[-1] == "epoch":
            return Completed(1, "", "resilient-vm: it knows nothing of it\n")
        return Completed(0, "".join(f"{vm} {told[vm]}\n" for vm in options["stdin"].split()), "")

    before = set(world.running)
    gate = replace(world.gate, run=run)
    assert _superseded.stop(gate, world.sleep, lambda: world.clock) == 1
    assert before - world.running == {moved} and unknown in world.running


def test_customers_are_asked_about_apart(world: World) -> None:
    """Each by its own account, which can't read what is another's."""
    for number in range(4):
        world.another(number, customer="other" if number % 2 else "acme")
    assert world.turn() == 0
    assert sorted(world.asked) == ["192.0.2.12"] * 2 + ["192.0.2.13"] * 2


def said(world: World, hangs: Callable[[list[str], str], bool]) -> dict[str, list[int | None]]:
    """What the host hears of each of its VMs in one look; ``hangs`` is asked of each connection's words and names."""

    def run(argv: list[str], **options: Any) -> Completed:
        if argv[0] == "ssh" and hangs(argv, options["stdin"] or ""):
            world.asked.append(argv[-2].partition("@")[2])
            raise ResilientVmError("ssh did not end within 30 seconds")
        return world.run(argv, **options)

    gate = replace(world.gate, run=run)
    entries = gate.registry.read()[0]
    gate = gate.round(entries)
    return {entry.vm: [answer.epoch for answer in gate.answers(entry, OWN)] for entry in entries}


def test_one_vm_over_which_a_machine_hangs_keeps_no_other_from_its_answer(world: World) -> None:
    """Whoever nobody answers may have to stop."""
    for number in range(3):
        world.another(number)
    heard = said(world, lambda words, names: "acme.vm1" in " ".join(words) or "vm1" in names.split())
    assert heard == {"erp": [3, 3], "vm0": [3, 3], "vm1": [None, None], "vm2": [3, 3]}


def test_a_customer_over_whom_a_machine_hangs_keeps_no_other_from_its_answer(world: World) -> None:
    for number in range(2):
        world.another(number, customer="other")
    heard = said(world, lambda words, _names: "other.vm" in " ".join(words))
    assert heard == {"erp": [3, 3], "vm0": [None, None], "vm1": [None, None]}


def test_a_machine_that_hangs_over_all_is_not_waited_for_by_every_vm(world: World) -> None:
    """Half a minute each."""
    for number in range(20):
        world.another(number)
    heard = said(world, lambda words, _names: words[-2].endswith("@192.0.2.13"))
    assert set(map(tuple, heard.values())) == {(None, 3)}
    # About all at once, about one, and to know that it is not that one's fault about another.
    assert world.asked.count("192.0.2.13") == 3 and world.asked.count("192.0.2.12") == 1


def test_a_machine_out_of_reach_is_not_tried_for_each_customer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_asking, "AT_ONCE", 1)
    for number in range(20):
        world.another(number, customer=f"customer{number // 2}")
    del world.answers["192.0.2.13"]
    assert world.turn() == 0
    assert world.asked.count("192.0.2.13") == 1 and world.asked.count("192.0.2.12") == 11


def test_what_one_question_about_all_leaves_open_is_asked_by_the_vms_own_key(world: World) -> None:
    world.another(0)
    world.untold = {"erp"}
    world.answers["192.0.2.13"] = "4 b protected\n"
    assert world.turn() == 1
    assert UUID not in world.running


def test_a_question_that_can_not_be_begun_keeps_no_vm_from_being_looked_at(world: World) -> None:
    world.another(0)

    def run(argv: list[str], **options: Any) -> Completed:
        if argv[0] == "ssh" and argv[-1] == "epochs":
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return world.run(argv, **options)

    world.answers["192.0.2.13"] = "4 b protected\n"
    assert _superseded.stop(replace(world.gate, run=run), world.sleep, lambda: world.clock) == 1
    assert not world.running
