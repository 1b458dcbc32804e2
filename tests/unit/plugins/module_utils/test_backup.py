# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what a backup job asks of libvirt, and which bitmap each disk counts from."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _backup
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._domain import Disk

CHECKPOINT = "resilient-vm-20260113T020000Z-5c0e1f"
BASE = {
    "image_id": "20260113T020000Z",
    "checkpoint": CHECKPOINT,
    "disks": {"vda": {"size_bytes": 1000, "checkpoint": CHECKPOINT}},
}
SOURCES = {CHECKPOINT: {"vda": "/images/vda.qcow2"}}
VDA = Disk("vda", format="qcow2", source="/images/vda.qcow2")
SIZES = {"vda": (1000, 600), "vdb": (1000, 2000)}


def choose(disk: Disk = VDA, size: int = 1000, **given: Any) -> _backup.Wanted:
    known = {"base": BASE, "sources": SOURCES, **given}
    return _backup.choose([disk], {disk.target: (size, 600)}, known["base"], known["sources"])[0]


def test_a_disk_that_did_not_change_counts_from_the_newest_image() -> None:
    wanted = choose()
    assert (wanted.base, wanted.reason, wanted.counted) == (CHECKPOINT, "", True)


def test_an_owners_external_snapshot_over_the_disk_keeps_the_bitmap() -> None:
    overlay = Disk("vda", format="qcow2", source="/images/overlay.qcow2", chain=("/images/vda.qcow2",))
    assert choose(overlay).base == CHECKPOINT


@pytest.mark.parametrize(
    ("changed", "reason", "counted"),
    [
        ({"disk": Disk("vda", format="raw", source="/images/vda.qcow2")}, "raw disk", False),
        ({"disk": Disk("vda", format="qcow2", source="/images/vda.qcow2", read_only=True)}, "read-only", False),
        ({"base": None}, "no image to count from", True),
        ({"disk": Disk("vdb", format="qcow2", source="/images/vdb.qcow2")}, "does not hold this disk", True),
        ({"size": 2000}, "size changed from 1000 to 2000", True),
        ({"base": {**BASE, "disks": {"vda": {"size_bytes": 1000, "checkpoint": None}}}}, "left no checkpoint", True),
        ({"sources": {}}, "is gone", True),
        ({"sources": {CHECKPOINT: {}}}, "does not count on this disk", True),
        ({"disk": Disk("vda", format="qcow2", source="/images/vdb.qcow2")}, "another file", True),
    ],
)
def test_any_doubt_about_a_bitmap_gives_it_up_with_the_reason(
    changed: dict[str, Any], reason: str, counted: bool
) -> None:
    wanted = choose(**changed)
    assert wanted.base is None
    assert reason in wanted.reason
    assert wanted.counted is counted


def job(*wanted: _backup.Wanted) -> dict[str, ElementTree.Element]:
    root = ElementTree.fromstring(_backup.backup_xml(wanted, ["sda"], "/run/s", "/scratch"))
    assert root.get("mode") == "pull"
    server = root.find("server")
    assert server is not None and server.attrib == {"transport": "unix", "socket": "/run/s"}
    return {node.get("name", ""): node for node in root.iterfind("disks/disk")}


def test_each_disk_says_for_itself_whether_it_counts() -> None:
    raw = _backup.Wanted("vdb", "raw", "/images/vdb.raw", 1000, False, None, "raw")
    disks = job(choose(), raw)
    assert disks["vda"].attrib == {
        "name": "vda",
        "backup": "yes",
        "type": "file",
        "exportname": "vda",
        "backupmode": "incremental",
        "incremental": CHECKPOINT,
        "exportbitmap": "backup-vda",
    }
    assert disks["vdb"].get("backupmode") == "full" and disks["vdb"].get("incremental") is None
    assert disks["sda"].attrib == {"name": "sda", "backup": "no"}


def test_scratch_files_are_named_so_that_none_lies_beside_the_machines_disks() -> None:
    scratch = job(choose())["vda"].find("scratch")
    assert scratch is not None and scratch.get("file") == "/scratch/vda.scratch.qcow2"


def test_the_checkpoint_is_on_the_disks_that_can_count_and_says_no_for_all_others() -> None:
    raw = _backup.Wanted("vdb", "raw", "/images/vdb.raw", 1000, False, None, "raw")
    text = _backup.checkpoint_xml("name", [choose(), raw], ["sda"], "for erp")
    assert text is not None
    root = ElementTree.fromstring(text)
    assert root.findtext("name") == "name"
    found = {node.get("name"): node.get("checkpoint") for node in root.iterfind("disks/disk")}
    assert found == {"vda": "bitmap", "vdb": "no", "sda": "no"}


def test_without_a_disk_that_can_count_there_is_no_checkpoint() -> None:
    raw = _backup.Wanted("vdb", "raw", "/images/vdb.raw", 1000, False, None, "raw")
    assert _backup.checkpoint_xml("name", [raw], [], "") is None


def test_a_refusal_that_names_a_disk_costs_that_disk_its_bitmap_and_no_other() -> None:
    wanted = [choose(), _backup.Wanted("vdb", "qcow2", "/b", 1, True, CHECKPOINT, "")]
    assert _backup.blamed("missing or broken bitmap 'c' for disk 'vdb'", wanted) == {"vdb"}


def test_a_refusal_that_names_none_costs_all() -> None:
    wanted = [choose(), _backup.Wanted("vdb", "raw", "/b", 1, False, None, "raw")]
    assert _backup.blamed("operation failed", wanted) == {"vda"}
    assert _backup.blamed("'vdb' is no good", wanted) == {"vda"}


@pytest.mark.parametrize(
    ("changed", "bytes_"),
    [
        ({CHECKPOINT: {"vda": 100}}, 100 + 1000),
        ({CHECKPOINT: {"vda": 5000}}, 1000 + 1000),
        ({CHECKPOINT: {}}, 600 + 1000),
    ],
)
def test_the_estimate_is_what_bitmaps_call_changed_and_else_what_is_allocated_never_more_than_the_disk(
    changed: dict[str, dict[str, int]], bytes_: int
) -> None:
    full = _backup.Wanted("vdb", "raw", "/b", 1000, False, None, "raw")
    assert _backup.estimate_bytes([choose(), full], SIZES, changed) == bytes_
