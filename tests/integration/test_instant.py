# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any day back at once: a VM runs before its data is there, keeps what it writes, and ends as one like any other."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from integration.diary import DIARY, TARGETS, Diary, image_of
from integration.world import STORE, Played, World

TWIN = "at-once"
# So little that two disks of 256 MiB take over eight minutes, unless a test has seen enough.
_SLOW = 1 << 20


@dataclass
class AtOnce:
    """A VM that runs at once on B, and what can be seen of it."""

    world: World
    inventory: Path
    vm: str
    image: str
    targets: Sequence[str] = TARGETS
    host: str = "b"

    @property
    def folder(self) -> str:
        return f"{STORE}/{self.vm}/restored/{TWIN}"

    def run(self, *options: str, expect: int = 0, rate: int = _SLOW, **wish: Any) -> Played:
        wish = {"to": "beside", "point": self.image, "host": self.host, "name": TWIN, "mode": "instant", **wish}
        return self.world.play(
            "restore",
            *("--limit", self.vm, *options),
            inventory=[self.inventory],
            expect=expect,
            now="2026-01-03T12:00:00Z",
            transfer_bytes_per_second=rate,
            **{f"restore_{name}": value for name, value in wish.items()},
        )

    def typed(self) -> str:
        """The command of docs/restore.md on that host, which asks no control node."""
        return f"resilient-vm instant acme/{self.vm} {self.image} --name {TWIN}"

    def said(self, played: Played) -> str:
        return " ".join(played.output.split())

    def on(self, command: str, check: bool = True) -> str:
        return self.world.on(self.host, command, check=check)

    def in_guest(self, command: str) -> str:
        return self.world.in_guest(TWIN, command, on=self.host)

    def wait_up(self) -> None:
        self.world.lab("guest", "wait", TWIN, "--on", self.host)

    def lacks(self) -> bool:
        return any("backing" in self.on(f"qemu-img info -U {self.folder}/{target}.qcow2") for target in self.targets)

    def units(self) -> str:
        listing = f"systemctl list-units --all --plain --no-legend 'resilient-vm-*acme.{self.vm}*'"
        return "".join(self.world.on(machine, listing) for machine in (self.host, "c"))

    def pins(self) -> str:
        return self.world.on("c", f"ls {STORE}/{self.vm}/pins")

    def hurry(self) -> None:
        """As docs/restore.md says."""
        for target in self.targets:
            self.on(f"virsh blockjob {TWIN} {target} --bandwidth 0", check=False)

    def ends(self, seconds: float = 180) -> None:
        """It comes to depend on nothing: no backing file, socket, unit or pin is left."""

        def over() -> bool:
            self.hurry()
            return not self.units()

        self.world.wait_until(over, seconds, "all its data is there and the units have ended")
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
        self.world.lab("guest", "stop", TWIN, "--on", self.host)
        for target in self.targets:
            raw = f"/root/{target}.at-once"
            self.on(f"qemu-img convert -f qcow2 -O raw {self.folder}/{target}.qcow2 {raw}")
            assert self.on(f"debugfs -R 'cat /marker' {raw} 2>/dev/null") == "day 2"
            assert self.on(f"debugfs -R 'cat /written' {raw} 2>/dev/null") == written
            self.on(f"e2fsck -fn {raw}")
            self.compare(target, raw)
            self.on(f"rm {raw}")

    def compare(self, target: str, raw: str) -> None:
        """What the guest had no reason to write is the image's, block by block."""
        world, kept = self.world, f"{STORE}/{self.vm}/images/{self.image}/{target}.raw"
        sums = "import hashlib, sys; f = open(sys.argv[1], 'rb'); print(*(hashlib.md5(b).hexdigest() for b in iter("
        sums += "lambda: f.read(65536), b'')))"
        mine = world.lab("exec", self.host, "python3", "-c", sums, raw).split()
        theirs = world.lab("exec", "c", "python3", "-c", sums, kept).split()
        differing = sum(one != other for one, other in zip(mine, theirs, strict=True))
        # Its journal, its inodes, the two files of this test.
        assert differing < len(mine) / 8

    def boot(self) -> float:
        """Seconds from a start until its guest agent answers."""
        self.on(f"virsh destroy {TWIN}")
        folder = f"/run/resilient-vm/.lent/acme.{self.vm}"
        sockets = " && ".join(f"test -S {folder}/{target}.sock" for target in self.targets)
        lent = f"test ! -e {folder} || {{ {sockets}; }} && echo yes"
        self.world.wait_until(lambda: self.on(lent, check=False) == "yes", 60, "what it lacks is lent again")
        begun = time.monotonic()
        self.on(f"virsh start {TWIN}")
        self.wait_up()
        return time.monotonic() - begun

    def typed_until_up(self) -> float:
        """Seconds from the command on the host until the guest agent of a new VM answers."""
        self.remove()
        begun = time.monotonic()
        self.on(self.typed())
        self.wait_up()
        return time.monotonic() - begun

    def remove(self) -> None:
        self.on(f"virsh destroy {TWIN}; virsh undefine {TWIN} --nvram; rm -rf {STORE}/{self.vm}/restored", check=False)
        self.world.wait_until(lambda: not self.units() and not self.pins(), 60, "nothing is lent any more")


@pytest.fixture
def at_once(diary: Diary) -> Iterator[AtOnce]:
    images = diary.roots()
    made = AtOnce(diary.world, diary.inventory, DIARY, image_of(2))
    yield made
    made.remove()
    assert diary.roots() == images


def test_it_runs_at_once_keeps_what_it_writes_and_ends_as_any_other(diary: Diary, at_once: AtOnce) -> None:
    before = diary.tree()
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


def test_a_host_runs_it_by_itself(diary: Diary, at_once: AtOnce) -> None:
    before = diary.tree()
    told = diary.world.on("a", f"{at_once.typed()} 2>&1; echo $?").splitlines()
    assert told[-1] == "1" and "c refuses: a may not have images of acme/diary by itself" in told[0]
    future = at_once.typed().replace(at_once.image, "2031-01-01")
    assert "2031-01-01 is in the future" in at_once.on(f"{future} 2>&1; true")
    assert diary.tree() == before
    # Stopped before much has come: it may all be there in seconds.
    stop = f"systemctl stop resilient-vm-stream-acme.diary; virsh destroy {TWIN}"
    told = at_once.on(f"{at_once.typed()} && {stop}").splitlines()
    assert told[0].startswith(f"{TWIN} runs on b: image {at_once.image} of acme/diary, its data as of 2026-01-02T02:0")
    assert at_once.pins() == f"{at_once.image}.lent.json"
    assert " % of it are there" in at_once.on(at_once.typed())
    at_once.wait_up()
    for target in TARGETS:
        assert at_once.in_guest(f"cat /disk/{target}/marker") == "day 2"
        at_once.in_guest(f"echo typed > /disk/{target}/written; sync")
    at_once.ends()
    assert "all its data is there" in at_once.on(at_once.typed())
    at_once.check_disks("typed")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "files": ({"to": "files", "path": "/srv/x"}, "resilient_vm_restore_mode instant of diary is for a new VM only"),
    "place": ({"to": "place"}, "or restore to place with resilient_vm_restore_mode=copy"),
}


@pytest.mark.parametrize("case", [pytest.param("files"), pytest.param("place", marks=pytest.mark.soak)])
def test_only_a_new_vm_runs_at_once(diary: Diary, at_once: AtOnce, case: str) -> None:
    wish, words = WRONG[case]
    before = diary.tree()
    assert words in at_once.said(at_once.run(expect=1, **wish))
    assert diary.tree() == before


@pytest.mark.soak
def test_a_link_that_is_cut_for_a_minute_makes_the_guest_wait(at_once: AtOnce) -> None:
    world = at_once.world
    at_once.run()
    at_once.wait_up()
    for target in TARGETS:
        at_once.in_guest(f"echo before > /disk/{target}/written; sync; echo 3 > /proc/sys/vm/drop_caches")
    world.lab("cut", "c")
    time.sleep(60)
    assert at_once.on(f"virsh domstate {TWIN}") in ("running", "paused")
    world.lab("heal", "c")
    for target in TARGETS:
        # Stopped at the first read of what doesn't come, it goes on when it is lent again; so long its agent is silent.
        look = (*("guest", "exec", "--on", "b", TWIN), "cat", f"/disk/{target}/marker")
        world.wait_until(lambda look=look: world.lab(*look, check=False).strip() == "day 2", 120, f"it reads {target}")
    at_once.ends()
    at_once.check_disks("before")


@pytest.mark.soak
def test_stopping_what_lends_makes_the_guest_wait_until_it_lends_again(at_once: AtOnce) -> None:
    world = at_once.world
    at_once.run()
    at_once.wait_up()
    world.on("c", f"systemctl stop resilient-vm-lend-acme.{DIARY}")
    assert at_once.pins() == f"{image_of(2)}.lent.json"
    assert at_once.run().changed > 0
    # Stopped when it read what did not come.
    at_once.wait_up()
    for target in TARGETS:
        at_once.in_guest(f"echo after > /disk/{target}/written; sync")
    world.on("b", "systemctl restart libvirtd")
    world.on("c", f"systemctl kill -s KILL resilient-vm-lend-acme.{DIARY}")
    world.on("b", f"systemctl kill -s KILL resilient-vm-stream-acme.{DIARY}")
    at_once.ends()
    at_once.check_disks("after")


@pytest.mark.soak
def test_a_host_that_crashed_goes_on_with_the_same_command(at_once: AtOnce) -> None:
    world = at_once.world
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
    world, folder = at_once.world, f"{STORE}/{DIARY}/images/{image_of(2)}"
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


@pytest.mark.soak
def test_how_long_it_takes_to_come_up(at_once: AtOnce) -> None:
    """Looked at, not judged: against a boot of the same VM when all its data is there."""
    begun = time.monotonic()
    at_once.run()
    at_once.wait_up()
    command = time.monotonic() - begun
    lent = [at_once.boot() for _time in range(3)]
    at_once.ends()
    own = [at_once.boot() for _time in range(3)]
    print(f"\nup {command:.1f} s after the command; boots from what is lent {_seconds(lent)}, its own {_seconds(own)}")


@pytest.mark.soak
@pytest.mark.parametrize("gib", [1, 100])
def test_a_large_disk_runs_as_soon_as_a_small_one(world: World, tmp_path: Path, gib: int) -> None:
    """Against boots of the same VM from its own disk, over a line of a gigabit a second."""
    vm = f"vast{gib}"
    inventory = world.inventory_file(tmp_path / "vast.json", {vm: {"resilient_vm_lend_to": ["b"]}})
    options = ("--kind", "raw", "--format", "qcow2", "--size", str(gib << 10), "--rate", "0", "--start")
    world.lab("guest", "create", "a", vm, *options, timeout=1200)
    world.play("site", inventory=[inventory])
    world.in_guest(vm, "echo day 2 > /disk/vda/marker; sync")
    world.play("daily", "--limit", vm, inventory=[inventory], now="2026-01-02T02:00:00Z", timeout=1200)
    vast = AtOnce(world, inventory, vm, image_of(2), ("vda",))
    world.lab("shape", "c", "1gbit")
    try:
        begun = time.monotonic()
        vast.run()
        played = time.monotonic() - begun
        vast.wait_up()
        command = time.monotonic() - begun
        uptime = float(vast.in_guest("cat /proc/uptime").split()[0])
        vast.in_guest("echo while it came > /disk/vda/written; sync")
        lent = [vast.boot() for _time in range(3)]
        begun = time.monotonic()
        vast.ends(3600)
        ended = time.monotonic() - begun
        own = [vast.boot() for _time in range(3)]
        assert vast.in_guest("cat /disk/vda/marker /disk/vda/written").split("\n") == ["day 2", "while it came"]
        up = f"up {command:.1f} s after the command ({played:.1f} s of it the playbook), {uptime} s by its own clock"
        print(f"\n{gib} GiB: {up}; all its data there in {ended:.0f} s")
        print(f"boots from what is lent: {_seconds(lent)}; from its own disk: {_seconds(own)}")
        assert min(lent) <= 1.5 * min(own)
        typed = [vast.typed_until_up() for _time in range(3)]
        print(f"from the command on the host: {_seconds(typed)}")
        assert min(typed) <= 1.5 * min(own)
    finally:
        world.lab("shape", "c", "off")
        vast.remove()
        world.lab("guest", "remove", vm, "--on", "a")


def _seconds(times: Sequence[float]) -> str:
    return ", ".join(f"{each:.1f} s" for each in times)
