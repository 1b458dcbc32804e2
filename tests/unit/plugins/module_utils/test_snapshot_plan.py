# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what vm_snapshot decides before it touches anything, and what it then does."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.libvirt_fakes import UUID, Host, disk, domain, facts_answer, make_host, never, said

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _snapshot, _snapshot_plan, _units
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import locked, read_json, write_json

OLD = "resilient-vm-20260113T020000Z-5c0e1f"
OLDER = "resilient-vm-20260112T020000Z-aaaaaa"
BASE = {
    "image_id": "20260113T020000Z",
    "checkpoint": OLD,
    "disks": {"vda": {"size_bytes": 1048576, "checkpoint": OLD}},
}
ID = "20260114T020000Z"
THEIRS = "<domainbackup mode='pull'><server transport='unix' socket='/run/other/s'/></domainbackup>"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = make_host(tmp_path, monkeypatch)
    known(made)
    counted = (
        "<domaincheckpoint><disks><disk name='vda' checkpoint='bitmap'/></disks>"
        + domain(disk())
        + "</domaincheckpoint>"
    )
    made.world.answers["virsh checkpoint-dumpxml"] = said(counted)
    made.world.answers[f"virsh checkpoint-dumpxml {UUID} {OLD} --size"] = said(
        "<domaincheckpoint><disks><disk name='vda' size='65536'/></disks></domaincheckpoint>"
    )
    made.world.answers["virsh checkpoint-delete"] = said()
    return made


def known(host: Host, *devices: str, **facts: str) -> None:
    host.world.answers["virsh dumpxml"] = facts_answer(domain(*(devices or (disk(),))), **facts)


def plan(host: Host, **wish: Any) -> _snapshot_plan.OpenPlan:
    given = {"domain": "erp", "now": "2026-01-14T02:00:00Z", "scratch_floor_bytes": 0, **wish}
    return _snapshot_plan.plan_open(host.layout, host.world, _snapshot_plan.Wish(**given))


TOUCHING = (
    "virsh checkpoint-delete",
    "virsh domjobabort",
    "virsh backup-begin",
    "virsh domfsfreeze",
    "systemd-run",
    "systemctl stop",
)


def test_planning_touches_nothing(host: Host) -> None:
    known(host, checkpoints=f"{OLD}\n{OLDER}")
    before = sorted(str(path) for path in host.path.rglob("*"))
    assert plan(host, base=BASE).changes
    assert not host.world.asked(*TOUCHING)
    assert sorted(str(path) for path in host.path.rglob("*")) == before


def test_the_newest_images_checkpoint_is_counted_from_and_all_others_of_ours_go(host: Host) -> None:
    known(host, checkpoints=f"{OLDER}\n{OLD}\nsomebody-elses")
    planned = plan(host, base=BASE)
    assert planned.request["disks"][0]["base"] == OLD
    assert planned.delete == (OLDER,)
    assert planned.estimate_bytes == 65536
    made = planned.request["checkpoint"]
    assert made.startswith(f"resilient-vm-{ID}-")
    assert planned.after["checkpoints"] == sorted([OLD, made])


def test_two_plans_never_name_one_checkpoint(host: Host) -> None:
    assert plan(host).request["checkpoint"] != plan(host).request["checkpoint"]


def _foreign_job(host: Host) -> dict[str, Any]:
    known(host, job=THEIRS)
    return {}


def _busy(host: Host) -> dict[str, Any]:
    host.world.answers["virsh domjobinfo"] = said("Job type: Unbounded\nOperation: Outgoing migration\n")
    return {}


def _bad_disk(host: Host) -> dict[str, Any]:
    known(host, disk(), disk("vdb", attributes="type='network' device='disk'"))
    return {}


def _only_excluded(_host: Host) -> dict[str, Any]:
    return {"exclude_disks": ["vda"]}


def _no_size(host: Host) -> dict[str, Any]:
    known(host, sizes="vdz 1 1 1")
    return {}


def _no_mover(_host: Host) -> dict[str, Any]:
    os.unlink(_units.MOVER)
    return {}


def _no_folder(host: Host) -> dict[str, Any]:
    os.rmdir(host.layout.scratch)
    return {}


REFUSALS: list[tuple[Callable[[Host], dict[str, Any]], str]] = [
    (lambda _host: {"domain": "other"}, r"this host has no domain other .*correct resilient_vm_domain"),
    (lambda _host: {"uuid": UUID.replace("3", "4")}, r"has the UUID 3c6bb72f.*another machine of that name"),
    (_foreign_job, r"somebody else's backup job is active on domain erp"),
    (_busy, r"busy with domain erp: Outgoing migration"),
    (_bad_disk, r"vdb \(a network disk\); remove it, or name it in resilient_vm_exclude_disks"),
    (_only_excluded, r"no disk to take an image of"),
    (_no_size, r"can't tell the size of disk vda"),
    (_no_mover, r"resilient-vm is not on this host; run the site playbook"),
    (_no_folder, r"scratch is not on this host; run the site playbook"),
    (lambda _host: {"newest_id": ID}, r"not later than the newest image 20260114T020000Z"),
    (lambda _host: {"newest_id": "20270114T020000Z"}, r"set the clocks"),
    (lambda _host: {"scratch_floor_bytes": 1 << 60}, r"no space for scratch files in .*the floor is 1073741824.0 GiB"),
    (
        lambda _host: {"destinations": [{"name": "c", "free_bytes": 600000, "reserve_bytes": 100000}]},
        r"no space on c: 0.5 MiB needed and 0.1 MiB held in reserve, 0.6 MiB free",
    ),
]


@pytest.mark.parametrize(("spoil", "sentence"), REFUSALS)
def test_bad_input_is_one_sentence_before_anything_is_touched(
    host: Host, spoil: Callable[[Host], dict[str, Any]], sentence: str
) -> None:
    wish = spoil(host)
    with pytest.raises(ResilientVmError, match=sentence) as caught:
        plan(host, **wish)
    assert "\n" not in str(caught.value)
    assert not host.world.asked(*TOUCHING)


def test_a_missing_account_is_named(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr("pwd.getpwnam", nobody)
    with pytest.raises(ResilientVmError, match="account rvm-acme is not on this host"):
        plan(host)


@pytest.mark.parametrize(
    ("xml", "state", "wish", "reason"),
    [
        (domain(disk()), "running (booted)", {}, ""),
        (domain(disk()), "running (booted)", {"freeze": False}, "switched off"),
        (domain(disk(), agent=False), "running (booted)", {}, "no channel"),
        (domain(disk()).replace("'connected'", "'disconnected'"), "running (booted)", {}, "no guest agent runs"),
        (domain(disk()), "paused (user)", {}, "the machine is paused"),
    ],
)
def test_why_a_guest_will_not_be_frozen_is_known_beforehand(
    host: Host, xml: str, state: str, wish: dict[str, Any], reason: str
) -> None:
    host.world.answers["virsh dumpxml"] = facts_answer(xml, state=state)
    found = plan(host, **wish).request["freeze_refused"]
    assert reason in found if reason else found == ""


def test_of_a_stopped_machine_no_checkpoint_is_deleted_and_the_base_may_go_on_counting(host: Host) -> None:
    known(host, state="shut off (shutdown)", checkpoints=f"{OLDER}\n{OLD}")
    planned = plan(host, base=BASE, scratch_floor_bytes=1 << 60)
    assert planned.delete == ()
    assert planned.request["running"] is False
    assert planned.request["standing"] == [OLD, OLDER]
    assert planned.estimate_bytes == 524288


# adoption


def opened(host: Host, **verdict: Any) -> None:
    os.makedirs(host.layout.run)
    write_json(host.layout.snapshot, {"id": ID, "consistency": "filesystem"})
    write_json(host.layout.watch, {"checked": time.monotonic(), "valid": True, "reason": "", "id": ID, **verdict})
    job = f"<domainbackup><server transport='unix' socket='{host.layout.socket}'/></domainbackup>"
    known(host, job=job)


def test_the_snapshot_asked_for_stays_untouched(host: Host) -> None:
    opened(host)
    planned = plan(host, adopt_id=ID, newest_id=None, destinations=[{"name": "c", "free_bytes": 0}])
    assert not planned.changes
    assert planned.before == planned.after
    assert _snapshot_plan.open_snapshot(host.layout, host.world, planned, never)["id"] == ID
    assert not host.world.asked(*TOUCHING)


@pytest.mark.parametrize(
    ("verdict", "adopt"),
    [({}, None), ({}, "20260101T020000Z"), ({"valid": False}, ID), ({"checked": 0.0}, ID), ({"id": "other"}, ID)],
)
def test_any_other_snapshot_of_ours_is_replaced(host: Host, verdict: dict[str, Any], adopt: str | None) -> None:
    opened(host, **verdict)
    assert plan(host, adopt_id=adopt).changes


def test_a_snapshot_whose_job_is_gone_is_not_adopted(host: Host) -> None:
    opened(host)
    known(host)
    assert plan(host, adopt_id=ID).changes


# opening


def unit_writes(host: Host, **documents: Any) -> None:
    def start(_words: list[str]) -> Any:
        for name, value in documents.items():
            write_json(os.path.join(host.layout.run, f"{name}.json"), value)
        return said()

    host.world.answers["systemd-run"] = start


def test_opening_clears_leftovers_first_and_runs_the_unit_that_always_thaws(host: Host) -> None:
    known(host, checkpoints=OLDER)
    Path(host.layout.scratch, "vda.scratch.qcow2").write_bytes(b"")
    Path(host.layout.run).mkdir(parents=True)
    unit_writes(host, snapshot={"id": ID})
    document = _snapshot_plan.open_snapshot(host.layout, host.world, plan(host), never)
    assert document["id"] == ID
    assert os.listdir(host.layout.scratch) == []
    run = next(call for call in host.world.calls if call.startswith("systemd-run"))
    assert f"ExecStopPost={_units.MOVER} thaw acme/erp" in run
    assert "RuntimeMaxSec=" in run
    assert host.world.asked("virsh checkpoint-delete", "systemd-run") == ["virsh checkpoint-delete", "systemd-run"]
    assert read_json(_snapshot.request_file(host.layout))["uuid"] == UUID


def test_the_run_folder_is_readable_where_it_must_and_writable_nowhere_else(host: Host) -> None:
    unit_writes(host, snapshot={"id": ID})
    _snapshot_plan.open_snapshot(host.layout, host.world, plan(host), never)
    modes = {
        name: os.stat(os.path.join(host.layout.run, name)).st_mode & 0o777
        for name in (".", "qemu", "reader", "definition")
    }
    assert modes == {".": 0o711, "qemu": 0o710, "reader": 0o750, "definition": 0o750}


def test_what_the_unit_could_not_do_is_the_modules_sentence_and_leaves_nothing(host: Host) -> None:
    unit_writes(host, error={"message": "libvirt can't begin a backup", "facts": {"code": 1}})
    with pytest.raises(ResilientVmError, match="can't begin a backup") as caught:
        _snapshot_plan.open_snapshot(host.layout, host.world, plan(host), never)
    assert caught.value.facts == {"code": 1}
    assert not os.path.exists(host.layout.run)


def test_a_unit_that_was_killed_is_told_and_leaves_nothing(host: Host) -> None:
    with pytest.raises(ResilientVmError, match="ended without opening the snapshot"):
        _snapshot_plan.open_snapshot(host.layout, host.world, plan(host), never)
    assert not os.path.exists(host.layout.run)


# closing


@pytest.mark.parametrize(
    ("keep", "removed"), [(None, ()), (OLD, (OLDER,)), ("", (OLDER, OLD)), ("resilient-vm-gone", (OLDER, OLD))]
)
def test_exactly_the_named_checkpoint_stays(host: Host, keep: str | None, removed: tuple[str, ...]) -> None:
    known(host, checkpoints=f"{OLDER}\n{OLD}\nsomebody-elses")
    planned = _snapshot_plan.plan_close(host.layout, host.world, "erp", keep)
    assert planned.delete == removed
    _snapshot_plan.close(host.layout, host.world, planned)
    assert [call.split()[3] for call in host.world.calls if "checkpoint-delete" in call] == list(removed)


def test_closing_what_is_closed_changes_nothing(host: Host) -> None:
    planned = _snapshot_plan.plan_close(host.layout, host.world, "erp", "")
    assert not planned.changes
    assert planned.before == planned.after
    _snapshot_plan.close(host.layout, host.world, planned)
    assert not host.world.asked(*TOUCHING)


def test_a_stopped_machines_checkpoints_wait(host: Host) -> None:
    known(host, checkpoints=OLDER, state="shut off (shutdown)")
    assert not _snapshot_plan.plan_close(host.layout, host.world, "erp", "").changes


def test_leftovers_of_a_machine_that_is_gone_are_cleared_all_the_same(host: Host) -> None:
    host.world.answers["virsh list"] = said("")
    os.makedirs(host.layout.run)
    planned = _snapshot_plan.plan_close(host.layout, host.world, "erp", "")
    assert planned.changes
    _snapshot_plan.close(host.layout, host.world, planned)
    assert not os.path.exists(host.layout.run)


def test_a_second_run_meanwhile_is_told_who_holds_the_machine(host: Host) -> None:
    planned = plan(host)
    with locked(host.layout.lock, "image_prune"), pytest.raises(ResilientVmError, match="image_prune"):
        _snapshot_plan.open_snapshot(host.layout, host.world, planned, never)
    assert not host.world.asked(*TOUCHING)


def test_the_request_is_plain_json(host: Host) -> None:
    assert json.loads(json.dumps(plan(host, base=BASE).request))["others"] == []
