# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about freeze, begin and thaw: the order, and what holds whatever goes wrong in between."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unit.libvirt_fakes import NO_JOB, UUID, Host, make_host, never, refused, said

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _qemu, _snapshot
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import read_json, write_json

OLD = "resilient-vm-20260113T020000Z-5c0e1f"
NEW = "resilient-vm-20260114T020000Z-0d3e83"
BROKEN = "error: checkpoint inconsistent: missing or broken bitmap 'x' for disk 'vdb'"


def wanted(target: str, base: str | None = None, counted: bool = True) -> dict[str, Any]:
    return {
        "target": target,
        "format": "qcow2",
        "source": f"/images/{target}.qcow2",
        "size_bytes": 1048576,
        "counted": counted,
        "base": base,
        "reason": "" if base else "no image",
    }


def request(host: Host, **changed: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "root": host.layout.root,
        "customer": "acme",
        "vm": "erp",
        "domain": "erp",
        "uuid": UUID,
        "epoch": 1,
        "now": "2026-01-14T02:00:00Z",
        "newest_id": "20260113T020000Z",
        "running": True,
        "state": "running (booted)",
        "checkpoint": NEW,
        "standing": [],
        "base_image": "20260113T020000Z",
        "disks": [wanted("vda", OLD), wanted("vdb", OLD)],
        "others": ["sda"],
        "skipped": [{"target": "sda", "reason": "CD-ROM"}],
        "excluded": [],
        "freeze_refused": "",
        "nvram": "",
        "tpm": False,
        "expire_seconds": 600,
        "scratch_floor_bytes": 0,
        "libvirt_version": "9.0.0",
        "qemu_version": "7.2.22",
        **changed,
    }


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = make_host(tmp_path, monkeypatch)
    os.makedirs(made.layout.definition)
    monkeypatch.setattr(_qemu, "find", lambda _domain: _qemu.Qemu(313, 7, 0))
    made.world.answers.update(
        {
            "virsh domfsfreeze": said("Froze 2 filesystem(s)\n"),
            "virsh domfsthaw": said("Thawed 2 filesystem(s)\n"),
            "virsh backup-begin": said("Backup started\n"),
            "virsh dumpxml": said("<domain/>"),
            "virsh checkpoint-delete": said(),
            "virsh domjobabort": said(),
        }
    )
    return made


def begin(host: Host, **changed: Any) -> int:
    write_json(_snapshot.request_file(host.layout), request(host, **changed))
    return _snapshot.begin(replace(host.layout, root="/elsewhere"), host.world, never)


def document(host: Host) -> dict[str, Any]:
    assert read_json(_snapshot.error_file(host.layout)) is None
    return dict(read_json(host.layout.snapshot))


def error(host: Host) -> str:
    return str(read_json(_snapshot.error_file(host.layout))["message"])


def job_begun(host: Host) -> None:
    host.world.answers["virsh backup-dumpxml"] = [
        said(f"<domainbackup><server socket='{host.layout.socket}'/></domainbackup>"),
        refused(NO_JOB),
    ]


ORDER = ("virsh domfsfreeze", "virsh backup-begin", "virsh domfsthaw", "virsh dumpxml", "systemd-run")


def test_freeze_begin_thaw_and_only_then_the_slow_rest(host: Host) -> None:
    assert begin(host) == 0
    assert host.world.asked(*ORDER) == list(ORDER)


def test_a_frozen_machine_is_consistent_to_its_file_systems(host: Host) -> None:
    begin(host)
    told = document(host)
    assert (told["consistency"], told["consistency_reason"]) == ("filesystem", "")
    assert (told["id"], told["instant"], told["epoch"]) == ("20260114T020000Z", "2026-01-14T02:00:00Z", 1)
    assert (told["uuid"], told["checkpoint"]) == (UUID, NEW)
    assert [disk["bitmap"] for disk in told["disks"]] == ["backup-vda", "backup-vdb"]
    assert {disk["bitmap_base"] for disk in told["disks"]} == {"20260113T020000Z"}
    assert _snapshot.finished(host.layout)


@pytest.mark.parametrize(
    ("changed", "answers", "reason"),
    [
        ({"freeze_refused": "no guest agent runs in the machine"}, {}, "no guest agent"),
        ({}, {"virsh domfsfreeze": said("Froze 0 filesystem(s)")}, "no file system that can be frozen"),
        ({}, {"virsh domfsfreeze": refused("error: Guest agent is not responding")}, "not responding"),
        ({}, {"virsh domfsfreeze": ResilientVmError("virsh did not end within 10 seconds")}, "did not end"),
        ({}, {"virsh domfsthaw": said("Thawed 0 filesystem(s)")}, "thawed by itself"),
    ],
)
def test_without_a_freeze_that_held_it_is_crash_consistent_and_says_why(
    host: Host, changed: dict[str, Any], answers: dict[str, Any], reason: str
) -> None:
    host.world.answers.update(answers)
    assert begin(host, **changed) == 0
    told = document(host)
    assert told["consistency"] == "crash"
    assert reason in told["consistency_reason"]


def test_a_machine_without_agent_is_never_asked_to_freeze_or_thaw(host: Host) -> None:
    begin(host, freeze_refused="no guest agent runs in the machine")
    assert not host.world.asked("virsh domfsfreeze", "virsh domfsthaw")


def test_a_freeze_of_unknown_outcome_is_thawed_all_the_same(host: Host) -> None:
    host.world.answers["virsh domfsfreeze"] = ResilientVmError("virsh did not end within 10 seconds")
    begin(host)
    assert host.world.asked("virsh domfsthaw") == ["virsh domfsthaw"]


def test_a_bitmap_that_libvirt_refuses_costs_its_disk_only_and_the_reason_is_told(host: Host) -> None:
    host.world.answers["virsh backup-begin"] = [refused(BROKEN), said()]
    assert begin(host) == 0
    disks = {disk["target"]: disk for disk in document(host)["disks"]}
    assert (disks["vda"]["bitmap"], disks["vda"]["reason"]) == ("backup-vda", "")
    assert (disks["vdb"]["bitmap"], disks["vdb"]["bitmap_base"]) == (None, None)
    assert "broken bitmap" in disks["vdb"]["reason"]
    assert disks["vdb"]["checkpoint"] == NEW


def test_disks_that_cannot_keep_bitmaps_are_read_without_a_checkpoint(host: Host) -> None:
    v2 = refused("error: Cannot store dirty bitmaps in qcow2 v2 files")
    host.world.answers["virsh backup-begin"] = [v2, v2, said()]
    assert begin(host) == 0
    told = document(host)
    assert told["checkpoint"] is None
    assert all(disk["checkpoint"] is None and "qcow2 v2" in disk["reason"] for disk in told["disks"])
    assert [len(call.split()) for call in host.world.calls if "backup-begin" in call] == [5, 5, 4]


def test_a_refusal_that_is_no_bitmaps_fault_ends_it_thawed_and_undone(host: Host) -> None:
    host.world.answers["virsh backup-begin"] = refused("error: Permission denied")
    assert begin(host) == 1
    assert "Permission denied" in error(host)
    assert host.world.asked("virsh domfsthaw") == ["virsh domfsthaw"]
    assert not host.world.asked("systemd-run")
    assert not os.path.exists(host.layout.run + "/unfinished")


def test_a_guest_that_stays_frozen_gives_the_snapshot_up_and_leaves_the_mark_to_thaw_on(host: Host) -> None:
    host.world.answers["virsh domfsthaw"] = refused("error: agent gone")
    job_begun(host)
    assert begin(host) == 1
    assert "could not be thawed" in error(host)
    assert host.world.asked("virsh domjobabort", "virsh checkpoint-delete") == [
        "virsh domjobabort",
        "virsh checkpoint-delete",
    ]
    assert os.path.exists(host.layout.run + "/frozen")


def test_a_begin_without_an_answer_leaves_the_mark_to_end_a_late_job(host: Host) -> None:
    host.world.answers["virsh backup-begin"] = ResilientVmError("virsh did not end within 20 seconds")
    assert begin(host) == 1
    assert host.world.asked("virsh domfsthaw") == ["virsh domfsthaw"]
    assert os.path.exists(host.layout.run + "/unfinished")


def test_a_clock_behind_the_newest_image_ends_it_and_undoes_it(host: Host) -> None:
    job_begun(host)
    assert begin(host, newest_id="20260114T020000Z") == 1
    assert "set the clock" in error(host)
    assert host.world.asked("virsh domjobabort") == ["virsh domjobabort"]
    assert not os.path.exists(host.layout.snapshot)


def test_a_snapshot_nobody_watches_is_undone(host: Host) -> None:
    host.world.answers["systemd-run"] = refused("Failed to start transient service unit")
    job_begun(host)
    assert begin(host) == 1
    assert host.world.asked("virsh domjobabort") == ["virsh domjobabort"]
    assert not _snapshot.finished(host.layout) or read_json(_snapshot.error_file(host.layout))


def test_scratch_of_an_earlier_crash_is_in_nobodys_way(host: Host) -> None:
    left = Path(host.layout.scratch, "vda.scratch.qcow2")
    left.write_bytes(b"old")
    begin(host)
    assert not left.exists()


# the end of the unit, whatever happened to its beginning


def thaw(host: Host, *marks: str, **changed: Any) -> int:
    write_json(_snapshot.request_file(host.layout), request(host, **changed))
    for mark in marks:
        Path(host.layout.run, mark).write_text("")
    clock = iter(range(1000))
    return _snapshot.thaw(host.layout, host.world, never, lambda: float(next(clock)))


def test_after_a_kill_the_guest_is_thawed_however_often_it_takes(host: Host) -> None:
    deaf = refused("error: failed to connect to the hypervisor")
    host.world.answers["virsh domfsthaw"] = [deaf, deaf, deaf, said("Thawed 2 filesystem(s)")]
    host.world.answers["virsh domstate"] = refused("error: failed to connect to the hypervisor")
    assert thaw(host, "frozen") == 0
    assert len(host.world.asked("virsh domfsthaw")) == 4
    assert not os.path.exists(host.layout.run + "/frozen")


def test_a_guest_that_is_gone_needs_no_thaw(host: Host) -> None:
    host.world.answers["virsh domfsthaw"] = refused("error: domain is not running")
    host.world.answers["virsh domstate"] = said("shut off (crashed)")
    assert thaw(host, "frozen") == 0
    assert not os.path.exists(host.layout.run + "/frozen")


def test_a_guest_that_was_not_frozen_is_not_bothered(host: Host) -> None:
    assert thaw(host) == 0
    assert not host.world.calls


def test_a_job_that_begins_after_its_begin_was_killed_is_ended(host: Host) -> None:
    job = said(f"<domainbackup><server socket='{host.layout.socket}'/></domainbackup>")
    host.world.answers["virsh backup-dumpxml"] = [refused(NO_JOB), refused(NO_JOB), job, refused(NO_JOB)]
    assert thaw(host, "unfinished") == 0
    assert host.world.asked("virsh domjobabort") == ["virsh domjobabort"]


def test_a_job_that_never_begins_is_not_waited_for_for_ever(host: Host) -> None:
    assert thaw(host, "unfinished") == 0
    assert 30 < len(host.world.asked("virsh backup-dumpxml")) < 60


def test_without_a_request_there_is_nothing_to_end(host: Host) -> None:
    assert _snapshot.thaw(host.layout, host.world, never) == 0


def test_without_a_request_nothing_begins(host: Host) -> None:
    assert _snapshot.begin(host.layout, host.world, never) == 1
    assert "vm_snapshot" in error(host)
