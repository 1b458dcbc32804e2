# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Single files of any day: bytes, owner and mode as in the guest, whatever it named them; the image stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.diary import DIARY as VM
from integration.diary import Diary, image_of
from integration.world import STORE, Played, World

_BUILDER = Path(__file__).with_name("build_disk.py")
# One line a file: kind and mode, owner, size, name, link's target; names and all in Python's own form.
_LIST = r"""
import os, sys
top = os.fsencode(sys.argv[1])
for folder, folders, names in os.walk(top):
    for name in folders + names:
        path = os.path.join(folder, name)
        found = os.lstat(path)
        link = os.readlink(path) if os.path.islink(path) else b""
        print(f"{found.st_mode:o} {found.st_uid}:{found.st_gid} {os.path.relpath(path, top)!r} {link!r}")
"""


@pytest.fixture(scope="module")
def files(diary: Diary) -> Iterator[Diary]:
    """The diary's images, and a backup storage whose appliance has a kernel to boot."""
    diary.world.lab("kernel", "c")
    yield diary
    diary.world.on("c", "rm -rf /srv/*")


def take(
    kept: Diary, /, *options: str, expect: int = 0, vm: str = VM, inventory: Path | None = None, **wish: Any
) -> Played:
    variables = {"now": "2026-01-03T12:00:00Z", **{f"restore_{name}": value for name, value in wish.items()}}
    if "list_files" in wish:
        variables["list_files"] = variables.pop("restore_list_files")
    inventories = [inventory or kept.inventory]
    return kept.world.play("restore_files", "--limit", vm, *options, inventory=inventories, expect=expect, **variables)


def words(played: Played) -> str:
    return " ".join(played.output.split())


def listed(world: World, folder: str) -> list[str]:
    return sorted(world.lab("exec", "c", "python3", "-", folder, stdin=_LIST).splitlines())


ODD_FILES = sorted(
    [
        r"100604 1000:1001 b'odd/plain' b''",
        r"100604 1000:1001 b'odd/same' b''",
        r"100755 0:0 b'odd/lends' b''",
        r"100644 0:0 b'odd/new\nline' b''",
        r"100644 0:0 b'odd/ca\xe9' b''",
        r"100644 0:0 b'odd/caf\xc3\xa9' b''",
        r"120777 0:0 b'odd/away' b'/etc/shadow'",
        r"120777 0:0 b'odd/near' b'../odd/plain'",
        r"42711 7:8 b'odd/private' b''",
        r"100000 0:8 b'odd/private/file' b''",
        r"40755 0:0 b'odd' b''",
        r"100600 0:0 b'marker' b''",
        r"100600 0:0 b'restored.json' b''",
    ]
)


def test_files_of_a_day_come_out_as_they_were(files: Diary) -> None:
    """The image is of two disks without a system: which one is meant has to be said."""
    world, images, before, path = files.world, files.roots(), files.tree(), "/srv/tuesday"
    wish = {"point": "2026-01-02", "files": ["/marker", "/odd"], "path": path, "files_device": "vda"}
    said = words(take(files, **wish))
    assert "12 files" in said and f"laid in {path} on c; owners are the guest's numbers" in said
    assert "odd/lends: laid without its setuid or setgid bit" in said
    assert "odd/null: a device or a pipe, left out" in said and "odd/pipe: a device or a pipe, left out" in said
    assert listed(world, path) == ODD_FILES
    assert world.on("c", f"stat -c '%a %U' {path}") == "700 root"
    assert world.on("c", f"cat {path}/marker") == "day 2"
    assert world.on("c", f"od -An -c {path}/odd/plain | tr -d ' '") == r"tuesday\0377"
    assert world.on("c", f"stat -c %h {path}/odd/plain") == "2"
    again = take(files, **wish)
    assert again.changed == 0
    assert "are there already" in words(again)
    world.on("c", f"rm -r {path}")
    assert files.roots() == images
    assert files.tree() == before


@pytest.mark.soak
def test_looking_touches_nothing(files: Diary) -> None:
    before = files.tree()
    point = {"point": image_of(1), "files_device": "vda"}
    said = take(files, list_files="/odd", **point).output
    assert "file system vda: ext4" in said and "file system vdb: ext4" in said and "mounted at /" in said
    for line in ("0604 1000:1001", "/odd/new\\nline", "/odd/away@", "/odd/private/", "/odd/null (device)"):
        assert line in said
    assert "vda (ext4" in words(take(files, point=image_of(1), files=["/odd"], path="/srv/x", expect=1))
    dry = words(take(files, "--check", "--diff", files=["/odd", "/marker"], path="/srv/x", **point))
    assert "files" in dry and "would be laid in /srv/x on c" in dry
    assert files.tree() == before


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "future": ({"point": "2026-02-01"}, "2026-02-01 is in the future"),
    "nothing named": ({"files": []}, "resilient_vm_restore_files is not set for diary"),
    "relative": ({"files": ["etc"]}, "but it takes a list of absolute paths in the guest"),
    "twice": ({"files": ["/odd", "/odd/plain"]}, "/odd/plain lies in /odd, which is asked for too"),
    "another machine": ({"host": "b"}, "files are laid on its backup storage c"),
    "in the way": ({"path": "/srv/there"}, "/srv/there is there already; move it away"),
    "our own folder": ({"path": f"{STORE}/x"}, f"{STORE}/x lies in {STORE}"),
}


@pytest.mark.parametrize(
    "cases", [("nothing named", "in the way"), pytest.param(tuple(WRONG), marks=pytest.mark.soak)], ids=["two", "all"]
)
def test_a_wrong_wish_gets_one_sentence_and_touches_nothing(files: Diary, cases: tuple[str, ...]) -> None:
    files.world.on("c", "mkdir /srv/there")
    before = files.tree()
    for case in cases:
        wrong, sentence = WRONG[case]
        wish = {"point": "latest", "files": ["/odd"], "path": "/srv/x", "files_device": "vda", **wrong}
        assert sentence in words(take(files, expect=1, **wish)), case
    assert files.tree() == before
    files.world.on("c", "rmdir /srv/there")


@pytest.mark.soak
def test_without_the_library_the_package_is_named(files: Diary) -> None:
    library = "/usr/lib/python3/dist-packages/guestfs.py"
    files.world.on("c", f"mv {library} {library}.away")
    try:
        said = words(take(files, point="latest", files=["/odd"], path="/srv/x", files_device="vda", expect=1))
        assert "install python3-guestfs and libguestfs-xfs on Debian and Ubuntu" in said
    finally:
        files.world.on("c", f"mv {library}.away {library}")


@pytest.mark.soak
def test_partitions_volumes_and_other_file_systems(files: Diary, tmp_path: Path) -> None:
    """A VM that is stopped, whose disk has a system of several file systems, and some that nothing mounts."""
    world, vm = files.world, "zoo"
    inventory = world.inventory_file(tmp_path / "zoo.json", {vm: {}})
    world.lab("kernel", "a")
    world.lab("guest", "create", "a", vm, "--kind", "raw", "--size", "2048")
    try:
        disk = world.on("a", f"virsh domblklist {vm} | awk '$1 == \"vda\" {{print $2}}'")
        world.lab("exec", "a", "python3", "-", disk, stdin=_BUILDER.read_text())
        world.play("site", inventory=[inventory])
        world.play("daily", "--limit", vm, inventory=[inventory], now="2026-01-02T02:00:00Z")
        said = take(files, vm=vm, inventory=inventory, point="latest", list_files="/").output
        for line in (
            "file system vda1: ext4, 512.0 MiB, mounted at /",
            "file system /dev/vg0/home: xfs, 352.0 MiB, mounted at /home",
            "file system vda3: btrfs",
            "file system vda4: crypto_LUKS, 64.0 MiB, encrypted, can't be read without its key",
            "file system vda5: ntfs",
        ):
            assert line in said
        for device, wanted, text in (
            ("", "/home/xfs", "xfs"),
            ("", "/etc/fstab", "/dev/vda1 / ext4"),
            ("vda3", "/btrfs", "btrfs"),
            ("/dev/vg0/home", "/xfs", "xfs"),
            ("vda5", "/ntfs", "ntfs"),
        ):
            wish = {"point": "latest", "files": [wanted], "path": "/srv/zoo", "files_device": device}
            take(files, vm=vm, inventory=inventory, **wish)
            assert world.on("c", f"cat /srv/zoo{wanted}").startswith(text)
            world.on("c", "rm -r /srv/zoo")
        wish = {"point": "latest", "files": ["/x"], "path": "/srv/zoo", "files_device": "vda4"}
        said = words(take(files, vm=vm, inventory=inventory, expect=1, **wish))
        assert "vda4 is no file system of this image that can be read" in said
    finally:
        world.lab("guest", "remove", vm, "--on", "a")
