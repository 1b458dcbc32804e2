# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A dies in the middle of a night, and its VM is taken over while that night still goes on.

Two takeovers at once are in test_takeover.py.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.vault import Vault
from integration.world import STORE, Played, World

pytestmark = pytest.mark.soak

# In what moment of the night A dies, and whose night it is.
VMS = {"fetch": "rushed", "refresh": "hurried", "prune": "pruned"}
# A day's 24 MiB take more than a minute and a half at it: longer than a takeover, also on a busy box.
RATE = "2mbit"
PRUNE = "Erase images that are old enough"


class Night(Vault):
    """A VM, its calendar, and a takeover of it."""

    def play(self, name: str, expect: int | None = 0, **variables: Any) -> Played:
        asked = {"now": self.now, **variables}
        return self.world.play(name, "--limit", self.vm, inventory=[self.extra], expect=expect, **asked)

    def word(self) -> str:
        said = self.play("failover", expect=1).output
        found = re.search(rf"resilient_vm_confirm=({self.vm}@a#1-[0-9a-f]{{8}})", said)
        assert found, said
        return found.group(1)

    def states(self, *hosts: str) -> set[tuple[str, str, int]]:
        read = [json.loads(self.world.on(host, f"cat {STORE}/{self.vm}/state.json")) for host in hosts]
        return {(state["active"], state["phase"], state["epoch"]) for state in read}


@pytest.fixture(scope="module")
def extra(machines: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    settings = {
        "resilient_vm_retention_days": 3,
        "resilient_vm_retention_minimum": 2,
        # Days pass between its nights, so that there is something to be erased.
        "resilient_vm_max_data_loss_hours": 999,
    }
    extra = machines.inventory_file(
        tmp_path_factory.mktemp("inventory") / "nights.json", dict.fromkeys(VMS.values(), settings)
    )
    running = machines.on("a", "virsh list --name").split()
    for vm in VMS.values():
        machines.lab("guest", "create", "a", vm, "--kind", "raw", "--format", "qcow2", "--no-mount", "--start")
    machines.protect(extra, *VMS.values())
    yield extra
    machines.lab("up", "a")
    for vm in VMS.values():
        for host in "ab":
            machines.on(host, f"virsh destroy {vm}", check=False)
    machines.back_to_work([vm for vm in running if vm not in VMS.values()])


@pytest.fixture
def night(machines: World, extra: Path, moment: str) -> Iterator[Night]:
    """Three images of it, so that there is one to be erased; its host is up again at the end."""
    night = Night(machines, extra, vm=VMS[moment])
    machines.lab("guest", "wait", night.vm, "--on", "a")
    for _day in range(3):
        night.next_day(2)
        night.cycle()
    running = set(machines.on("a", "virsh list --name").split()) - {night.vm}
    yield night
    machines.lab("up", "a")
    machines.back_to_work(sorted(running))


def until_task(play: subprocess.Popen[str], task: str) -> None:
    assert play.stdout
    seen = []
    for line in play.stdout:
        seen.append(line)
        if task in line:
            return
    pytest.fail(f"it ended before {task}:\n{''.join(seen)}")


@pytest.mark.parametrize("moment", VMS)
def test_a_dies_in_the_middle_of_a_night_and_b_takes_over_at_once(night: Night, moment: str) -> None:
    world, vm = night.world, night.vm
    images, generation = night.before()
    night.next_day()
    night.day += 2
    dying = night.image_id
    with night.copying("fetch" if moment == "fetch" else "refresh", RATE) as play:
        world.lab("crash", "a")
        word = night.word()
        if moment != "prune":
            night.play("failover", confirm=word)
            assert play.poll() is None, "the night goes on meanwhile"
    if moment == "prune":
        until_task(play, PRUNE)
        night.play("failover", confirm=word)
    ended = night.ended(play)
    # That of a VM whose active host is gone; which it says, unless it had no more to do with it.
    assert (ended.code == 0) <= (moment == "prune"), ended.output
    assert world.on("b", f"virsh domstate {vm}") == "running"
    assert night.states("b", "c") == {("b", "failed_over", 2)}
    # Nothing came into B after it had taken over: it runs on the generation that the report named.
    current = night.image_id if moment == "prune" else generation
    promoted = json.loads(world.on("b", f"cat {STORE}/{vm}/running/promoted.json"))
    assert (promoted["generation"], world.current(vm)) == (current, current)
    world.check_image(vm, current, "b")
    for image_id in world.images(vm):
        world.check_image(vm, image_id)
    assert images[-1] in world.images(vm)
    assert (night.image_id in world.images(vm)) == (moment != "fetch")
    if moment == "prune":
        # Its owner lets it stay there while A is still down.
        said = " ".join(night.play("failover_commit").output.split())
        assert f"{vm} stays on b, and failover_undo is over" in said
        assert night.play("failover_commit").changed == 0
        assert night.states("b", "c") == {("b", "reprotecting", 2)}
    # The next night takes B's image; with A back somebody stands by again, and nothing of that night is left over.
    night.day += 1
    told = night.play("daily", expect=1).refusals(vm)
    assert night.image_id in world.images(vm), told
    assert world.manifest(vm, night.image_id)["source_host"] == "b"
    world.lab("up", "a")
    night.day += 1
    if moment == "prune":
        refused = " ".join(night.play("failover_undo", expect=1).output.split())
        assert f"{vm} is in phase reprotecting, in which there is no takeover to be undone" in refused
    night.play("reprotect")
    assert night.states("a", "b", "c") == {("b", "protected", 2)}
    newest = world.images(vm)[-1]
    assert world.check_image(vm, newest) == world.check_image(vm, newest, "a")
    assert world.on("a", f"virsh domstate {vm}") == "shut off"
    for host in "ac":
        assert world.on(host, f"ls {STORE}/{vm}/incoming") == "", host
    # What B had of it serves the next copy that comes to B.
    assert world.on("b", f"ls {STORE}/{vm}/incoming").split() == ([dying] if moment == "refresh" else [])
