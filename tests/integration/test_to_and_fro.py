# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Raw, qcow2, two-disk and UEFI guests move A→B→A→B→A: nothing is lost, and what travels follows what was written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from integration.world import STORE, World
from lab.rvmlab.domain import Guest

pytestmark = pytest.mark.soak

# What each guest is, in words of the lab.
GUESTS = {
    "roam-raw": ("--kind", "raw"),
    "roam-qcow2": ("--kind", "raw", "--format", "qcow2"),
    "roam-two": ("--kind", "two-disk"),
    "roam-uefi": ("--kind", "uefi"),
}
KINDS = {"roam-raw": "raw", "roam-qcow2": "raw", "roam-two": "two-disk", "roam-uefi": "uefi"}
MIB = 1 << 20
UEFI = "roam-uefi"
# MiB that nobody can compress, written before each move: little and much in either direction.
WRITTEN = (1, 24, 16, 2)
# What guests of ext4 write beside it, in whole blocks of 64 KiB: journal and inodes of each disk, for each of the three
# images of a move (while it runs, when it is off, from where it runs then).
BESIDE = 16 * MIB


def disks(vm: str) -> list[str]:
    return [disk.target for disk in Guest.of_kind(vm, KINDS[vm]).disks]


class Fleet:
    """Four VMs that move together."""

    def __init__(self, world: World, inventory: Path) -> None:
        self.world, self.inventory = world, inventory

    def play(self, name: str, **variables: Any) -> str:
        played = self.world.play(name, "--limit", ",".join(GUESTS), inventory=[self.inventory], **variables)
        return " ".join(played.output.split())

    def states(self, vm: str) -> set[tuple[str, str, int]]:
        read = [json.loads(self.world.on(host, f"cat {STORE}/{vm}/state.json")) for host in "abc"]
        return {(state["active"], state["phase"], state["epoch"]) for state in read}

    def running(self, vm: str) -> list[str]:
        return [host for host in "ab" if self.world.on(host, f"virsh domstate {vm}", check=False) == "running"]

    def write(self, vm: str, here: str, leg: int) -> None:
        """As much as the leg asks for, divided among its disks, and a line on each."""
        targets = disks(vm)
        each = WRITTEN[leg] * 16 // len(targets)
        for target in targets:
            fill = f"dd if=/dev/urandom of=/disk/{target}/filling bs=64k count={each} conv=notrunc 2>/dev/null"
            self.world.in_guest(vm, f"{fill}; echo leg {leg} >> /disk/{target}/log; sync", on=here)

    def log(self, vm: str, host: str) -> list[str]:
        return [self.world.in_guest(vm, f"cat /disk/{target}/log", on=host) for target in disks(vm)]

    def filling(self, vm: str, host: str) -> list[str]:
        return [self.world.in_guest(vm, f"sha256sum < /disk/{target}/filling", on=host) for target in disks(vm)]

    def sent(self, vm: str, images: Sequence[str]) -> int:
        """Bytes that brought these images to the backup storage: of each disk what has changed, and little more."""
        found = [disk for image_id in images for disk in self.world.manifest(vm, image_id)["disks"]]
        for disk in found:
            assert disk["bytes_sent"] < 1.05 * disk["changed_bytes"] + 65536, disk
        return sum(disk["bytes_sent"] for disk in found)


@pytest.fixture(scope="module")
def fleet(machines: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    inventory = machines.inventory_file(tmp_path_factory.mktemp("inventory") / "roam.json", {vm: {} for vm in GUESTS})
    running = machines.on("a", "virsh list --name").split()
    for vm, words in GUESTS.items():
        machines.lab("guest", "create", "a", vm, *words, "--rate", "0", "--start")
    machines.protect(inventory, *GUESTS)
    fleet = Fleet(machines, inventory)
    machines.lab("guest", "stop", UEFI, "--on", "a")
    machines.mark_nvram("a", UEFI)
    machines.lab("guest", "start", UEFI, "--on", "a")
    machines.lab("guest", "wait", UEFI, "--on", "a")
    fleet.play("daily")
    yield fleet
    for host in "ab":
        for vm in GUESTS:
            machines.on(host, f"virsh destroy {vm}", check=False)
    machines.back_to_work([vm for vm in running if vm not in GUESTS])


def test_they_move_to_and_fro_and_nothing_is_lost(fleet: Fleet) -> None:
    world = fleet.world
    for leg, (here, there) in enumerate(("ab", "ba", "ab", "ba")):
        before = {vm: world.images(vm) for vm in GUESTS}
        for vm in GUESTS:
            fleet.write(vm, here, leg)
        written = {vm: fleet.filling(vm, here) for vm in GUESTS}
        said = fleet.play("switchover", switch_to=there)
        for vm in GUESTS:
            assert f"{vm} runs on {there} (epoch {leg + 2}) with all that was written before" in said
            assert fleet.running(vm) == [there]
            assert fleet.states(vm) == {(there, "protected", leg + 2)}
            world.lab("guest", "wait", vm, "--on", there)
            lines = "\n".join(f"leg {number}" for number in range(leg + 1))
            assert fleet.log(vm, there) == [lines] * len(disks(vm))
            assert fleet.filling(vm, there) == written[vm]
            images = world.images(vm)
            assert world.check_image(vm, images[-1]) == world.check_image(vm, images[-1], here)
            came = fleet.sent(vm, [image_id for image_id in images if image_id not in before[vm]])
            went = json.loads(world.on("c", f"cat {STORE}/{vm}/transfer/refresh.result.json"))["bytes_sent"]
            print(
                f"{vm} to {there}: {WRITTEN[leg]} MiB written, {came / MIB:.1f} came to c, {went / MIB:.1f} went",
                flush=True,
            )
            assert WRITTEN[leg] * MIB < came < WRITTEN[leg] * MIB + BESIDE
            assert went < WRITTEN[leg] * MIB + BESIDE
        assert world.nvram_is_marked(there, world.nvram(there, UEFI))


def test_a_move_to_their_old_places_that_is_killed_is_gone_on_with(fleet: Fleet) -> None:
    """After four moves, on the host they came from; they write on while their disks are copied."""
    world = fleet.world
    # Most of a minute for what lies on each disk.
    slow = {"inventory": [fleet.inventory], "transfer_bytes_per_second": MIB}
    process = world.start_play("relocate", "--limit", ",".join(GUESTS), **slow)
    mirrored = "virsh dumpxml {} | grep -c '<mirror ' || true"

    def copied() -> bool:
        if process.poll() is not None:
            pytest.fail(process.communicate()[0])
        return all(int(world.on("a", mirrored.format(vm))) == len(disks(vm)) for vm in GUESTS)

    try:
        world.wait_until(copied, 300, "all are copied")
    finally:
        process.kill()
        process.communicate()
    # And the service that the copies are asked of. What the playbook had begun on the host lives on for half a minute.
    world.on("a", "pkill -9 -x libvirtd; systemctl start libvirtd")
    for vm in GUESTS:
        # libvirt has to find its agent again.
        world.lab("guest", "wait", vm, "--on", "a")
        fleet.write(vm, "a", 3)
    written = {vm: fleet.filling(vm, "a") for vm in GUESTS}
    fleet.play("relocate")
    for vm in GUESTS:
        assert fleet.running(vm) == ["a"] and fleet.filling(vm, "a") == written[vm]
        owned = {disk.path(vm) for disk in Guest.of_kind(vm, KINDS[vm]).disks}
        if vm == "roam-qcow2":
            owned = {path.replace(".raw", ".qcow2") for path in owned}
        for part in ("", "--inactive"):
            found = world.on("a", f'virsh dumpxml {part} {vm} | grep -o "<source file=\'[^\']*" | sed "s/.*\'//"')
            assert set(found.split()) == owned
        # Not only libvirt's word: what QEMU has open may have no name any more.
        world.on("a", f"ls {' '.join(sorted(owned))}")
        world.lab("guest", "stop", vm, "--on", "a")
        world.lab("guest", "start", vm, "--on", "a")
        world.lab("guest", "wait", vm, "--on", "a")
        assert fleet.filling(vm, "a") == written[vm]
        assert not world.on("a", f"ls {STORE}/{vm} | grep relocate || true")
    assert world.nvram_is_marked("a", world.nvram("a", UEFI))
    assert world.play("relocate", "--limit", ",".join(GUESTS), inventory=[fleet.inventory]).changed == 0
    # The next image is of the new disks, and B stands by with it.
    fleet.play("daily", force=True)
    for vm in GUESTS:
        newest = world.images(vm)[-1]
        assert world.check_image(vm, newest) == world.check_image(vm, newest, "b")
