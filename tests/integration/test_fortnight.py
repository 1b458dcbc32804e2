# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fourteen days: each proves itself in the night it is made, and each comes back, as files, beside and in place.

Three days of it are in the ordinary run: test_restore.py, test_place.py and test_drill.py.
"""

from __future__ import annotations

import json
import re
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from integration.world import STORE, Played, World

pytestmark = pytest.mark.soak

# One that is restored, and one whose file system is destroyed.
VM, WITHERED = "fortnight", "withered"
TWIN = "fortnight-then"
TARGETS = ("vda", "vdb")
DAYS = range(1, 15)
DESTROYED = 9
# Overwritten every day: what differs between two days.
_MIB = 4


def image_of(day: int) -> str:
    return f"202603{day:02}T020000Z"


@dataclass
class Fortnight:
    """The two VMs, their nights, and what can be seen of one."""

    world: World
    inventory: Path

    # nights

    def play(self, name: str, vm: str, *options: str, day: int, expect: int = 0, **variables: Any) -> Played:
        variables.setdefault("now", f"2026-03-{day:02}T12:00:00Z")
        return self.world.play(name, "--limit", vm, *options, inventory=[self.inventory], expect=expect, **variables)

    def night(self, day: int, *vms: str) -> None:
        self.play("daily", ",".join(vms), day=day, now=f"2026-03-{day:02}T02:00:00Z")

    def make(self, day: int) -> None:
        """One night: both are backed up, then what was backed up is tried."""
        begun = time.monotonic()
        if day == DESTROYED:
            self.world.in_guest(WITHERED, "dd if=/dev/zero of=/dev/vda bs=1M count=200 conv=notrunc,fsync 2>/dev/null")
        self.write(day)
        before = self.written("a")
        self.night(day, VM, WITHERED)
        after, taken = self.written("a"), self.counters("c", [self.kept(day, target) for target in TARGETS])
        assert before[1] <= taken[1] <= taken[0] <= taken[1] + 1 and taken[0] <= after[0]
        at_rest = time.monotonic()
        self.play("drill", f"{VM},{WITHERED}", day=day, expect=int(day >= DESTROYED))
        print(f"night {day:2} {at_rest - begun:6.1f} s, its drills {time.monotonic() - at_rest:6.1f} s", flush=True)

    def write(self, day: int) -> None:
        marks = "; ".join(f"echo day {day} > /disk/{target}/marker" for target in TARGETS)
        fill = f"dd if=/dev/urandom of=/disk/vda/filling bs=1M count={_MIB} conv=notrunc 2>/dev/null"
        self.world.in_guest(VM, f"{marks}; {fill}; sync")

    def written(self, on: str, vm: str = VM) -> tuple[int, int]:
        """What the guest's counter is, on its first disk and then on its second."""
        read = " ".join(f"/disk/{target}/counter" for target in TARGETS)
        first, second = self.world.in_guest(vm, f"cat {read}", on=on).split()
        return int(first), int(second)

    # what is on disks

    def counters(self, host: str, raws: Sequence[str]) -> list[int]:
        return [int(number) for number in self.world.lab("guest", "counters", "--on", host, *raws).split()]

    def kept(self, day: int, target: str) -> str:
        return f"{STORE}/{VM}/images/{image_of(day)}/{target}.raw"

    def roots(self, *days: int) -> dict[str, dict[str, str]]:
        """Digests of images, computed from their files; of all of them when none is named."""
        ids = [image_of(day) for day in days] or self.world.images(VM)
        return {image_id: self.world.check_image(VM, image_id) for image_id in ids}

    def check_disks(self, host: str, paths: Sequence[str], form: str, day: int) -> None:
        """What lies there is that day's image bit by bit, whole, with its marker and its counter."""
        on, raws = self.world.on, [f"/root/{target}.then" for target in TARGETS]
        for target, path, raw in zip(TARGETS, paths, raws, strict=True):
            on(host, f"qemu-img convert -f {form} -O raw {path} {raw}")
            assert on(host, f"sha256sum < {raw}") == on("c", f"sha256sum < {self.kept(day, target)}")
            assert on(host, f"debugfs -R 'cat /marker' {raw} 2>/dev/null") == f"day {day}"
            on(host, f"e2fsck -fn {raw}")
        assert self.counters(host, raws) == self.counters("c", [self.kept(day, target) for target in TARGETS])
        on(host, f"rm {' '.join(raws)}")

    def check_guest(self, vm: str, host: str, day: int) -> None:
        """The guest that has that day's disks goes on counting where that day's image ends."""
        self.world.lab("guest", "wait", vm, "--on", host)
        for target in TARGETS:
            assert self.world.in_guest(vm, f"cat /disk/{target}/marker", on=host) == f"day {day}"
        then = self.counters("c", [self.kept(day, target) for target in TARGETS])
        first, second = self.written(host, vm)
        # It wrote on between the two looks.
        assert min(then) <= first <= second + 1 < min(then) + 600, (then, first, second)

    def restored(self, how: str, day: int, begun: float, what: str) -> None:
        print(f"{how} day {day:2} {time.monotonic() - begun:6.1f} s  {what}", flush=True)

    def path(self, target: str) -> str:
        return self.world.on("a", f"virsh domblklist {VM} | awk '$1 == \"{target}\" {{print $2}}'")

    def sent(self) -> int:
        told = json.loads(self.world.on("c", f"cat {STORE}/{VM}/transfer/restore.result.json"))
        return int(told["bytes_sent"])

    # drills

    def status(self, vm: str, expect: int = 0) -> str:
        return " ".join(self.play("status", vm, day=DAYS[-1], expect=expect).output.split())

    def drills(self, vm: str) -> dict[str, bool]:
        folder = f"{STORE}/{vm}/drills"
        records = [json.loads(self.world.on("c", f"cat {folder}/{image_of(day)}.json")) for day in DAYS]
        return {record["image"]: record["passed"] for record in records}

    def screen(self, vm: str, day: int) -> list[bytes]:
        """The lines of text on a drill's picture, as the pixels they are made of; those that are blank left out."""
        folder = f"{STORE}/{vm}/drills/{image_of(day)}"
        picture = bytes.fromhex(self.world.on("b", f"od -An -v -tx1 {folder}/screen.png").replace("\n", " "))
        width, height = struct.unpack(">II", picture[16:24])
        data, at = b"", 8
        while at < len(picture):
            size, kind = struct.unpack(">I4s", picture[at : at + 8])
            data += picture[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
            at += 12 + size
        pixels, line = zlib.decompress(data), 3 * width + 1
        assert len(pixels) == line * height
        rows = [pixels[top * line : (top + 16) * line] for top in range(0, height, 16)]
        return [row for row in rows if any(row)]


@pytest.fixture(scope="module")
def fortnight(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fortnight]:
    """Fourteen nights, in each of which both VMs are backed up and their new images are tried."""
    settings = {VM: {}, WITHERED: {"resilient_vm_drill_wait_seconds": 75}}
    extra = world.inventory_file(tmp_path_factory.mktemp("inventory") / "fortnight.json", settings)
    made = Fortnight(world, extra)
    if f"{VM} " not in world.lab("guest", "list"):
        world.lab("guest", "create", "a", VM, "--kind", "two-disk", "--rate", "0")
        world.lab("guest", "create", "a", WITHERED, "--kind", "raw", "--no-mount")
    for vm in {VM, WITHERED} - set(world.on("a", "virsh list --name").split()):
        world.lab("guest", "start", vm, "--on", "a")
        world.lab("guest", "wait", vm, "--on", "a")
    world.play("site", inventory=[extra])
    # Machines that were kept have some of the nights.
    for day in DAYS[len(world.images(VM)) :]:
        made.make(day)
    assert world.images(VM) == [image_of(day) for day in DAYS]
    yield made
    # A guest that idles takes its share of the box from the tests to come.
    for vm in (VM, WITHERED):
        for host in "ab":
            world.on(host, f"virsh destroy {vm}", check=False)


def test_fourteen_nights_have_proven_fourteen_days(fortnight: Fortnight) -> None:
    assert fortnight.drills(VM) == {image_of(day): True for day in DAYS}
    assert "14 of 14 images proven" in fortnight.status(VM)


def test_a_destroyed_file_system_fails_from_its_night_on_and_is_seen(fortnight: Fortnight) -> None:
    assert fortnight.drills(WITHERED) == {image_of(day): day < DESTROYED for day in DAYS}
    told = fortnight.status(WITHERED, expect=1)
    assert "8 of 14 images proven" in told
    assert f"the drill of image {image_of(DAYS[-1])} of {WITHERED} failed at" in told
    whole = {row for day in DAYS[: DESTROYED - 1] for row in fortnight.screen(WITHERED, day)}
    broken = [set(fortnight.screen(WITHERED, day)) for day in DAYS[DESTROYED - 1 :]]
    # What all of these pictures say and none of a machine that came up does.
    said = set.intersection(*broken) - whole
    assert said
    for day in DAYS[DESTROYED - 1 :]:
        assert "is up" not in fortnight.world.on("b", f"cat {STORE}/{WITHERED}/drills/{image_of(day)}/serial.log")
    print(f"{len(said)} lines on the screen say so")


def test_every_day_comes_out_as_files(fortnight: Fortnight) -> None:
    world, images = fortnight.world, fortnight.roots()
    for day in DAYS:
        host, form = "cba"[day % 3], ("raw", "qcow2")[day % 2]
        path, begun = f"/srv/day-{day}", time.monotonic()
        wish = {"restore_to": "files", "restore_point": image_of(day), "restore_host": host, "restore_path": path}
        fortnight.play("restore", VM, day=DAYS[-1], restore_format=form, **wish)
        fortnight.restored("files", day, begun, f"as {form} on {host}")
        fortnight.check_disks(host, [f"{path}/{target}.{form}" for target in TARGETS], form, day)
        world.on(host, f"rm -r {path}")
    assert fortnight.roots() == images


def test_every_day_runs_beside_today(fortnight: Fortnight) -> None:
    world, images = fortnight.world, fortnight.roots()
    for day in DAYS:
        host, form = "ab"[day % 2], ("raw", "qcow2")[day // 2 % 2]
        wish = {"restore_to": "beside", "restore_point": f"2026-03-{day:02}", "restore_host": host}
        begun = time.monotonic()
        fortnight.play("restore", VM, day=DAYS[-1], restore_name=TWIN, restore_format=form, **wish)
        fortnight.restored("beside", day, begun, f"as {form} on {host}")
        folder = f"{STORE}/{VM}/restored/{TWIN}"
        try:
            fortnight.check_disks(host, [f"{folder}/{target}.{form}" for target in TARGETS], form, day)
            world.on(host, f"virsh start {TWIN}")
            fortnight.check_guest(TWIN, host, day)
        finally:
            world.on(host, f"virsh destroy {TWIN}; virsh undefine {TWIN} --nvram; rm -r {STORE}/{VM}/restored")
        assert world.in_guest(VM, "cat /disk/vda/marker") == f"day {DAYS[-1]}"
    assert fortnight.roots() == images


def test_every_day_takes_the_place_of_today_and_the_next_night_and_a_takeover_work(fortnight: Fortnight) -> None:
    world, images = fortnight.world, fortnight.roots()
    days = Random(20260314).sample(DAYS, len(DAYS))
    for count, day in enumerate(days):
        begun = time.monotonic()
        wish = {"restore_to": "place", "restore_point": f"-{DAYS[-1] - day}d"}
        asked = fortnight.play("restore", VM, day=DAYS[-1], expect=1, **wish)
        word = re.search(r"resilient_vm_confirm=(\S+)", asked.output)
        assert word, asked.output
        # Every other time it is off, so that its disks can be looked at before the guest writes on.
        if count % 2:
            world.lab("guest", "stop", VM, "--on", "a")
        fortnight.play("restore", VM, day=DAYS[-1], confirm=word.group(1), **wish)
        fortnight.restored("place", day, begun, f"{fortnight.sent()} bytes, {'off' if count % 2 else 'running'}")
        if count % 2:
            fortnight.check_disks("a", [fortnight.path(target) for target in TARGETS], "qcow2", day)
            world.lab("guest", "start", VM, "--on", "a")
        fortnight.check_guest(VM, "a", day)
        # What was kept aside fills the disk in the end.
        for target in TARGETS:
            world.on("a", f"rm -f {fortnight.path(target)}.before-*")
    assert fortnight.roots() == images
    after = DAYS[-1] + 1
    fortnight.write(after)
    fortnight.night(after, VM)
    assert world.images(VM) == [image_of(day) for day in (*DAYS[1:], after)]
    assert fortnight.roots(*DAYS[1:]) == {image_of(day): images[image_of(day)] for day in DAYS[1:]}
    assert fortnight.roots(after)[image_of(after)] == world.check_image(VM, image_of(after), "b")
    running = world.on("a", "virsh list --name").split()
    world.lab("crash", "a")
    try:
        asked = fortnight.play("failover", VM, day=after, expect=1)
        word = re.search(r"resilient_vm_confirm=(\S+)", asked.output)
        assert word, asked.output
        fortnight.play("failover", VM, day=after, confirm=word.group(1))
        fortnight.check_guest(VM, "b", after)
    finally:
        world.lab("up", "a")
        world.back_to_work([name for name in running if name not in (VM, WITHERED)])


# Replaces blocks of a disk by random ones: what another image differs by.
_SCATTER = """
import os, random, sys
blocks = os.path.getsize(sys.argv[1]) // 65536
with open(sys.argv[1], "r+b") as disk:
    for block in random.Random(int(sys.argv[2])).sample(range(blocks), blocks // int(sys.argv[3])):
        disk.seek(block * 65536)
        disk.write(os.urandom(65536))
"""


def test_a_hundredth_that_differs_moves_no_more_than_that(world: World, tmp_path: Path) -> None:
    """Of a full disk whose blocks can't be compressed; all that travels counts, both ways: half digests of all blocks
    are 2.4 % of a hundredth.
    """
    vm, size = "hundredth", 1 << 30
    inventory = world.inventory_file(tmp_path / "hundredth.json", {vm: {}})
    world.lab("guest", "create", "a", vm, "--kind", "raw", "--size", str(size >> 20))
    disk = world.on("a", f"virsh domblklist {vm} | awk '$1 == \"vda\" {{print $2}}'")
    hundredth = Fortnight(world, inventory)

    def scatter(seed: int, share: int) -> None:
        world.lab("exec", "a", "python3", "-c", _SCATTER, disk, str(seed), str(share))

    try:
        scatter(0, 1)
        world.play("site", inventory=[inventory])
        hundredth.night(1, vm)
        scatter(1, 100)
        image = f"{STORE}/{vm}/images/{image_of(1)}/vda.raw"
        wish = {"restore_to": "place", "restore_point": "-0d"}
        asked = hundredth.play("restore", vm, day=1, expect=1, **wish)
        word = re.search(r"resilient_vm_confirm=(\S+)", asked.output)
        assert word, asked.output
        hundredth.play("restore", vm, day=1, confirm=word.group(1), **wish)
        assert world.on("a", f"sha256sum < {disk}") == world.on("c", f"sha256sum < {image}")
        told = json.loads(world.on("c", f"cat {STORE}/{vm}/transfer/restore.result.json"))
        differing = size // 65536 // 100 * 65536
        print(f"{told['bytes_sent']} bytes moved for {differing}: {told['bytes_sent'] / differing:.4f}")
        assert differing < told["bytes_sent"] <= 1.05 * differing
    finally:
        world.on("a", f"rm -f {disk}.before-*")
        world.lab("guest", "remove", vm, "--on", "a")
