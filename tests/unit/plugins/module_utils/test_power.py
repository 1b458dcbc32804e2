# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about a VM that is shut down cleanly."""

from __future__ import annotations

from typing import Any

import pytest
from unit.libvirt_fakes import UUID, World, refused, said

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _power
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._virsh import Virsh

ON, OFF = said("running (booted)"), said("shut off (shutdown)")


def test_it_is_asked_once_and_waited_for() -> None:
    world, slept = World({"virsh domstate": [ON, ON, ON, OFF], "virsh shutdown": said()}), []
    _power.shut_down(Virsh(world), UUID, 10, slept.append)
    assert world.asked("virsh shutdown") == ["virsh shutdown"] and len(slept) == 2
    _power.shut_down(Virsh(world), UUID, 10, slept.append)
    assert world.asked("virsh shutdown") == ["virsh shutdown"]


def test_one_that_does_not_heed_it_runs_on() -> None:
    """Its agent is asked as well; one that does nothing has libvirt wait for its answer for minutes."""
    hangs = ResilientVmError("virsh shutdown did not end within 10 seconds")
    answers = {"virsh domstate": ON, "virsh shutdown": hangs, f"virsh shutdown {UUID} --mode acpi": said()}
    world, slept = World(answers), []
    with pytest.raises(ResilientVmError, match="did not shut down within 3 seconds"):
        _power.shut_down(Virsh(world), UUID, 3, slept.append)
    assert len(slept) == 3
    assert world.asked("virsh shutdown") == ["virsh shutdown"] * 2


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [(refused("error: Domain not found"), "there is no domain"), (said("shut off (saved)"), "has a saved state")],
)
def test_what_is_not_there_or_sleeps_can_not_be_shut_down(answer: object, sentence: str) -> None:
    world = World({"virsh domstate": answer})
    with pytest.raises(ResilientVmError, match=sentence):
        _power.shut_down(Virsh(world), UUID, 3)


class Gate:
    """One that is opened, or not."""

    def __init__(self, run: World, refuses: bool = False) -> None:
        self.run = run
        self.refuses = refuses

    def open(self, name: str) -> None:
        if self.refuses:
            raise ResilientVmError(f"the gate of this host stays closed for {name}")


def test_only_one_that_is_off_is_started() -> None:
    world = World({"virsh domstate": [OFF, ON], "virsh start": said()})
    gate: Any = Gate(world)
    _power.start(gate, "acme/erp", UUID)
    _power.start(gate, "acme/erp", UUID)
    assert world.asked("virsh start") == ["virsh start"]


def test_one_that_heeds_it_late_is_started_again() -> None:
    """What it was asked can't be taken back."""
    world, slept = World({"virsh domstate": [ON, ON, OFF], "virsh start": said()}), []
    gate: Any = Gate(world)
    assert _power.start(gate, "acme/erp", UUID, 5, slept.append)
    assert len(slept) == 2 and world.asked("virsh start") == ["virsh start"]
    on, slept = World({"virsh domstate": ON}), []
    stubborn: Any = Gate(on)
    assert not _power.start(stubborn, "acme/erp", UUID, 5, slept.append)
    assert len(slept) == 5


def test_none_is_started_whose_gate_stays_closed() -> None:
    world = World({"virsh domstate": OFF})
    gate: Any = Gate(world, refuses=True)
    with pytest.raises(ResilientVmError, match="stays closed for acme/erp"):
        _power.start(gate, "acme/erp", UUID)
