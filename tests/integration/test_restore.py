# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any day back: what is restored is that day, the images stay as they are, and a wrong wish touches nothing."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from integration.world import STORE, Played, World

VM = "diary"
DAYS = (1, 2, 3)
TARGETS = ("vda", "vdb")
# Files that a restore of single files must get right, or leave alone.
ODD = r"""
PATH=/bin; for name in chmod chown mkfifo; do ln -sf busybox /bin/$name; done
mkdir -p /disk/vda/odd/private && cd /disk/vda/odd
printf 'tuesday\0\377' > plain; chown 1000:1001 plain; chmod 604 plain
printf 'new line' > "new
line"; printf latin > "$(printf 'ca\351')"; printf utf > 'café'
ln -s /etc/shadow away; ln -s ../odd/plain near; ln plain same
cat plain > lends; chmod 4755 lends; mknod null c 1 3; mkfifo pipe
chown 7:8 private; chmod 2711 private; printf inside > private/file; chmod 0 private/file
"""
# What a restore must never touch: images, generations, state, definitions of machines, what runs.
_TREE = r"""
cd /var/lib/resilient-vm/acme/diary
find images generations state.json current standby.json ! -name lock -printf '%p %s %m %U %T@\n' 2>/dev/null
find incoming restores pins -mindepth 1 -type f 2>/dev/null
systemctl list-units --all --plain --no-legend 'resilient-vm-*acme.diary*'
ls -aR /srv restored 2>/dev/null
command -v virsh > /dev/null || exit 0
virsh list --all; virsh checkpoint-list diary --name 2>/dev/null || true
"""


def image_of(day: int) -> str:
    return f"202601{day:02}T020000Z"


@dataclass
class Diary:
    """A VM that writes down which day it is, and its restores."""

    world: World
    inventory: Path

    def daily(self, day: int) -> None:
        self.world.in_guest(VM, f"echo day {day} > /disk/vda/marker; echo day {day} > /disk/vdb/marker; sync")
        now = f"2026-01-{day:02}T02:00:00Z"
        self.world.play("daily", "--limit", VM, inventory=[self.inventory], now=now)

    def restore(self, *options: str, expect: int = 0, **wish: Any) -> Played:
        wish.setdefault("to", "files")
        variables = {f"restore_{name}": value for name, value in wish.items()}
        variables.setdefault("now", "2026-01-03T12:00:00Z")
        return self.world.play(
            "restore", "--limit", VM, *options, inventory=[self.inventory], expect=expect, **variables
        )

    def tree(self) -> dict[str, str]:
        return {host: "\n".join(sorted(self.world.on(host, _TREE).splitlines())) for host in ("a", "b", "c")}

    def roots(self) -> dict[str, dict[str, str]]:
        """Digests of all images, computed from their files."""
        return {image_id: self.world.check_image(VM, image_id) for image_id in self.world.images(VM)}

    def check_disks(self, host: str, folder: str, day: int, form: str = "raw") -> None:
        """What lies there is the image of that day, and a whole file system with that day's marker in it."""
        on = self.world.on
        for target in TARGETS:
            path = f"{folder}/{target}.{form}"
            assert on(host, f"stat -c '%a %U' {path}") == "600 root"
            raw = f"/root/{target}.restored"
            on(host, f"qemu-img convert -f {form} -O raw {path} {raw}")
            kept = on("c", f"sha256sum < {STORE}/{VM}/images/{image_of(day)}/{target}.raw")
            assert on(host, f"sha256sum < {raw}") == kept
            assert on(host, f"debugfs -R 'cat /marker' {raw} 2>/dev/null") == f"day {day}"
            on(host, f"e2fsck -fn {raw} && rm {raw}")


@pytest.fixture(scope="module")
def diary(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Diary]:
    extra = world.inventory_file(tmp_path_factory.mktemp("inventory") / "diary.json", {VM: {}})
    made = VM in world.lab("guest", "list")
    if not made:
        world.lab("guest", "create", "a", VM, "--kind", "two-disk", "--rate", "0", "--start")
    world.play("site", inventory=[extra])
    diary = Diary(world, extra)
    for host in ("a", "b", "c"):
        world.on(host, "rm -rf /srv/*")
    if not world.images(VM):
        # What test_restore_files takes out again.
        world.in_guest(VM, ODD)
        for day in DAYS:
            diary.daily(day)
    yield diary
    # A guest that idles takes its share of the box from the tests to come.
    world.on("a", f"virsh destroy {VM}", check=False)


FILES = [("c", 1, "raw", image_of(1)), ("b", 2, "qcow2", "2026-01-02")]
LATEST = pytest.param("a", 3, "raw", "latest", marks=pytest.mark.soak)
EVERY_WAY = [
    pytest.param(host, day, form, f"-{3 - day}d", marks=pytest.mark.soak)
    for host in "abc"
    for day in DAYS
    for form in ("raw", "qcow2")
]


@pytest.mark.parametrize(("host", "day", "form", "point"), [*FILES, LATEST, *EVERY_WAY])
def test_the_disks_of_a_day_as_files(diary: Diary, host: str, day: int, form: str, point: str) -> None:
    path = f"/srv/{VM}-{day}-{form}"
    diary.world.on(host, f"rm -rf {path}")
    before, images = diary.tree(), diary.roots()
    wish = {"point": point, "host": host, "path": path, "format": form}
    planned = diary.restore("--check", **wish)
    assert f"image {image_of(day)} would be laid as {form} in {path} on {host}" in " ".join(planned.output.split())
    assert diary.tree() == before
    assert diary.restore(**wish).changed > 0
    diary.check_disks(host, path, day, form)
    again = diary.restore(**wish)
    assert again.changed == 0
    assert "is laid already" in again.output
    diary.world.on(host, f"rm -rf {path}")
    assert diary.tree() == before
    assert diary.roots() == images


def test_only_what_differs_from_the_generation_travels(diary: Diary) -> None:
    """B holds the image of the third day; of the first a few blocks differ."""
    path = "/srv/little"
    diary.restore(point=image_of(1), host="b", path=path)
    sent = diary.world.on(
        "c", f"grep -o '\"bytes_sent\": [0-9]*' {STORE}/{VM}/transfer/restore.result.json | tail -n 1"
    )
    allocated = diary.world.on("c", f"du -B1 {STORE}/{VM}/images/{image_of(1)}/vda.raw | cut -f 1")
    assert int(sent.split()[1]) < int(allocated) / 4
    diary.check_disks("b", path, 1)
    diary.world.on("b", f"rm -rf {path}")


WRONG: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "future": ({"point": "2026-02-01"}, ("2026-02-01 is in the future, today is 2026-01-03",)),
    "erased": ({"point": "-8d"}, ("-8d (2025-12-26) is kept any more", "from 20260101T020000Z to 20260103T020000Z")),
    "unknown host": ({"host": "d"}, ("resilient_vm_restore_host of diary names d", "name one of a, b, c")),
    "relative path": ({"path": "srv/x"}, ("resilient_vm_restore_path of diary is 'srv/x'", "an absolute path")),
    "no parent": ({"path": "/nowhere/x"}, ("there is no folder /nowhere on this machine", "make it")),
    "our own folder": ({"path": f"{STORE}/x"}, (f"{STORE}/x lies in {STORE}", "name another folder")),
    "in the way": ({"path": "/srv/there"}, ("/srv/there is there already", "move it away")),
}


def test_a_wrong_wish_gets_one_sentence_and_touches_nothing(diary: Diary) -> None:
    for host in ("b", "c"):
        diary.world.on(host, "mkdir /srv/there")
    before = diary.tree()
    for case, (wrong, words) in WRONG.items():
        said = " ".join(diary.restore(expect=1, **{"point": "latest", "path": "/srv/x", **wrong}).output.split())
        for word in words:
            assert word in said, case
    for host in ("b", "c"):
        reserve = diary.world.inventory_file(
            diary.inventory.with_name("reserve.json"), machines={host: {"resilient_vm_reserve_bytes": 1 << 50}}
        )
        played = diary.world.play(
            "restore",
            *("--limit", VM),
            inventory=[diary.inventory, reserve],
            expect=1,
            restore_point="latest",
            restore_to="files",
            restore_host=host,
            restore_path="/srv/x",
            now="2026-01-03T12:00:00Z",
        )
        assert "no space for the restore" in " ".join(played.output.split())
    assert diary.tree() == before
    for host in ("b", "c"):
        diary.world.on(host, "rmdir /srv/there")


def test_a_changed_restore_is_in_the_way(diary: Diary) -> None:
    wish = {"point": "latest", "path": "/srv/changed"}
    diary.restore(**wish)
    diary.world.on("c", "printf x | dd of=/srv/changed/vdb.raw bs=1 seek=70000 conv=notrunc 2>/dev/null")
    said = " ".join(diary.restore(expect=1, **wish).output.split())
    assert "/srv/changed/vdb.raw is no longer what was restored from image 20260103T020000Z" in said
    diary.world.on("c", "rm -r /srv/changed")


def test_a_damaged_image_is_found_marked_and_not_laid(diary: Diary) -> None:
    """The block is mended afterwards, for the tests that follow."""
    raw, other = (f"{STORE}/{VM}/images/{image_of(day)}" for day in (2, 3))
    world, kept = diary.world, "/var/lib/resilient-vm/kept.raw"
    world.on("c", f"cp --reflink=always -p {raw}/vdb.raw {kept}")
    block = "bs=65536 count=1 conv=notrunc"
    world.on("c", f"dd if=/dev/urandom of={raw}/vdb.raw seek=1 {block} 2>/dev/null")
    try:
        said = " ".join(diary.restore(expect=1, point=image_of(2), path="/srv/rotten").output.split())
        assert f"image {image_of(2)} of acme/diary is damaged: disk vdb at byte 65536" in said
        assert world.on("c", "ls -A /srv") == ""
        said = " ".join(diary.restore(expect=1, point="-1d", path="/srv/rotten").output.split())
        assert "its disk vdb is damaged at byte 65536; name another one" in said
        assert world.on("c", f"stat -c %U {raw}/damaged.json") == world.on("c", f"stat -c %U {other}/manifest.json")
    finally:
        world.on(
            "c",
            f"rm -f {raw}/damaged.json; cat {kept} > {raw}/vdb.raw; rm {kept}",
        )
    world.check_image(VM, image_of(2))


TWIN = "diary-yesterday"
_UNDEFINE = f"virsh destroy {TWIN} || true; virsh undefine {TWIN} --nvram; rm -r {STORE}/{VM}/restored"


@pytest.mark.parametrize(
    ("host", "day", "form", "networks"),
    [
        ("b", 2, "raw", {}),
        *[
            pytest.param(host, day, form, networks, marks=pytest.mark.soak)
            for host in "ab"
            for day in DAYS
            for form, networks in (("raw", {"vmbr0": "vmbr0"}), ("qcow2", {}))
        ],
    ],
)
def test_a_new_vm_beside_the_protected_one(
    diary: Diary, host: str, day: int, form: str, networks: dict[str, str]
) -> None:
    """It runs at the same time, as it was on that day, and knows nothing of the network it isn't given."""
    world, images, before = diary.world, diary.roots(), diary.tree()
    wish = {"to": "beside", "point": image_of(day), "host": host, "name": TWIN, "format": form, "networks": networks}
    said = diary.restore("--check", **wish).output
    assert f"image {image_of(day)} would become VM {TWIN} on {host}" in " ".join(said.split())
    assert diary.tree() == before
    diary.restore(**wish)
    assert world.on(host, f"virsh domstate {TWIN}") == "shut off"
    try:
        assert diary.restore(start=True, **wish).changed > 0
        assert diary.restore(start=True, **wish).changed == 0
        world.lab("guest", "wait", TWIN, "--on", host)
        for target in TARGETS:
            assert world.in_guest(TWIN, f"cat /disk/{target}/marker", on=host) == f"day {day}"
        marker = world.in_guest(VM, "cat /disk/vda/marker")
        world.in_guest(TWIN, "echo another > /disk/vda/marker; sync", on=host)
        assert world.in_guest(VM, "cat /disk/vda/marker") == marker
        carrier = world.in_guest(TWIN, "cat /sys/class/net/eth0/carrier", on=host)
        assert carrier == ("1" if networks else "0")
        identity = {}
        for name, where in ((VM, "a"), (TWIN, host)):
            address = world.in_guest(name, "cat /sys/class/net/eth0/address", on=where)
            identity[name] = {address, world.on(where, f"virsh domuuid {name}")}
        assert not identity[VM] & identity[TWIN]
        assert "enable" not in world.on(host, f"virsh dominfo {TWIN} | grep Autostart")
        other = image_of(day % 3 + 1)
        said = " ".join(diary.restore(expect=1, **{**wish, "point": other}).output.split())
        assert f"this host has a VM {TWIN} already, of image {image_of(day)}; choose another" in said
    finally:
        world.on(host, _UNDEFINE)
    assert diary.tree() == before
    assert diary.roots() == images


def test_a_name_that_is_taken_or_no_place_for_a_new_vm(diary: Diary) -> None:
    before = diary.tree()
    for host, name, words in (
        ("b", VM, "resilient_vm_restore_name diary is the protected VM's own name; choose another"),
        ("a", "erp", "this host has a VM erp already, another machine; choose another"),
        ("c", "new", "names c, its backup storage, where no VM runs; name a or b"),
        ("b", "../x", "resilient_vm_restore_name of diary is '../x'"),
    ):
        wish = {"to": "beside", "point": "latest", "host": host, "name": name}
        assert words in " ".join(diary.restore(expect=1, **wish).output.split())
    assert diary.tree() == before


@contextlib.contextmanager
def copying(diary: Diary, **wish: Any) -> Iterator[subprocess.Popen[str]]:
    """A restore to A, some of which has arrived; the line is slow until the block ends."""
    world = diary.world
    progress = f"{STORE}/{VM}/transfer/restore.progress.json"
    world.on("c", f"rm -f {progress}")
    world.lab("shape", "a", "40mbit")
    variables = {f"restore_{name}": value for name, value in {**wish, "to": "files", "host": "a"}.items()}
    play = world.start_play("restore", "--limit", VM, inventory=[diary.inventory], **variables)
    sent = f"sed -n 's/.*\"bytes_sent\": \\([0-9]*\\).*/\\1/p' {progress}"
    try:
        moved = "4 MiB of the image have travelled"
        world.wait_until(lambda: int(world.on("c", sent, check=False) or 0) > 4 << 20, 120, moved)
        yield play
    except BaseException:
        play.kill()
        raise
    finally:
        world.lab("shape", "a", "off")


@pytest.mark.soak
def test_a_restore_whose_mover_is_killed_goes_on_with_what_arrived(diary: Diary) -> None:
    world, before, path = diary.world, diary.tree(), "/srv/killed"
    with copying(diary, point=image_of(1), path=path) as play:
        world.on("c", f"systemctl kill -s KILL resilient-vm-restore-acme.{VM}")
        output = play.communicate(timeout=300)[0]
    assert play.returncode != 0
    assert "what arrived is kept: run again and it goes on from there" in " ".join(output.split())
    assert world.on("a", "ls -A /srv") == ""
    diary.restore(point=image_of(1), path=path, host="a")
    resumed = world.on("c", f"grep resumed_bytes {STORE}/{VM}/transfer/restore.result.json")
    assert any(int(number) > 0 for number in re.findall(r"\d+", resumed))
    diary.check_disks("a", path, 1)
    world.on("a", f"rm -r {path}")
    assert diary.tree() == before


def test_the_next_night_is_as_ever(diary: Diary) -> None:
    day = int(diary.world.images(VM)[-1][6:8]) + 1
    diary.daily(day)
    found = {disk["target"]: disk["found_by"] for disk in diary.world.manifest(VM, image_of(day))["disks"]}
    assert found == dict.fromkeys(TARGETS, "bitmap")
    assert diary.world.current(VM) == image_of(day)
