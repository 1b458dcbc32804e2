# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any day back: what is restored is that day, the images stay as they are, and a wrong wish touches nothing."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from integration.diary import DAYS, DIARY, TARGETS, Diary, image_of
from integration.world import STORE

VM = DIARY


AS_FILE = ("c", 1, "raw", image_of(1))
LATEST = pytest.param("a", 3, "raw", "latest", marks=pytest.mark.soak)
OF_A_DATE = pytest.param("b", 2, "qcow2", "2026-01-02", marks=pytest.mark.soak)
EVERY_WAY = [
    pytest.param(host, day, form, f"-{3 - day}d", marks=pytest.mark.soak)
    for host in "abc"
    for day in DAYS
    for form in ("raw", "qcow2")
]


@pytest.mark.parametrize(("host", "day", "form", "point"), [AS_FILE, OF_A_DATE, LATEST, *EVERY_WAY])
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


# One that the backup storage knows, one that a machine does; and where there is no room.
SOME = (["erased", "in the way"], ["c"])


@pytest.mark.parametrize(
    ("cases", "full"),
    [
        pytest.param(*SOME, id="some"),
        pytest.param(sorted(WRONG.keys() - SOME[0]), ["b"], id="the rest", marks=pytest.mark.soak),
    ],
)
def test_a_wrong_wish_gets_one_sentence_and_touches_nothing(diary: Diary, cases: list[str], full: list[str]) -> None:
    for host in ("b", "c"):
        diary.world.on(host, "mkdir /srv/there")
    before = diary.tree()
    for case in cases:
        wrong, words = WRONG[case]
        said = " ".join(diary.restore(expect=1, **{"point": "latest", "path": "/srv/x", **wrong}).output.split())
        for word in words:
            assert word in said, case
    for host in full:
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
