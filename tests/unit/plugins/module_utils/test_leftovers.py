# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what an open snapshot leaves, and how it is taken away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from unit.libvirt_fakes import NO_JOB, UUID, Host, make_host, never, refused, said

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _leftovers, _virsh


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = make_host(tmp_path, monkeypatch)
    for folder in (made.layout.definition, os.path.dirname(made.layout.socket)):
        os.makedirs(folder)
    for name in ("vda.scratch.qcow2", "somebody-elses"):
        Path(made.layout.scratch, name).write_bytes(b"")
    for file in (made.layout.snapshot, made.layout.watch):
        Path(file).write_text("{}")
    made.world.answers["virsh backup-dumpxml"] = [
        said(f"<domainbackup><server socket='{made.layout.socket}'/></domainbackup>"),
        refused(NO_JOB),
    ]
    made.world.answers["virsh domjobabort"] = said()
    return made


def remove(host: Host, watching: bool = False) -> None:
    virsh = _virsh.Virsh(host.world, never)
    _leftovers.remove(host.layout, host.world, virsh, UUID, watching=watching)


def test_everything_of_ours_goes_and_nothing_else(host: Host) -> None:
    remove(host)
    assert os.listdir(host.layout.scratch) == ["somebody-elses"]
    assert not os.path.exists(host.layout.run)
    assert not _leftovers.find(host.layout, host.world, None)


GUARDS = said(
    "resilient-vm-begin-acme.erp.service loaded active running x\n"
    "resilient-vm-watch-acme.erp.service loaded active running x\n"
)


def test_the_watch_is_stopped_before_the_job_it_would_miss(host: Host) -> None:
    host.world.answers["systemctl list-units"] = GUARDS
    remove(host)
    order = host.world.asked("systemctl stop", "virsh domjobabort")
    assert order[:2] == ["systemctl stop", "virsh domjobabort"]


def test_the_watchs_own_clearing_stops_no_unit_of_its_own_and_leaves_its_verdict(host: Host) -> None:
    host.world.answers["systemctl list-units"] = GUARDS
    remove(host, watching=True)
    assert not host.world.asked("systemctl stop")
    assert os.path.exists(host.layout.watch)
    assert not os.path.exists(host.layout.snapshot)


def test_the_units_of_another_machine_with_a_name_like_ours_are_left_alone(host: Host) -> None:
    host.world.answers["systemctl list-units"] = said(
        "resilient-vm-nbd-vda-acme.erp.service loaded active running x\n"
        "resilient-vm-nbd-vda-big-acme.erp.service loaded active running the customer big-acme's\n"
    )
    found = _leftovers.find(host.layout, host.world, None)
    assert found.units == ("resilient-vm-nbd-vda-acme.erp",)


def test_a_unit_without_a_process_and_one_of_a_transfer_are_not_left_by_a_snapshot(host: Host) -> None:
    host.world.answers["systemctl list-units"] = said(
        "resilient-vm-watch-acme.erp.service loaded failed failed x\n"
        "resilient-vm-refresh-acme.erp.service loaded active running x\n"
        "resilient-vm-begin-acme.erp.service loaded deactivating stop-post x\n"
    )
    assert _leftovers.find(host.layout, host.world, None).units == ("resilient-vm-begin-acme.erp",)


def test_what_a_begin_serves_until_it_has_stopped_is_ended_too(host: Host) -> None:
    serving = said("resilient-vm-nbd-vda-acme.erp.service loaded active running x\n")
    host.world.answers["systemctl list-units"] = [GUARDS, serving]
    remove(host)
    stops = [call for call in host.world.calls if call.startswith("systemctl stop")]
    assert stops == [
        "systemctl stop resilient-vm-watch-acme.erp.service resilient-vm-begin-acme.erp.service",
        "systemctl stop resilient-vm-nbd-vda-acme.erp.service",
    ]


def test_what_is_there_is_told_and_a_foreign_job_is_not_ours(host: Host) -> None:
    assert _leftovers.find(host.layout, host.world, _virsh.Job(host.layout.socket)).job
    assert not _leftovers.find(host.layout, host.world, _virsh.Job("/run/other/s")).job


def test_only_one_folder_of_a_run_may_be_written_by_qemu_and_one_by_the_account(host: Host) -> None:
    rooms = {_leftovers.qemu_folder(host.layout), _leftovers.account_folder(host.layout)}
    for file in (host.layout.snapshot, host.layout.watch, host.layout.definition + "/domain.xml"):
        assert os.path.dirname(file) not in rooms


def test_clearing_what_is_not_there_is_nothing(host: Host) -> None:
    remove(host)
    host.world.answers["virsh backup-dumpxml"] = refused(NO_JOB)
    host.world.calls.clear()
    remove(host)
    assert not host.world.asked("virsh domjobabort", "systemctl stop")
