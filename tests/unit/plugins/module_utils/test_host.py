# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what host_info tells, and that telling it leaves no trace."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from unit.libvirt_fakes import UUID, Host, disk, domain, facts_answer, make_host, said

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _host, _units
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import write_json
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = make_host(tmp_path, monkeypatch)
    made.world.answers["virsh list --all --autostart --uuid"] = said(f"{UUID}\n")
    made.world.answers["stat"] = said("xfs\n")
    made.world.answers["virsh dumpxml"] = facts_answer(
        domain(disk(), disk("vdb", attributes="type='network' device='disk'")), checkpoints="resilient-vm-1\ntheirs"
    )
    return made


def test_all_machines_of_a_host_cost_three_calls_and_one_more_each(host: Host) -> None:
    wanted = {"acme/erp": (host.layout, "erp"), "acme/gone": (host.layout, "gone")}
    told = _host.domains_of(wanted, host.world)
    assert len(host.world.calls) == 3
    assert told["acme/gone"] == {"exists": False}
    erp = told["acme/erp"]
    assert (erp["uuid"], erp["state"], erp["autostart"], erp["backup_job"]) == (UUID, "running", True, None)
    assert erp["disks"] == [
        {
            "target": "vda",
            "path": "/images/vda.qcow2",
            "format": "qcow2",
            "size_bytes": 1048576,
            "allocated_bytes": 524288,
        }
    ]
    assert erp["refused"] == [{"target": "vdb", "reason": "a network disk"}]
    assert (erp["own_checkpoints"], erp["foreign_checkpoints"]) == (["resilient-vm-1"], ["theirs"])
    assert erp["open_snapshot"] is None


def test_an_open_snapshot_is_told_with_whether_it_is_good(host: Host) -> None:
    os.makedirs(host.layout.run)
    write_json(host.layout.snapshot, {"id": "20260114T020000Z", "consistency": "filesystem"})
    told = _host.domains_of({"acme/erp": (host.layout, "erp")}, host.world)["acme/erp"]
    assert told["open_snapshot"] == {"id": "20260114T020000Z", "valid": False}
    os.unlink(host.layout.snapshot)
    told = _host.domains_of({"acme/erp": (host.layout, "erp")}, host.world)["acme/erp"]
    assert told["open_snapshot"] == {"id": None, "valid": False}


@pytest.mark.parametrize(("inside", "whose"), [(True, "ours"), (False, "foreign")])
def test_a_job_is_told_with_whose_it_is(host: Host, inside: bool, whose: str) -> None:
    socket = host.layout.socket if inside else "/run/other/s"
    host.world.answers["virsh dumpxml"] = facts_answer(
        domain(disk()), job=f"<domainbackup><server socket='{socket}'/></domainbackup>"
    )
    assert _host.domains_of({"acme/erp": (host.layout, "erp")}, host.world)["acme/erp"]["backup_job"] == whose


def test_the_root_is_measured_where_it_will_be_and_nothing_is_left_there(host: Host) -> None:
    before = sorted(os.listdir(host.path)), os.stat(host.path).st_mtime_ns
    told = _host.root_of(str(host.path / "not" / "there"), host.world)
    assert (told["exists"], told["filesystem"]) == (False, "xfs")
    assert isinstance(told["reflink"], bool)
    assert told["free_bytes"] <= told["total_bytes"]
    assert (sorted(os.listdir(host.path)), os.stat(host.path).st_mtime_ns) == before


def test_the_movers_own_word_is_its_version(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.world.answers[_units.MOVER] = said("0.1.0+abc protocol 1\n")
    assert _host.mover_version(host.world) == "0.1.0+abc protocol 1"
    monkeypatch.setattr(_units, "MOVER", "/not/there")
    assert _host.mover_version(host.world) is None


def test_a_machine_without_libvirt_says_so(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    assert _host.libvirt_of(host.world) is None
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/" + name)
    assert _host.libvirt_of(host.world) == {"version": "9.0.0", "qemu_version": "7.2.22"}


def test_customers_without_an_account_are_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr("pwd.getpwnam", nobody)
    assert _host.missing_accounts([Layout("acme", "a"), Layout("acme", "b")]) == ["acme"]


def test_a_machine_named_twice_is_refused_and_a_domain_is_called_as_its_machine_unless_told() -> None:
    one, two = {"customer": "acme", "vm": "a"}, {"customer": "acme", "vm": "b", "domain": "x"}
    named = _host.layouts_of([one, two], "/r")
    assert {name: domain for name, (_layout, domain) in named.items()} == {"acme/a": "a", "acme/b": "x"}
    with pytest.raises(ResilientVmError, match="named twice"):
        _host.layouts_of([one, one], "/r")
