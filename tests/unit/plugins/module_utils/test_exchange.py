# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what is refused before the disks of a VM are exchanged for those of an image."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from unit.libvirt_fakes import NO_JOB, UUID, Host, disk, domain, make_host, refused, said

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _exchange
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError

NOW = datetime(2026, 1, 15, 10, 15, tzinfo=timezone.utc)
IMAGE = "20260114T020000Z"
WISH = _exchange.Wish(IMAGE, UUID, 1, [{"target": "vda"}], [])
LISTED = "virsh list --all --uuid --name"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Host a, where erp runs from one qcow2 file."""
    made = make_host(tmp_path, monkeypatch)
    (tmp_path / "vda.qcow2").write_text("today")
    made.world.answers.update(
        {
            LISTED: said(f"{UUID} erp\n"),
            "virsh domstate": said("running (booted)"),
            "virsh backup-dumpxml": refused(NO_JOB),
            "virsh dumpxml": said(domain(of(tmp_path))),
        }
    )
    return made


def of(folder: Path, target: str = "vda", **more: Any) -> str:
    return disk(target, source=f"<source file='{folder}/vda.qcow2'/>", **more)


def refusal(host: Host, wish: _exchange.Wish = WISH) -> str:
    with pytest.raises(ResilientVmError) as caught:
        _exchange.examine(host.layout, wish, NOW, host.world)
    assert not Path(host.layout.directory, _exchange.RECORD).exists()
    return str(caught.value)


def test_what_will_be_kept_and_under_which_name(host: Host, tmp_path: Path) -> None:
    record = _exchange.examine(host.layout, WISH, NOW, host.world)
    (file,) = record["files"]
    assert (file["path"], file["aside"]) == (f"{tmp_path}/vda.qcow2", f"{tmp_path}/vda.qcow2.before-20260115T101500Z")
    assert (record["running"], record["exchanged"]) == (True, False)


def test_room_is_needed_where_it_arrives_and_where_the_disks_lie(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reserve stays free beside it; one byte less is too little."""
    room = type("Room", (), {"f_bavail": 7 << 20, "f_frsize": 1 << 10})
    monkeypatch.setattr("os.statvfs", lambda _folder: room)
    enough = replace(WISH, bytes_allocated=3 << 30, reserve_bytes=1 << 30)
    _exchange.examine(host.layout, enough, NOW, host.world)
    said_of = refusal(host, replace(enough, reserve_bytes=(1 << 30) + 1))
    assert f"has 7.0 GiB free, image {IMAGE} needs 6.0 GiB there and 1.0 GiB stay in reserve" in said_of
    assert said_of.startswith("no space for the restore: ") and str(tmp_path) in said_of
    assert said_of.endswith("add space, or lower resilient_vm_reserve_bytes")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({LISTED: said("")}, "erp is not defined on this host, so it has no disks to be exchanged"),
        ({"virsh domstate": said("shut off (saved)")}, f"throw the state away with: virsh managedsave-remove {UUID}"),
        ({"virsh backup-dumpxml": said("<domainbackup mode='pull'/>")}, "run again when it is over"),
    ],
)
def test_a_machine_that_can_not_be_stopped_and_started_on_other_disks(
    host: Host, answers: dict[str, Any], expected: str
) -> None:
    host.world.answers.update(answers)
    if LISTED in answers:
        host.world.answers["virsh domstate"] = refused(f"error: failed to get domain '{UUID}'")
    assert expected in refusal(host)


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ({"target": "vdb"}, f"image {IMAGE} has disk vda and erp has none now"),
        ({"inside": "<driver name='qemu' type='vmdk'/>"}, "is a vmdk file, and raw and qcow2 files of their own"),
        (
            {"inside": "<driver name='qemu' type='qcow2'/><encryption format='luks'/>"},
            "is encrypted, and raw and qcow2 files of their own",
        ),
        ({"attributes": "type='block' device='disk'"}, "disk vda of erp is no file"),
    ],
)
def test_a_disk_that_is_exchanged_elsewhere_only(
    host: Host, tmp_path: Path, device: dict[str, str], expected: str
) -> None:
    host.world.answers["virsh dumpxml"] = said(domain(of(tmp_path, **device)))
    assert expected in refusal(host)


def test_one_that_was_begun_with_another_image_is_ended_first(host: Host) -> None:
    record = _exchange.examine(host.layout, WISH, NOW, host.world)
    _exchange.write_json(str(Path(host.layout.directory, _exchange.RECORD)), record)
    assert _exchange.examine(host.layout, WISH, NOW, host.world) == record
    with pytest.raises(ResilientVmError, match=f"run it to its end with resilient_vm_restore_point={IMAGE}"):
        _exchange.examine(host.layout, replace(WISH, image_id="20260113T020000Z"), NOW, host.world)
