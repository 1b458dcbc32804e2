# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about host_info as a module: one call tells all of a machine, in check mode too, and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from unit.gate_fakes import OWN
from unit.libvirt_fakes import UUID, Host, disk, domain, facts_answer, make_host, refused, said

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _journal, _units
from ansible_collections.edgecloud.resilient_vm.plugins.modules import host_info, image_info, standby_info

Run = Callable[..., dict[str, Any]]
STATE = OWN.as_dict()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = make_host(tmp_path, monkeypatch)
    made.world.answers["virsh list --all --autostart --uuid"] = said("")
    made.world.answers["virsh dumpxml"] = facts_answer(domain(disk()))
    made.world.answers["stat"] = said("xfs\n")
    made.world.answers[_units.MOVER] = said("0.1.0+abc protocol 1\n")
    Path(made.layout.state).write_text(json.dumps(STATE))
    monkeypatch.setattr(host_info, "run", made.world)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    return made


def args(host: Host, *vms: str, **more: Any) -> dict[str, Any]:
    named = [{"customer": "acme", "vm": vm} for vm in vms]
    return {"root": host.layout.root, "now": "2026-01-14T03:00:00+01:00", "vms": named, **more}


def everything(host: Host) -> list[tuple[str, int]]:
    return [(str(path), path.stat().st_mtime_ns) for path in sorted(host.path.rglob("*"))]


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_machine_and_its_vms_are_told_in_one_answer(run_module: Run, host: Host, check_mode: bool) -> None:
    before = everything(host)
    told = run_module(host_info, args(host, "erp", "gone"), check_mode=check_mode)
    assert everything(host) == before
    assert told["changed"] is False
    assert (told["clock"], told["version"]) == ("2026-01-14T02:00:00Z", "0.1.0+abc protocol 1")
    assert (told["account_missing"], told["root"]["filesystem"]) == ([], "xfs")
    assert told["libvirt"] == {"version": "9.0.0", "qemu_version": "7.2.22"}
    assert told["domains"]["acme/gone"] == {"exists": False}
    assert (told["domains"]["acme/erp"]["uuid"], told["domains"]["acme/erp"]["state"]) == (UUID, "running")
    assert told["states"] == {"acme/erp": STATE, "acme/gone": None}
    assert told["kept_aside"] == {"acme/erp": [], "acme/gone": []}
    assert told["stops"] == {"acme/erp": None, "acme/gone": None}


def test_it_tells_when_it_stopped_a_machine_by_itself(run_module: Run, host: Host) -> None:
    when = datetime(2026, 1, 14, 9, 30, tzinfo=timezone.utc)
    said_of = _journal.entry(when, "resilient-vm-superseded", "stop", "acme/erp was stopped on a: c says b", 1, "a")
    _journal.append(host.layout.journal, said_of)
    told = run_module(host_info, args(host, "erp"))["stops"]
    assert told == {
        "acme/erp": {"when": "2026-01-14T09:30:00Z", "why": "acme/erp was stopped on a: c says b", "epoch": 1}
    }


def test_what_else_is_told_is_what_its_own_module_tells(
    run_module: Run, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.world.answers["systemctl show"] = said("inactive\n")
    for module in (image_info, standby_info):
        monkeypatch.setattr(module, "run", host.world)
    told = run_module(host_info, args(host, "erp", parts=["images", "standbys"]))["parts"]
    for part, module in (("images", image_info), ("standbys", standby_info)):
        assert told[part][part] == run_module(module, args(host, "erp"))[part]
    assert run_module(host_info, args(host, "erp"))["parts"] == {}


def test_a_part_that_can_not_be_told_fails_nothing_else(run_module: Run, host: Host) -> None:
    Path(host.layout.pins).mkdir()
    Path(host.layout.pins, "x.json").write_text("{")
    told = run_module(host_info, args(host, "erp", parts=["images"]))
    assert "is damaged" in told["parts"]["images"]["msg"] and told["states"]["acme/erp"] == STATE


def test_a_machine_that_only_stores_images_is_not_asked_for_domains(run_module: Run, host: Host) -> None:
    told = run_module(host_info, args(host, "erp", libvirt=False))
    assert (told["libvirt"], told["domains"], host.world.asked("virsh")) == (None, {}, [])


def test_a_libvirt_that_does_not_answer_is_a_failure_in_its_words(run_module: Run, host: Host) -> None:
    host.world.answers["virsh version"] = refused("error: failed to connect to the hypervisor")
    told = run_module(host_info, args(host, "erp"))
    assert told["failed"] is True
    assert "failed to connect to the hypervisor" in told["msg"]


def test_a_state_document_that_lacks_something_is_named(run_module: Run, host: Host) -> None:
    """Whoever plans by it would say no more than the name of what is missing."""
    document = {name: value for name, value in STATE.items() if name != "active"}
    Path(host.layout.state).write_text(json.dumps(document))
    told = run_module(host_info, args(host, "erp"))
    assert told["failed"] and host.layout.state in told["msg"] and "active" in told["msg"]
