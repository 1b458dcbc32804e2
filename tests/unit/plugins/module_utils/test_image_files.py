# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about files taken out of an image, through the whole conversation with a library that shows a folder."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unit.engine_fakes import IDS, Disk, Snapshot, blocks, make_layout, transfer

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _image_files
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files_told import shown, told
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._image_files import (
    Wish,
    examine,
    look,
    readable_kernel,
    take,
)
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store

FAKE = Path(__file__).resolve().parents[2] / "guestfs_fake.py"
ONE = {"file_systems": {"/dev/sda": "ext4"}}


class Guest:
    """An image on a backup storage, and the folder that is taken for its file system."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.layout = make_layout(top / "root")
        transfer(Snapshot(IDS[0], [Disk("vda", blocks(2)), Disk("vdb", blocks(1))], None), Store(self.layout))
        self.files = top / "guest"
        (self.files / "data/anna").mkdir(parents=True)
        (self.files / "data/anna/notes").write_text("tuesday")
        (self.files / "data/anna/notes").chmod(0o640)
        (self.files / "data/anna/odd\nname").write_text("")
        os.link(self.files / "data/anna/notes", self.files / "data/anna/same")
        (self.files / "etc").mkdir()
        (self.files / "etc/fstab").write_text("/dev/vda1 /")
        (self.files / "etc/mtab").symlink_to("/proc/mounts")
        self.world: dict[str, Any] = dict(ONE)
        monkeypatch.setattr(_image_files, "_unit", self._unit)

    def _unit(self, _layout: Layout) -> list[str]:
        return [sys.executable, str(FAKE), str(self.files), json.dumps(self.world)]

    def wish(self, **more: Any) -> Wish:
        return replace(Wish(IDS[0]), **more)


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guest:
    return Guest(tmp_path, monkeypatch)


def refused(work: Callable[[], object]) -> str:
    with pytest.raises(ResilientVmError) as caught:
        work()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_and_directories_come_out_and_stay(guest: Guest, tmp_path: Path) -> None:
    wish = guest.wish(take=["/etc/fstab", "/etc/mtab", "/data/anna"], path=str(tmp_path / "tuesday"))
    assert examine(guest.layout, wish) is None
    dry = take(guest.layout, wish, dry=True)
    assert [entry["files"] for entry in dry["found"]] == [1, 1, 4]
    assert not (tmp_path / "tuesday").exists()
    done = take(guest.layout, wish, dry=False)
    assert done["laid"] == {"files": 6, "bytes": 18, "devices": 0, "stripped": 0, "told": []}
    laid = tmp_path / "tuesday"
    assert stat.S_IMODE(laid.stat().st_mode) == 0o700
    assert (laid / "data/anna/notes").read_text() == "tuesday"
    assert stat.S_IMODE((laid / "data/anna/notes").stat().st_mode) == 0o640
    assert (laid / "data/anna/same").samefile(laid / "data/anna/notes")
    assert os.readlink(laid / "etc/mtab") == "/proc/mounts"
    record = examine(guest.layout, wish)
    assert record is not None
    assert record["laid"] == done["laid"]
    assert os.listdir(guest.layout.pins) == []


def test_what_is_in_the_way_is_told_and_left_alone(guest: Guest, tmp_path: Path) -> None:
    wish = guest.wish(take=["/etc/fstab"], path=str(tmp_path / "tuesday"))
    take(guest.layout, wish, dry=False)
    other = replace(wish, take=["/etc"])
    assert "its files is ['/etc/fstab']; move it away" in refused(lambda: examine(guest.layout, other))
    (tmp_path / "tuesday/etc/fstab").write_text("mine")
    assert "is no longer what was taken out of image" in refused(lambda: examine(guest.layout, wish))
    (tmp_path / "there").mkdir()
    there = replace(wish, path=str(tmp_path / "there"))
    assert "is there already; move it away" in refused(lambda: examine(guest.layout, there))


def test_what_cannot_be_had_leaves_nothing(guest: Guest, tmp_path: Path) -> None:
    wish = guest.wish(take=["/etc/fstab"], path=str(tmp_path / "x"))
    before = sorted(os.listdir(tmp_path))
    for more, world, words in (
        ({"take": ["/etc/nothing"]}, ONE, "there is no /etc/nothing in this image (vda at /)"),
        ({"reserve_bytes": 1 << 60}, ONE, "no space for the restore"),
        ({}, {"file_systems": {}}, "this image has no file system that can be read; restore its disks"),
        ({}, {"file_systems": {"/dev/sda1": "crypto_LUKS"}}, "vda1 (encrypted, crypto_LUKS, 1.0 GiB)"),
        ({}, {"file_systems": {"/dev/v/l": "crypto_LUKS"}}, "/dev/v/l (encrypted, crypto_LUKS, 1.0 GiB)"),
        ({}, {"file_systems": {"/dev/v/l": "crypto_LUKS"}, "lvm2": False}, "no file system that can be read; restore"),
        ({}, {"file_systems": {"/dev/sda1": "ext4", "/dev/sdb1": "xfs"}}, "vda1 (ext4, 1.0 GiB), vdb1 (xfs, 1.0 GiB)"),
        ({"device": "vdc1"}, ONE, "vdc1 is no file system of this image that can be read; name one"),
        (
            {},
            {"file_systems": {"/dev/sda": "broken"}},
            "file system vda can't be read: mount: wrong fs type, bad option",
        ),
        ({}, {**ONE, "launch": "supermin failed.\nTo see full error messages"}, "can't start its appliance: supermin"),
        (
            {"take": ["/data"]},
            {**ONE, "tar": "tar_out: disk\nbroken"},
            "file system can't be read: tar_out: disk broken",
        ),
    ):
        guest.world = dict(world)  # type: ignore[arg-type]
        said = refused(lambda more=more: take(guest.layout, replace(wish, **more), dry=False))  # type: ignore[misc]
        assert words in said
        assert sorted(os.listdir(tmp_path)) == before
        assert os.listdir(guest.layout.pins) == []


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["etc/fstab"], "'etc/fstab' is not the plain absolute path"),
        (["/etc/../x"], "is not the plain absolute path"),
        (["/data", "/data/anna"], "/data/anna lies in /data, which is asked for too"),
        (["/data", "/data"], "leave one of them out"),
    ],
)
def test_a_wish_that_means_nothing_is_refused(paths: list[str], words: str) -> None:
    assert words in refused(lambda: Wish(IDS[0], take=paths))


def test_the_guests_own_mounts_are_followed(guest: Guest) -> None:
    guest.world = {
        "file_systems": {
            "/dev/sda1": "ext4",
            "/dev/vg0/data": "xfs",
            "/dev/sdb": "swap",
            "btrfsvol:/dev/sdb2/@a": "btrfs",
        },
        "roots": {"/dev/sda1": {"/": "/dev/sda1", "/data": "/dev/vg0/data"}},
    }
    answer = look(guest.layout, guest.wish(list=["/data/anna", "/etc/fstab"], limit=2))
    assert answer["mounted"] == {"/": "vda1", "/data": "/dev/vg0/data"}
    assert told(answer)[:4] == [
        "file system vda1: ext4, 1.0 GiB, mounted at /",
        "file system vdb: swap, 1.0 GiB",
        "file system /dev/vg0/data: xfs, 1.0 GiB, mounted at /data",
        "file system btrfsvol:vdb2/@a: btrfs",
    ]


def test_a_listing_is_cut_and_says_so(guest: Guest) -> None:
    (guest.files / "data/anna/big").mkdir()
    with open(os.path.join(os.fsencode(guest.files), b"data/anna/\xff"), "wb"):
        pass
    answer = look(guest.layout, guest.wish(list=["/data/anna"], limit=3))
    names = [entry["name"] for entry in shown(answer["listings"])[0]["entries"]]
    assert names == ["big", "notes", "odd\\nname"]
    lines = told(answer)
    assert lines[-1] == "… and 2 more in /data/anna; name a directory in it, or take all of it out"
    assert any(line.startswith("0640 ") and line.endswith("/data/anna/notes") for line in lines)
    whole = told(look(guest.layout, guest.wish(list=["/data/anna", "/etc/fstab"])))
    assert whole[-2].endswith("/data/anna/\\xff (a name that is no UTF-8)")
    assert whole[-1].endswith(" /etc/fstab")


def test_a_kernel_that_only_root_may_read_is_copied(tmp_path: Path) -> None:
    kernel, copy = tmp_path / "vmlinuz-6.8.0-1-generic", tmp_path / "kernel"
    assert readable_kernel(str(kernel), str(copy)) == []
    kernel.write_text("kernel")
    kernel.chmod(0o644)
    assert readable_kernel(str(kernel), str(copy)) == []
    kernel.chmod(0o600)
    assert readable_kernel(str(kernel), str(copy))[2] == "SUPERMIN_MODULES=/lib/modules/6.8.0-1-generic"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o644
