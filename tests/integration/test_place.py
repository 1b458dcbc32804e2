# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A day back in place: the VM's own disks are those of that day, today's are kept, and the next night goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from integration.world import STORE, Played, World

# Each case goes on where the one before ended.
STORY = True
# Two qcow2 files, and one raw one.
DISKS = {"rewind": {"vda": "qcow2", "vdb": "qcow2"}, "reraw": {"vda": "raw"}}
KINDS = {"rewind": "two-disk", "reraw": "raw"}
# Overwritten every day: what differs between two days.
_MIB = 16


def image_of(day: int) -> str:
    return f"202602{day:02}T020000Z"


@dataclass
class Calendar:
    """VMs that write down which day it is."""

    world: World
    inventory: Path

    def begins(self, vm: str) -> None:
        """It is protected, and has an image of each of two days, unless it has been kept."""
        if f"{vm} " not in self.world.lab("guest", "list"):
            self.world.lab("guest", "create", "a", vm, "--kind", KINDS[vm], "--rate", "0", "--start")
        self.world.protect(self.inventory, vm)
        if not self.world.images(vm):
            for day in (1, 2):
                self.write(day, vm)
                self.daily(day, vm)

    def daily(self, day: int, vm: str, expect: int = 0, **more: Any) -> Played:
        now = f"2026-02-{day:02}T02:00:00Z"
        return self.world.play("daily", "--limit", vm, inventory=[self.inventory], now=now, expect=expect, **more)

    def write(self, day: int, vm: str) -> None:
        mark = f"echo day {day} > /disk/vda/marker"
        fill = f"dd if=/dev/urandom of=/disk/vda/filling bs=1M count={_MIB} conv=notrunc 2>/dev/null"
        self.world.in_guest(vm, f"{mark}; {fill}; sync")

    def restore(self, vm: str, point: str, *options: str, expect: int = 0, **more: Any) -> Played:
        variables = {"restore_to": "place", "restore_point": point, "now": "2026-02-02T12:00:00Z", **more}
        inventory = [self.inventory]
        return self.world.play("restore", "--limit", vm, *options, inventory=inventory, expect=expect, **variables)

    def word(self, vm: str, point: str) -> str:
        refused = self.restore(vm, point, expect=1)
        match = re.search(r"resilient_vm_confirm=(\S+)", refused.output)
        assert match, refused.output
        return match.group(1)

    def path(self, vm: str, target: str) -> str:
        return self.world.on("a", f"virsh domblklist {vm} | awk '$1 == \"{target}\" {{print $2}}'")

    def marker(self, vm: str) -> str:
        self.world.lab("guest", "wait", vm, "--on", "a")
        return self.world.in_guest(vm, "cat /disk/vda/marker")

    def roots(self, vm: str) -> dict[str, dict[str, str]]:
        return {image_id: self.world.check_image(vm, image_id) for image_id in self.world.images(vm)}

    def phase(self, vm: str, host: str) -> str:
        return str(json.loads(self.world.on(host, f"cat {STORE}/{vm}/state.json"))["phase"])

    def kept(self, vm: str) -> list[str]:
        return [
            path for target in DISKS[vm] for path in self.world.on("a", f"ls {self.path(vm, target)}.* || true").split()
        ]

    def check_kept(self, vm: str, day: int) -> None:
        """Today's disks are kept whole, under another name."""
        kept = self.kept(vm)
        assert len(kept) == len(DISKS[vm])
        form = DISKS[vm]["vda"]
        self.world.on("a", f"qemu-img convert -f {form} -O raw {kept[0]} /root/kept.raw")
        assert self.world.on("a", "debugfs -R 'cat /marker' /root/kept.raw 2>/dev/null") == f"day {day}"
        self.world.on("a", "e2fsck -fn /root/kept.raw && rm /root/kept.raw")

    def next_night(self, vm: str, day: int, **more: Any) -> Played:
        """The restored VM is backed up like any other, in the same history, and its standby is as good."""
        before = self.world.images(vm)
        played = self.daily(day, vm, **more)
        assert self.world.images(vm) == [*before, image_of(day)]
        found = {disk["found_by"] for disk in self.world.manifest(vm, image_of(day))["disks"]}
        assert found == {"digests"}
        self.world.check_newest(vm, DISKS[vm])
        assert self.phase(vm, "a") == self.phase(vm, "b") == self.phase(vm, "c") == "protected"
        leftovers = f"ls -A {STORE}/{vm}/restores/incoming; ls {STORE}/{vm}/exchange.json 2> /dev/null || true"
        assert self.world.on("a", leftovers) == ""
        return played


@pytest.fixture(scope="module")
def calendar(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calendar]:
    folder = tmp_path_factory.mktemp("inventory")
    yield Calendar(world, world.inventory_file(folder / "place.json", {vm: {} for vm in DISKS}))
    # A guest that idles takes its share of the box from the tests to come.
    for vm in DISKS:
        world.on("a", f"virsh destroy {vm}", check=False)


def test_yesterday_takes_the_place_of_today(calendar: Calendar) -> None:
    vm, world = "rewind", calendar.world
    calendar.begins(vm)
    images = calendar.roots(vm)
    planned = calendar.restore(vm, "-1d", "--check")
    told = " ".join(planned.output.split())
    assert f"image {image_of(1)} would take the place of its disks on a" in told
    size = re.search(rf"would travel: ([0-9.]+) MB, by which image {image_of(2)} differs from it, and what was", told)
    # Before compression, and in whole blocks.
    assert size and _MIB <= float(size.group(1)) < 2 * _MIB, told
    word = calendar.word(vm, "2026-02-01")
    assert word.startswith(f"{vm}@{image_of(1)}#")
    # The word is for that day only.
    assert "resilient_vm_confirm=" in calendar.restore(vm, image_of(2), expect=1, confirm=word).output
    assert calendar.marker(vm) == "day 2"
    calendar.restore(vm, "2026-02-01", confirm=word)
    assert calendar.marker(vm) == "day 1"
    moved = json.loads(world.on("c", f"cat {STORE}/{vm}/transfer/restore.result.json"))
    assert _MIB << 20 < moved["bytes_sent"] < (_MIB + 4) * 1.05 * (1 << 20)
    assert calendar.roots(vm) == images
    calendar.check_kept(vm, 2)
    # The same command again is somebody else's wish, or a job that was started twice.
    again = calendar.restore(vm, "2026-02-01", confirm=word, expect=1)
    assert "resilient_vm_confirm=" in again.output
    assert calendar.marker(vm) == "day 1"
    status = world.play("status", "--limit", vm, inventory=[calendar.inventory], now="2026-02-02T12:00:00Z")
    assert "kept aside on a: disks of until 2026-02-02T12:00:0" in status.output


@pytest.mark.soak
def test_and_today_again_by_the_disks_that_were_kept(calendar: Calendar) -> None:
    """Then yesterday's are kept."""
    vm = "rewind"
    calendar.restore(vm, "aside", confirm=calendar.word(vm, "aside"))
    assert calendar.marker(vm) == "day 2"
    calendar.check_kept(vm, 1)


def test_the_next_night_goes_on_and_erases_what_was_kept(calendar: Calendar) -> None:
    vm, world = "rewind", calendar.world
    world.lab("guest", "stop", vm, "--on", "a")
    for target in DISKS[vm]:
        # Its owner's mode and format, and a whole file system.
        assert len(set(world.on("a", f"stat -c '%a %U %G' {calendar.path(vm, target)}*").splitlines())) == 1
        world.on(
            "a",
            f"qemu-img convert -f qcow2 -O raw {calendar.path(vm, target)} /root/now.raw && e2fsck -fn /root/now.raw",
        )
    world.on("a", "rm /root/now.raw")
    night = calendar.next_night(vm, 4, keep_aside_days=1)
    assert "erased what was kept aside on a: " in night.output
    assert calendar.kept(vm) == []


@pytest.mark.soak
def test_a_restore_that_is_killed_is_gone_on_with(calendar: Calendar) -> None:
    vm, world = "reraw", calendar.world
    calendar.begins(vm)
    word = calendar.word(vm, image_of(1))
    world.lab("shape", "c", "40mbit")
    play = world.start_play(
        "restore",
        *("--limit", vm),
        inventory=[calendar.inventory],
        restore_to="place",
        restore_point=image_of(1),
        now="2026-02-02T12:00:00Z",
        confirm=word,
    )
    try:
        world.wait_until(
            lambda: world.on("c", "systemctl is-active resilient-vm-restore-acme.reraw || true") == "active",
            120,
            "the copy runs",
        )
    finally:
        play.kill()
        play.communicate()
        world.lab("shape", "c", "off")
    assert calendar.phase(vm, "c") == "restoring"
    assert "restoring" in " ".join(calendar.daily(3, vm, expect=1).refusals(vm))
    # What was begun goes on without another word, and only with the image it began with.
    other = calendar.restore(vm, image_of(2), expect=1)
    assert f"resilient_vm_restore_point={image_of(1)}" in "".join(other.output.split())
    calendar.restore(vm, image_of(1))
    assert calendar.marker(vm) == "day 1"
    calendar.check_kept(vm, 2)
    # Cut off when all but the start was done: the next run ends that, and takes itself for another wish.
    (record,) = (entry for entry in json.loads(world.on("a", f"cat {STORE}/{vm}/aside.json")) if entry["path"])
    left = {"image_id": image_of(1), "epoch": 1, "when": record["when"], "running": True, "exchanged": True}
    world.lab("guest", "destroy", vm, "--on", "a")
    text = json.dumps({**left, "files": [{**record, "format": "raw"}]})
    world.lab("exec", "a", "sh", "-c", f"cat > {STORE}/{vm}/exchange.json", stdin=text)
    assert "resilient_vm_confirm=" in calendar.restore(vm, image_of(1), expect=1).output
    assert calendar.marker(vm) == "day 1"
    assert len(calendar.kept(vm)) == 1
    world.lab("guest", "stop", vm, "--on", "a")
    calendar.next_night(vm, 3)
