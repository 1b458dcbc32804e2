# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM moves to its other host and back, on purpose: nothing that was written is missing, and it never runs twice."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from integration.world import STORE, Played, World
from lab.rvmlab.domain import Guest

MOVER = "mover"
BALLAST_MIB = 16


@dataclass
class Ferry:
    """A VM that tells what its disks hold."""

    world: World
    inventory: Path

    def play(self, name: str, *options: str, **variables: Any) -> Played:
        return self.world.play(name, "--limit", MOVER, *options, inventory=[self.inventory], **variables)

    def switch(self, to: str, expect: int = 0, **variables: Any) -> Played:
        asked = {"switch_to": to, **variables}
        return self.world.play("switchover", "--limit", MOVER, inventory=[self.inventory], expect=expect, **asked)

    def state(self, host: str) -> tuple[str, str, int]:
        found: dict[str, Any] = json.loads(self.world.on(host, f"cat {STORE}/{MOVER}/state.json"))
        return found["active"], found["phase"], found["epoch"]

    def _domstate(self, host: str) -> str:
        return self.world.on(host, f"virsh domstate {MOVER}", check=False)

    def running(self) -> list[str]:
        return [host for host in "ab" if self._domstate(host) == "running"]

    def off(self) -> bool:
        """Not merely not running: libvirt calls a guest that has gone "in shutdown" as long as its QEMU is there."""
        return all(self._domstate(host) == "shut off" for host in "ab")

    def write(self, host: str, text: str) -> None:
        self.world.in_guest(MOVER, f"echo {text} >> /disk/vda/log; echo {text} >> /disk/vdb/log; sync", on=host)

    def log(self, host: str) -> list[str]:
        return self.world.in_guest(MOVER, "cat /disk/vda/log /disk/vdb/log", on=host).split()

    def sent(self) -> int:
        told = json.loads(self.world.on("c", f"cat {STORE}/{MOVER}/transfer/refresh.result.json"))
        return int(told["bytes_sent"])


@pytest.fixture(scope="module")
def ferry(machines: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ferry]:
    folder = tmp_path_factory.mktemp("inventory")
    words = ["sh", "-c", f"echo $RESILIENT_VM_MOVE $RESILIENT_VM_ACTIVE_HOST $RESILIENT_VM_EPOCH >> {folder}/moved"]
    steps = [{"name": "note", "command": words, "host": "control"}]
    extra = machines.inventory_file(folder / "ferry.json", {MOVER: {"resilient_vm_takeover_steps": steps}})
    running = machines.on("a", "virsh list --name").split()
    machines.lab("guest", "create", "a", MOVER, "--kind", "two-disk", "--rate", "0", "--start")
    machines.protect(extra, MOVER)
    machines.in_guest(MOVER, f"dd if=/dev/urandom of=/disk/vda/ballast bs=1M count={BALLAST_MIB} 2>&1; sync")
    machines.play("daily", "--limit", MOVER, inventory=[extra])
    yield Ferry(machines, extra)
    for host in ("a", "b"):
        machines.on(host, f"virsh destroy {MOVER}", check=False)
    machines.back_to_work(running)


def test_it_moves_with_everything_that_was_written(ferry: Ferry) -> None:
    """Cut off in the middle: nobody starts it, and the same command goes on."""
    ferry.write("a", "one")
    refused = " ".join(ferry.switch("c", expect=1).output.split())
    assert f"resilient_vm_switch_to names c for {MOVER}; set it to b, or to a, where it lives" in refused
    assert ferry.running() == ["a"]
    asked = {"inventory": [ferry.inventory], "switch_to": "b"}
    process = ferry.world.start_play("switchover", "--limit", MOVER, **asked)
    ferry.world.wait_until(ferry.off, 240, "it has been shut down")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert ferry.state("c") == ("a", "switching", 1)
    for host in "ab":
        assert "resilient-vm keeps the gate closed" in ferry.world.on(host, f"virsh start {MOVER} 2>&1 || true")
    said = " ".join(ferry.switch("b").output.split())
    assert f"{MOVER} runs on b (epoch 2) with all that was written before; it was down for" in said
    assert ferry.running() == ["b"]
    assert ferry.log("b") == ["one", "one"]
    assert {ferry.state(host) for host in "abc"} == {("b", "protected", 2)}
    newest = ferry.world.images(MOVER)[-1]
    ferry.world.check_image(MOVER, newest)
    ferry.world.check_image(MOVER, newest, "a")
    assert (ferry.inventory.parent / "moved").read_text() == "switchover b 2\n"
    # What A had was the beginning of what it stands by with.
    assert ferry.sent() < BALLAST_MIB << 20


def test_its_disks_go_to_a_place_of_its_owners_while_it_runs(ferry: Ferry) -> None:
    on, images = ferry.world.on, "/var/lib/libvirt/images"
    ferry.write("b", "two")
    there = {"relocate_folder": images, "relocate_format": "raw"}
    told = " ".join(ferry.play("relocate", "--check", **there).output.split())
    assert f"disk vda would go to {images}/{MOVER}-vda.raw disk vdb would go to {images}/{MOVER}-vdb.raw" in told
    ferry.play("relocate", **there)
    for part in ("", "--inactive"):
        used = on("b", f"virsh dumpxml {part} {MOVER} | grep -o \"file='/[^']*.raw'\"").split()
        assert used == [f"file='{images}/{MOVER}-{disk}.raw'" for disk in ("vda", "vdb")]
    assert not on("b", f"ls {STORE}/{MOVER} | grep -e running -e relocate || true")
    assert ferry.running() == ["b"] and ferry.log("b") == ["one", "two"] * 2
    assert ferry.play("relocate", **there).changed == 0
    # The next image is of the new disks, and A stands by with it.
    ferry.play("daily", force=True)
    newest = ferry.world.images(MOVER)[-1]
    assert {disk["found_by"] for disk in ferry.world.manifest(MOVER, newest)["disks"]} == {"digests"}
    assert ferry.world.check_image(MOVER, newest) == ferry.world.check_image(MOVER, newest, "a")


@pytest.mark.soak
def test_it_goes_to_and_fro_and_nothing_is_lost(ferry: Ferry) -> None:
    for epoch, (here, there) in enumerate((("b", "a"), ("a", "b"), ("b", "a")), 3):
        ferry.write(here, f"at{epoch}")
        ferry.switch(there)
        assert ferry.running() == [there]
        written = ["one", "two", *(f"at{number}" for number in range(3, epoch + 1))]
        assert ferry.log(there) == written * 2
        assert {ferry.state(host) for host in "abc"} == {(there, "protected", epoch)}
        ferry.world.check_image(MOVER, ferry.world.images(MOVER)[-1], here)
        assert ferry.sent() < BALLAST_MIB << 20
    again = ferry.switch("a")
    assert again.changed == 0 and f"{MOVER} lives on a already" in again.output
    # Back where its owner had it, in the format it had.
    ferry.play("relocate")
    used = ferry.world.on("a", f"virsh domblklist {MOVER} | awk '/\\//{{print $2}}'").split()
    assert used == [disk.path(MOVER) for disk in Guest.of_kind(MOVER, "two-disk").disks]
    assert ferry.log("a") == written * 2


@pytest.mark.soak
def test_one_that_is_off_is_not_left_off_and_moves(ferry: Ferry) -> None:
    """Its host may be the one that can't start it."""
    [here] = ferry.running()
    there = "a" if here == "b" else "b"
    ferry.world.on(here, f"virsh destroy {MOVER}")
    said = " ".join(ferry.switch(here, expect=1).output.split())
    assert f"{MOVER} lives on {here} already, and is shut off there; start it there" in said
    ferry.switch(there)
    assert ferry.running() == [there]


@pytest.mark.soak
def test_where_the_other_host_goes_down_in_the_middle_it_is_started_again(ferry: Ferry) -> None:
    [here], world = ferry.running(), ferry.world
    there = "a" if here == "b" else "b"
    active, phase, epoch = ferry.state("c")
    process = world.start_play("switchover", "--limit", MOVER, inventory=[ferry.inventory], switch_to=there)
    world.wait_until(ferry.off, 240, "it has been shut down")
    world.lab("crash", there)
    output = " ".join(process.communicate(timeout=600)[0].split())
    world.lab("up", there)
    assert process.returncode != 0
    assert f"{there} does not hold what {here} had when {MOVER} was shut down; run it again" in output
    assert world.on(here, f"virsh domstate {MOVER}") == "running" and ferry.state("c") == (active, phase, epoch)
    # Told, and brought up to date, by the next run.
    ferry.play("daily")
    assert {ferry.state(host) for host in "abc"} == {(active, phase, epoch)}


@pytest.mark.soak
def test_one_that_does_not_shut_down_stays_where_it_was(ferry: Ferry) -> None:
    """The last one: libvirt waits a minute for an agent that was told to shut its guest down."""
    [here], (active, phase, epoch) = ferry.running(), ferry.state("c")
    ferry.world.in_guest(MOVER, "echo '#!/bin/sh' > /sbin/shutdown", on=here)
    said = " ".join(ferry.switch("a" if here == "b" else "b", expect=1, shutdown_seconds=2).output.split())
    assert f"{MOVER} stays on {here}: domain" in said and "did not shut down within 2 seconds" in said
    assert ferry.running() == [here]
    assert {ferry.state(host) for host in "abc"} == {(active, phase, epoch)}
