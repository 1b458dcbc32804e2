# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about a VM that is shut down cleanly."""

from __future__ import annotations

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
    world, slept = World({"virsh domstate": ON, "virsh shutdown": said()}), []
    with pytest.raises(ResilientVmError, match="did not shut down within 3 seconds"):
        _power.shut_down(Virsh(world), UUID, 3, slept.append)
    assert len(slept) == 3


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [(refused("error: Domain not found"), "there is no domain"), (said("shut off (saved)"), "has a saved state")],
)
def test_what_is_not_there_or_sleeps_can_not_be_shut_down(answer: object, sentence: str) -> None:
    world = World({"virsh domstate": answer})
    with pytest.raises(ResilientVmError, match=sentence):
        _power.shut_down(Virsh(world), UUID, 3)


def test_only_one_that_is_off_is_started() -> None:
    world = World({"virsh domstate": [OFF, ON], "virsh start": said()})
    _power.start(Virsh(world), UUID)
    _power.start(Virsh(world), UUID)
    assert world.asked("virsh start") == ["virsh start"]
