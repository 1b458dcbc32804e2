# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive the guests' kernel unpacks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from lab.rvmlab.cpio import Archive
from lab.rvmlab.guestkit import MODULES, collect_module, counter_record, inside


def entries(content: bytes) -> dict[str, tuple[int, bytes]]:
    """Read an archive back: name -> mode and content."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert content[at : at + 6] == b"070701"
        fields = [int(content[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = content[at + 110 : at + 110 + name_size - 1].decode()
        start = at + (110 + name_size + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, content[start : start + size])
        at = start + (size + 3) // 4 * 4


def test_archive_holds_what_was_put_in_with_the_folders_above() -> None:
    archive = Archive()
    archive.file("a/b/program", b"12345", 0o755)
    archive.link("a/link", "b/program")
    archive.device("a/console", 5, 1)
    assert entries(archive.content()) == {
        "a": (0o040755, b""),
        "a/b": (0o040755, b""),
        "a/b/program": (0o100755, b"12345"),
        "a/link": (0o120777, b"b/program"),
        "a/console": (0o020600, b""),
    }


def test_archive_is_the_same_every_time() -> None:
    def build() -> bytes:
        archive = Archive()
        archive.file("x", b"x", 0o644)
        return archive.content()

    assert build() == build()


def test_modules_come_after_those_they_depend_on(tmp_path: Path) -> None:
    (tmp_path / "outer.ko").write_bytes(b"\0depends=middle,other-one\0")
    (tmp_path / "middle.ko").write_bytes(b"\0depends=inner\0")
    (tmp_path / "inner.ko").write_bytes(b"\0depends=\0")
    (tmp_path / "other-one.ko").write_bytes(b"\0depends=inner\0")
    loaded: dict[str, bytes] = {}
    collect_module(tmp_path, "outer", loaded)
    assert list(loaded) == ["inner", "middle", "other-one", "outer"]


def test_links_among_unpacked_packages_never_lead_to_the_box(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/loader-2").write_text("the packages' own")
    (tmp_path / "lib/loader").symlink_to("loader-2")
    (tmp_path / "loader").symlink_to("/lib/loader")
    assert inside(tmp_path, "loader").read_text() == "the packages' own"


def test_counter_is_one_sector_whose_number_can_be_read() -> None:
    assert len(counter_record(7)) == 512
    assert int(counter_record(123456)) == 123456


@pytest.mark.parametrize("script", ["init", "writer", "writerctl", "shutdown"])
def test_scripts_of_the_guest_parse(script: str) -> None:
    path = Path(__file__).resolve().parents[2] / "lab/guest" / script
    subprocess.run(["sh", "-n", path], check=True)


def test_guest_can_reach_its_disks_and_its_agent() -> None:
    assert {"virtio_pci", "virtio_blk", "virtio_console"} <= set(MODULES)
