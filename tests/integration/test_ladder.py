# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exactly what changed travels, and whatever happens to a VM its next image is right and says how it was made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from integration.world import STORE, Played, World

BLOCK = 65536
MIB = 1 << 20
VM = "ledger"


@dataclass
class Ledger:
    """A VM that writes only what it is told to, and its calendar."""

    world: World
    extra: Path
    day: int = 0
    disks: dict[str, str] = field(default_factory=lambda: {"vda": "qcow2"})

    def write(self, block: int, count: int = 1, target: str = "vda") -> None:
        """Write random blocks and wait until they are on the disk."""
        self.world.in_guest(
            VM, f"dd if=/dev/urandom of=/dev/{target} bs=64k seek={block} count={count} conv=notrunc,fsync 2>/dev/null"
        )

    def cycle(self, expect: int | None = 0) -> Played:
        """The cycle of the next day."""
        self.day += 1
        now = f"2026-{(self.day - 1) // 28 + 1:02d}-{(self.day - 1) % 28 + 1:02d}T02:00:00Z"
        return self.world.play("daily", "--limit", VM, inventory=[self.extra], now=now, expect=expect)

    def cycle_until_red(self, nights: int) -> Played:
        """Cycle until a run fails; fails itself when none does."""
        told = []
        for _night in range(nights):
            played = self.cycle(expect=None)
            if played.code != 0:
                return played
            told.append((self.newest(), self.found_by(), self.proven()))
        raise AssertionError(f"{nights} nights and no run was red: {told}")

    def newest(self) -> str:
        return self.world.images(VM)[-1]

    def found_by(self, target: str = "vda") -> tuple[str, str]:
        manifest = self.world.manifest(VM, self.newest())
        disk = next(disk for disk in manifest["disks"] if disk["target"] == target)
        return disk["found_by"], disk["reason"]

    def proven(self) -> dict[str, Any]:
        """How far the rotating re-read is, by the newest image."""
        proven: dict[str, Any] = self.world.manifest(VM, self.newest())["disks"][0]["proven"]
        return proven

    def transfer(self, hop: str) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.world.on("c", f"cat {STORE}/{VM}/transfer/{hop}.result.json"))
        return result

    def reread_next(self) -> int:
        """A block with data in the slice that the next cycle reads again."""
        self.write(3)
        self.cycle()
        # A cycle that compared the whole disk begins the rotation anew, and the block's turn would be another night's.
        assert self.found_by() == ("bitmap", "")
        read = f"tail -c +{self.proven()['next_block'] * 32 + 1} {STORE}/{VM}/images/{self.newest()}/vda.digests"
        digests = bytes.fromhex(self.world.on("c", f"{read} | od -An -v -tx1"))
        data = (at for at in range(0, len(digests), 32) if any(digests[at : at + 32]))
        return self.proven()["next_block"] + next(data) // 32

    def raw(self, image_id: str, target: str = "vda") -> str:
        return f"{STORE}/{VM}/images/{image_id}/{target}.raw"

    def differing(self, old: str, new: str) -> set[int]:
        """Blocks in which two images differ, compared byte by byte."""
        listed = self.world.on(
            "c", f"cmp -l {self.raw(old)} {self.raw(new)} | awk '{{print int(($1 - 1) / {BLOCK})}}' | uniq"
        )
        return {int(line) for line in listed.split()}

    def check(self) -> None:
        self.world.check_newest(VM, self.disks)


@pytest.fixture(scope="module")
def ledger(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    extra = world.inventory_file(tmp_path_factory.mktemp("inventory") / "ledger.json", {VM: {}})
    world.lab("guest", "create", "a", VM, "--kind", "blank", "--size", "128", "--start")
    world.protect(extra, VM)
    ledger = Ledger(world, extra)
    ledger.write(0, 500)
    ledger.cycle()
    yield ledger
    world.lab("guest", "remove", VM, "--on", "a")


def test_first_image_holds_what_is_allocated(ledger: Ledger) -> None:
    assert ledger.found_by()[0] == "allocation"
    ledger.check()


def test_one_changed_block_travels_alone_by_bitmap(ledger: Ledger) -> None:
    before = ledger.newest()
    ledger.write(100)
    ledger.cycle()
    assert ledger.found_by() == ("bitmap", "")
    assert ledger.differing(before, ledger.newest()) == {100}
    for hop in ("fetch", "refresh"):
        assert ledger.transfer(hop)["bytes_sent"] < BLOCK + MIB, hop
    ledger.check()


def test_nothing_changed_sends_next_to_nothing(ledger: Ledger) -> None:
    before = ledger.newest()
    ledger.cycle()
    assert ledger.differing(before, ledger.newest()) == set()
    for hop in ("fetch", "refresh"):
        assert ledger.transfer(hop)["bytes_sent"] < MIB // 16, hop
    ledger.check()


def test_a_lost_bitmap_sends_only_what_differs(ledger: Ledger) -> None:
    before = ledger.newest()
    names = ledger.world.on("a", f"virsh checkpoint-list {VM} --name").split()
    for name in names:
        ledger.world.on("a", f"virsh checkpoint-delete {VM} {name}")
    ledger.write(200)
    ledger.cycle()
    how, reason = ledger.found_by()
    assert how == "digests"
    assert reason
    assert ledger.differing(before, ledger.newest()) == {200}
    assert ledger.transfer("fetch")["bytes_sent"] < BLOCK + MIB
    ledger.check()


@pytest.mark.soak
def test_a_killed_qemu(ledger: Ledger) -> None:
    ledger.write(300)
    ledger.world.lab("guest", "kill", VM, "--on", "a")
    ledger.world.lab("guest", "start", VM, "--on", "a")
    ledger.world.lab("guest", "wait", VM, "--on", "a")
    ledger.write(301)
    ledger.cycle()
    assert ledger.found_by()[0] == "digests"
    ledger.check()
    ledger.write(302)
    ledger.cycle()
    assert ledger.found_by() == ("bitmap", "")
    ledger.check()


@pytest.mark.soak
def test_a_foreign_checkpoint_is_left_alone(ledger: Ledger) -> None:
    ledger.world.on("a", f"virsh checkpoint-create-as {VM} theirs")
    ledger.write(310)
    ledger.cycle()
    assert "theirs" in ledger.world.on("a", f"virsh checkpoint-list {VM} --name").split()
    ledger.check()
    ledger.world.on("a", f"virsh checkpoint-delete {VM} theirs")


@pytest.mark.soak
def test_a_grown_disk(ledger: Ledger) -> None:
    ledger.world.on("a", f"virsh blockresize {VM} vda 160M")
    ledger.write(2300)
    ledger.cycle()
    ledger.check()
    assert ledger.world.manifest(VM, ledger.newest())["disks"][0]["size_bytes"] == 160 * MIB


def while_off(ledger: Ledger, command: str) -> None:
    """Change the machine while it is off; the bitmaps of its qcow2 disks live on."""
    ledger.world.lab("guest", "stop", VM, "--on", "a")
    ledger.world.on("a", command)
    ledger.world.lab("guest", "start", VM, "--on", "a")
    ledger.world.lab("guest", "wait", VM, "--on", "a")


@pytest.mark.soak
def test_a_raw_disk_added_and_removed_again(ledger: Ledger) -> None:
    path = f"/var/lib/libvirt/images/{VM}-extra.raw"
    ledger.world.on("a", f"truncate -s 32M {path}")
    while_off(ledger, f"virsh attach-disk {VM} {path} vdb --subdriver raw --config")
    ledger.disks["vdb"] = "raw"
    ledger.write(3, target="vdb")
    ledger.cycle()
    assert ledger.found_by("vdb")[0] == "allocation"
    ledger.check()
    ledger.write(5, target="vdb")
    ledger.cycle()
    assert ledger.found_by("vdb")[0] == "digests"
    assert ledger.found_by("vda") == ("bitmap", "")
    ledger.check()
    while_off(ledger, f"virsh detach-disk {VM} vdb --config")
    del ledger.disks["vdb"]
    ledger.cycle()
    assert [disk["target"] for disk in ledger.world.manifest(VM, ledger.newest())["disks"]] == ["vda"]
    ledger.check()


@pytest.mark.soak
def test_an_owners_external_snapshot(ledger: Ledger) -> None:
    ledger.world.on("a", f"virsh snapshot-create-as {VM} owner --disk-only --no-metadata")
    ledger.write(320)
    ledger.cycle()
    ledger.check()
    ledger.world.on("a", f"virsh blockcommit {VM} vda --active --pivot --wait")
    ledger.write(321)
    ledger.cycle()
    ledger.check()


@pytest.mark.soak
def test_a_stopped_vm(ledger: Ledger) -> None:
    ledger.write(330)
    ledger.world.lab("guest", "stop", VM, "--on", "a")
    ledger.cycle()
    assert ledger.world.manifest(VM, ledger.newest())["consistency"] == "offline"
    ledger.check()
    ledger.world.lab("guest", "start", VM, "--on", "a")
    ledger.world.lab("guest", "wait", VM, "--on", "a")
    ledger.write(331)
    ledger.cycle()
    ledger.check()


@pytest.mark.soak
def test_the_newest_image_deleted_by_hand(ledger: Ledger) -> None:
    ledger.write(340)
    ledger.world.on("c", f"rm -r {STORE}/{VM}/images/{ledger.newest()}")
    ledger.cycle()
    assert ledger.found_by()[0] == "digests"
    ledger.check()


@pytest.mark.soak
def test_a_flipped_bit_in_the_newest_image_never_reaches_the_standby(ledger: Ledger) -> None:
    block = ledger.reread_next()
    flipped = ledger.newest()
    ledger.world.spoil("c", ledger.raw(flipped), block * BLOCK + 5)
    assert "damaged" in ledger.cycle_until_red(2).output
    ledger.check()
    assert ledger.world.on("c", f"cat {STORE}/{VM}/images/{flipped}/damaged.json")
    ledger.cycle()
    ledger.check()


@pytest.mark.soak
def test_a_silently_wrong_bitmap_is_found_by_the_rotating_reread(ledger: Ledger) -> None:
    """A block changed on the stopped disk behind QEMU's back: its bitmap knows nothing of it."""
    lost = []
    for _attempt in range(3):
        behind_its_back(ledger, ledger.reread_next())
        played = ledger.cycle(expect=None)
        if played.code != 0:
            break
        # Only a night that did not trust the bitmap may be green: it compared the whole disk, and says why.
        how, reason = ledger.found_by()
        assert how == "digests" and reason
        lost.append(reason)
        ledger.check()
        ledger.cycle()
    assert "bitmap" in played.output, lost
    assert ledger.found_by()[0] == "digests"
    ledger.check()


@pytest.mark.soak
def test_a_silently_wrong_bitmap_is_found_wherever_it_is(ledger: Ledger) -> None:
    behind_its_back(ledger, 360)
    assert "bitmap" in ledger.cycle_until_red(14).output
    ledger.check()


def behind_its_back(ledger: Ledger, block: int) -> None:
    """Change a block in the qcow2 file of the stopped VM, outside of QEMU."""
    ledger.world.lab("guest", "stop", VM, "--on", "a")
    source = ledger.world.on("a", f"virsh domblklist {VM} | awk '$1 == \"vda\" {{print $2}}'")
    entries = json.loads(ledger.world.on("a", f"qemu-img map --output=json {source}"))
    at = block * BLOCK
    where = next(e["offset"] + at - e["start"] for e in entries if e["start"] <= at < e["start"] + e["length"])
    ledger.world.spoil("a", source, where)
    ledger.world.lab("guest", "start", VM, "--on", "a")
    ledger.world.lab("guest", "wait", VM, "--on", "a")


@pytest.mark.soak
def test_a_power_cut_of_the_active_host(ledger: Ledger) -> None:
    running = ledger.world.on("a", "virsh list --name").split()
    ledger.world.lab("powercut", "a")
    ledger.world.lab("up", "a")
    ledger.world.back_to_work(running)
    ledger.write(370)
    ledger.cycle()
    assert ledger.found_by()[0] == "digests"
    ledger.check()
