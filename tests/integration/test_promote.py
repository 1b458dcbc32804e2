# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A takeover takes no longer for a large disk, and may be killed at any of its tasks."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from integration.world import STORE, World
from lab.rvmlab.domain import Guest

pytestmark = pytest.mark.soak

NIGHT, MORNING = "2026-02-14T02:00:00Z", "2026-02-14T11:30:00Z"
# Size of its disk in MiB, by VM; of each the same share is written.
SIZED = {"gib1": 1 << 10, "gib100": 100 << 10}
BALLAST_MIB = 200
# Where a takeover is killed: as the task of this name begins.
TASKS = (
    "take | Say there that it is about to be taken over",
    "take | Decide it",
    "steps | See what has been done already",
    "step | Do what it says, and verify it",
    "step | Write down what came of it",
    "take | Start it",
    "take | End counting",
    "take | Sum it up",
    "take | Write it down where it was decided",
    "take | Write it down there",
    "take | Say what was done",
)
KILLED = tuple(f"kill{number}" for number in range(len(TASKS)))
# Whose power is cut as a task begins.
CUTS = {
    f"cut-{machine}-{number}": (machine, task)
    for machine in "bc"
    for number, task in enumerate(("take | Decide it", "take | Start it", "take | Write it down where it was decided"))
}
VMS = (*SIZED, *KILLED, *CUTS, "stale")


@dataclass
class Dead:
    """VMs with an image each on B, and their host is down."""

    world: World
    inventory: Path

    def failover(self, vm: str, expect: int | None = 0, **variables: Any) -> str:
        asked = {"now": MORNING, **variables}
        played = self.world.play("failover", "--limit", vm, inventory=[self.inventory], expect=expect, **asked)
        return " ".join(played.output.split())

    def word(self, vm: str, **variables: Any) -> str:
        found = re.search(rf"resilient_vm_confirm=({vm}@a#1-[0-9a-f]{{8}})", self.failover(vm, 1, **variables))
        assert found
        return found.group(1)

    def until(self, vm: str, word: str, task: str) -> subprocess.Popen[str]:
        """A takeover that has come to a task."""
        process = self.world.start_play(
            "failover", "--limit", vm, inventory=[self.inventory], now=MORNING, confirm=word
        )
        assert process.stdout
        for line in process.stdout:
            if f": {task}]" in line:
                return process
        raise AssertionError(f"it ended before {task}")

    def converges(self, vm: str, word: str) -> None:
        """The same command goes on, or, where nothing was decided yet, asks for the word anew; never do two run it."""
        again = self.world.play(
            "failover", "--limit", vm, inventory=[self.inventory], expect=None, now=MORNING, confirm=word
        )
        said = " ".join(again.output.split())
        if f"and is shut off; start it with: virsh start {vm}" in said:
            # Decided to its end before the power went; it is none that starts with its host.
            self.world.on("b", f"virsh start {vm}")
        elif again.code != 0:
            assert "is not the last one that was asked for" in said
            self.failover(vm, confirm=self.word(vm))
        assert self.world.on("b", f"virsh domstate {vm}") == "running"
        state = json.loads(self.world.on("c", f"cat {STORE}/{vm}/state.json"))
        assert (state["active"], state["phase"]) == ("b", "failed_over")
        last = self.world.play("failover", "--limit", vm, inventory=[self.inventory], now=MORNING)
        assert last.changed == 0


def write(world: World, vm: str, mebibytes: int) -> None:
    disk = Guest.of_kind(vm, "tiny").disks[0].path(vm)
    world.on("a", f"qemu-io -f qcow2 -c 'write -P 7 0 {mebibytes}M' {disk}")


@pytest.fixture(scope="module")
def dead(machines: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dead]:
    step = {"resilient_vm_takeover_steps": [{"name": "note", "command": ["true"], "when": "before_start"}]}
    vms: dict[str, dict[str, Any]] = {vm: step if vm in KILLED else {} for vm in VMS}
    extra = machines.inventory_file(tmp_path_factory.mktemp("inventory") / "dead.json", vms)
    running = machines.on("a", "virsh list --name").split()
    for vm in VMS:
        # Down, and without an agent to be waited for: it is about the disks.
        machines.lab("guest", "create", "a", vm, "--kind", "tiny", "--no-agent", "--size", str(SIZED.get(vm, 64)))
    machines.protect(extra, *VMS)
    for vm in SIZED:
        write(machines, vm, BALLAST_MIB)
    machines.play("daily", "--limit", ",".join(VMS), inventory=[extra], now=NIGHT, timeout=3000)
    # Which C has and B has not.
    write(machines, "stale", 1)
    machines.on("b", f"chattr +i {STORE}/stale/incoming")
    machines.play("daily", "--limit", "stale", inventory=[extra], expect=1, now="2026-02-14T09:00:00Z", force=True)
    machines.lab("crash", "a")
    yield Dead(machines, extra)
    machines.on("b", f"chattr -i {STORE}/stale/incoming")
    machines.lab("up", "a")
    for host in ("a", "b"):
        for vm in VMS:
            machines.on(host, f"virsh destroy {vm}", check=False)
    machines.back_to_work(running)


def test_it_takes_no_longer_for_a_disk_a_hundred_times_as_large(dead: Dead, capsys: pytest.CaptureFixture[str]) -> None:
    """What is measured is printed; what makes it so is asserted: nothing of a disk is copied."""
    told = {}
    for vm, mebibytes in SIZED.items():
        word, before = dead.word(vm), dead.world.used("b")
        begun = time.time()
        said = dead.failover(vm, confirm=word)
        measured = float(dead.world.on("b", f"stat --format=%.Y /run/libvirt/qemu/{vm}.pid")) - begun
        grown = dead.world.used("b") - before
        found = re.search(r"recovery time: ([0-9.]+) s from the command until it ran \((.*?)\)", said)
        assert found
        told[vm] = (
            f"{vm}: {mebibytes} MiB, {found.group(1)} s until it ran ({found.group(2)}), {measured:.1f} s by the clock "
            f"of QEMU's start, {grown} bytes more in use"
        )
        # QEMU starts a little before the machine runs and Ansible hears of it.
        assert -0.5 < float(found.group(1)) - measured < 3.0
        assert grown < BALLAST_MIB << 19, "less than half of what its disk holds"
        disk = f"{STORE}/{vm}/running/vda.base.raw"
        assert int(dead.world.on("b", f"stat --format=%s {disk}")) == mebibytes << 20
        shared = dead.world.on("b", f"filefrag -v {disk} | grep -c shared")
        assert int(shared) > 0 and not dead.world.on(
            "b", f"filefrag -v {disk} | grep '^ *[0-9]*:' | grep -v shared || true"
        )
    with capsys.disabled():
        print("\n" + "\n".join(told.values()))


@pytest.mark.parametrize(("vm", "task"), list(zip(KILLED, TASKS, strict=True)))
def test_killed_as_a_task_begins_it_converges(dead: Dead, vm: str, task: str) -> None:
    word = dead.word(vm)
    process = dead.until(vm, word, task)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    dead.converges(vm, word)


@pytest.mark.parametrize("vm", CUTS)
def test_a_power_cut_in_the_middle_is_got_over(dead: Dead, vm: str) -> None:
    world, (machine, task) = dead.world, CUTS[vm]
    running = world.on("b", "virsh list --name").split()
    word = dead.word(vm)
    process = dead.until(vm, word, task)
    world.lab("crash", machine)
    output = process.communicate(timeout=300)[0]
    assert "Traceback" not in output, output
    world.lab("up", machine)
    dead.converges(vm, word)
    for name in set(running) - set(world.on("b", "virsh list --name").split()):
        world.on("b", f"virsh start {name}")


def test_what_can_not_be_brought_first_stops_nothing(dead: Dead) -> None:
    """B takes nothing in; what it has is started, and it is said what is not in it."""
    why = "c holds 20260214T090000Z, which could not be brought to b"
    said = dead.failover("stale", 1, prefer="newest")
    assert why in said
    found = re.search(r"resilient_vm_confirm=(stale@a#1-[0-9a-f]{8})", said)
    assert found
    said = dead.failover("stale", prefer="newest", confirm=found.group(1))
    assert why in said and f"recovery point: {NIGHT}" in said


def test_once_its_host_is_back_each_runs_once(dead: Dead) -> None:
    world = dead.world
    world.lab("up", "a")
    world.wait_until(
        lambda: "the VM moved while this host was away" in world.on("a", "journalctl -b -u resilient-vm-gate -o cat"),
        120,
        "a has asked",
    )
    taken = {vm for vm in VMS if json.loads(world.on("b", f"cat {STORE}/{vm}/state.json"))["active"] == "b"}
    assert taken
    for vm in taken:
        assert world.on("a", f"virsh domstate {vm}") == "shut off"
        assert world.on("b", f"virsh domstate {vm}") == "running"
