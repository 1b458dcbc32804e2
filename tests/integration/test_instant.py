# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any day back at once: a VM runs before its data is there, keeps what it writes, and ends as one like any other."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from integration.diary import DIARY, TARGETS, Diary, image_of
from integration.world import STORE, Played

TWIN = "diary-at-once"
FOLDER = f"{STORE}/{DIARY}/restored/{TWIN}"
_UNDEFINE = f"virsh destroy {TWIN} || true; virsh undefine {TWIN} --nvram; rm -rf {STORE}/{DIARY}/restored"
# So little that a disk of 256 MiB takes over two minutes, unless a test has seen enough.
_SLOW = 4 << 20


@dataclass
class AtOnce:
    """A VM of the second day on B, and what can be seen of it."""

    diary: Diary
    host: str = "b"

    def run(self, *options: str, expect: int = 0, rate: int = _SLOW, **wish: Any) -> Played:
        wish = {"to": "beside", "point": image_of(2), "host": self.host, "name": TWIN, "mode": "instant", **wish}
        return self.diary.world.play(
            "restore",
            *("--limit", DIARY, *options),
            inventory=[self.diary.inventory],
            expect=expect,
            now="2026-01-03T12:00:00Z",
            transfer_bytes_per_second=rate,
            **{f"restore_{name}": value for name, value in wish.items()},
        )

    def said(self, played: Played) -> str:
        return " ".join(played.output.split())

    def on(self, command: str, check: bool = True) -> str:
        return self.diary.world.on(self.host, command, check=check)

    def in_guest(self, command: str) -> str:
        return self.diary.world.in_guest(TWIN, command, on=self.host)

    def wait_up(self) -> None:
        self.diary.world.lab("guest", "wait", TWIN, "--on", self.host)

    def lacks(self) -> bool:
        return any("backing" in self.on(f"qemu-img info -U {FOLDER}/{target}.qcow2") for target in TARGETS)

    def units(self) -> str:
        listing = f"systemctl list-units --all --plain --no-legend 'resilient-vm-*acme.{DIARY}*'"
        return "".join(self.diary.world.on(machine, listing) for machine in (self.host, "c"))

    def pins(self) -> str:
        return self.diary.world.on("c", f"ls {STORE}/{DIARY}/pins")

    def hurry(self) -> None:
        """As docs/restore.md says."""
        for target in TARGETS:
            self.on(f"virsh blockjob {TWIN} {target} --bandwidth 0", check=False)

    def ends(self, seconds: float = 180) -> None:
        """It comes to depend on nothing: no backing file, socket, unit or pin is left."""

        def over() -> bool:
            self.hurry()
            return not self.units()

        self.diary.world.wait_until(over, seconds, "all its data is there and the units have ended")
        assert not self.lacks()
        assert self.pins() == ""
        assert self.on("ls /run/resilient-vm/.lent") == ""
        for kind in ("", "--inactive"):
            assert "nbd" not in self.on(f"virsh dumpxml {TWIN} {kind}")
        assert "rerror_policy" not in self.on(f"virsh dumpxml {TWIN} --inactive")
        again = self.run()
        assert again.changed == 0
        assert "all its data is there" in self.said(again)

    def check_disks(self, written: str) -> None:
        """The image's file systems, whole, with what was written since."""
        self.diary.world.lab("guest", "stop", TWIN, "--on", self.host)
        for target in TARGETS:
            raw = f"/root/{target}.at-once"
            self.on(f"qemu-img convert -f qcow2 -O raw {FOLDER}/{target}.qcow2 {raw}")
            assert self.on(f"debugfs -R 'cat /marker' {raw} 2>/dev/null") == "day 2"
            assert self.on(f"debugfs -R 'cat /written' {raw} 2>/dev/null") == written
            self.on(f"e2fsck -fn {raw}")
            self.compare(target, raw)
            self.on(f"rm {raw}")

    def compare(self, target: str, raw: str) -> None:
        """What the guest had no reason to write is the image's, block by block."""
        world, kept = self.diary.world, f"{STORE}/{DIARY}/images/{image_of(2)}/{target}.raw"
        sums = "import hashlib, sys; f = open(sys.argv[1], 'rb'); print(*(hashlib.md5(b).hexdigest() for b in iter("
        sums += "lambda: f.read(65536), b'')))"
        mine = world.lab("exec", self.host, "python3", "-c", sums, raw).split()
        theirs = world.lab("exec", "c", "python3", "-c", sums, kept).split()
        differing = sum(one != other for one, other in zip(mine, theirs, strict=True))
        # Its journal, its inodes, the two files of this test.
        assert differing < len(mine) / 8


@pytest.fixture
def at_once(diary: Diary) -> Iterator[AtOnce]:
    images = diary.roots()
    made = AtOnce(diary)
    yield made
    diary.world.on("b", _UNDEFINE, check=False)
    diary.world.wait_until(lambda: not made.units() and not made.pins(), 60, "nothing is lent any more")
    assert diary.roots() == images


def test_it_runs_at_once_keeps_what_it_writes_and_ends_as_any_other(at_once: AtOnce) -> None:
    diary, before = at_once.diary, at_once.diary.tree()
    planned = at_once.said(at_once.run("--check"))
    assert f"image {image_of(2)} would become VM {TWIN} on b, at once;" in planned
    assert "follow from c" in planned
    assert diary.tree() == before
    assert at_once.run().changed > 0
    at_once.wait_up()
    for target in TARGETS:
        assert at_once.in_guest(f"cat /disk/{target}/marker") == "day 2"
        at_once.in_guest(f"echo while it came > /disk/{target}/written; sync")
    assert at_once.lacks()
    assert at_once.pins() == f"{image_of(2)}.lent.json"
    again = at_once.run()
    assert again.changed == 0
    assert re.search(r"of whose data \d+ % are there", at_once.said(again))
    at_once.ends()
    at_once.check_disks("while it came")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "files": ({"to": "files", "path": "/srv/x"}, "resilient_vm_restore_mode instant of diary is for a new VM only"),
    "place": ({"to": "place"}, "or restore to place with resilient_vm_restore_mode=copy"),
}


@pytest.mark.parametrize("case", [pytest.param("files"), pytest.param("place", marks=pytest.mark.soak)])
def test_only_a_new_vm_runs_at_once(at_once: AtOnce, case: str) -> None:
    wish, words = WRONG[case]
    before = at_once.diary.tree()
    assert words in at_once.said(at_once.run(expect=1, **wish))
    assert at_once.diary.tree() == before


@pytest.mark.soak
def test_a_link_that_is_cut_for_a_minute_makes_the_guest_wait(at_once: AtOnce) -> None:
    world = at_once.diary.world
    at_once.run()
    at_once.wait_up()
    for target in TARGETS:
        at_once.in_guest(f"echo before > /disk/{target}/written; sync; echo 3 > /proc/sys/vm/drop_caches")
    world.lab("cut", "c")
    time.sleep(60)
    assert at_once.on(f"virsh domstate {TWIN}") in ("running", "paused")
    world.lab("heal", "c")
    for target in TARGETS:
        assert at_once.in_guest(f"cat /disk/{target}/marker") == "day 2"
    at_once.ends()
    at_once.check_disks("before")


@pytest.mark.soak
def test_stopping_what_lends_makes_the_guest_wait_until_it_lends_again(at_once: AtOnce) -> None:
    world = at_once.diary.world
    at_once.run()
    at_once.wait_up()
    world.on("c", f"systemctl stop resilient-vm-lend-acme.{DIARY}")
    assert at_once.pins() == f"{image_of(2)}.lent.json"
    assert at_once.run().changed > 0
    for target in TARGETS:
        at_once.in_guest(f"echo after > /disk/{target}/written; sync")
    world.on("b", "systemctl restart libvirtd")
    world.on("c", f"systemctl kill -s KILL resilient-vm-lend-acme.{DIARY}")
    world.on("b", f"systemctl kill -s KILL resilient-vm-stream-acme.{DIARY}")
    at_once.ends()
    at_once.check_disks("after")


@pytest.mark.soak
def test_a_host_that_crashed_goes_on_with_the_same_command(at_once: AtOnce) -> None:
    world = at_once.diary.world
    at_once.run()
    at_once.wait_up()
    for target in TARGETS:
        at_once.in_guest(f"echo kept > /disk/{target}/written; sync")
    world.lab("crash", "b")
    world.lab("up", "b")
    assert at_once.pins() == f"{image_of(2)}.lent.json"
    # Without what it lacks it doesn't start, and so reads no zeros.
    at_once.on(f"! virsh start {TWIN}")
    assert at_once.run().changed > 0
    at_once.wait_up()
    for target in TARGETS:
        assert at_once.in_guest(f"cat /disk/{target}/marker") == "day 2"
    at_once.ends()
    at_once.check_disks("kept")


@pytest.mark.soak
def test_a_block_that_is_damaged_on_the_backup_storage_never_reaches_the_guest(at_once: AtOnce) -> None:
    world, folder = at_once.diary.world, f"{STORE}/{DIARY}/images/{image_of(2)}"
    # Far behind what it boots from.
    offset = (120 << 20) + 17
    world.spoil("c", f"{folder}/vdb.raw", offset)
    try:
        at_once.run(rate=0)
        marked = f"test -e {folder}/damaged.json && echo marked"
        world.wait_until(lambda: world.on("c", marked, check=False) == "marked", 120, "the block is marked")
        assert at_once.lacks()
    finally:
        world.spoil("c", f"{folder}/vdb.raw", offset)
        world.on("c", f"rm -f {folder}/damaged.json")
    at_once.ends()
