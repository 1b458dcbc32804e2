# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about vm_instant and image_lend: run once, gone on with after whatever broke, and told apart from done."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from unit.engine_fakes import IDS
from unit.lend_fakes import Host, borrower
from unit.libvirt_fakes import UUID, refused, said

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _borrow, _lend
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import read_json, write_json
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._restored_files import RECORD
from ansible_collections.edgecloud.resilient_vm.plugins.modules import image_lend, vm_instant

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = borrower(tmp_path, monkeypatch)
    monkeypatch.setattr(vm_instant, "run", made.libvirt)
    monkeypatch.setattr(vm_instant, "Layout", partial(Layout, runtime=made.layout.runtime))
    return made


def test_it_is_told_run_and_then_left_alone(run_module: Run, host: Host) -> None:
    planned = run_module(vm_instant, host.wish, check_mode=True, diff=True)
    assert (planned["changed"], planned["uuid"], planned["arrived"]) == (True, None, False)
    assert not host.xml and not os.path.exists(_borrow.folder(host.layout))
    done = run_module(vm_instant, host.wish, diff=True)
    assert done["diff"] == planned["diff"] == {"before": {"state": "absent"}, "after": {"state": "running"}}
    lender = os.path.join(_borrow.folder(host.layout), "vda.sock")
    # Whoever opens the file without libvirt is sent there, too.
    assert f"-b nbd+unix:///vda?socket={lender}" in (host.folder / "vda.qcow2").read_text()
    assert f'socket="{lender}"' in host.xml and "rerror_policy" in host.xml
    assert done["uuid"] == host.domains["tuesday"] != UUID
    again = run_module(vm_instant, host.wish)
    assert (again["changed"], again["arrived"], again["done_bytes"], again["total_bytes"]) == (
        False,
        False,
        65536,
        1 << 18,
    )


def test_after_a_crash_of_the_host_it_is_started_again_with_what_it_lacks(run_module: Run, host: Host) -> None:
    first = run_module(vm_instant, host.wish)
    kept = (host.folder / "vda.qcow2").read_text() + "what it has written"
    (host.folder / "vda.qcow2").write_text(kept)
    host.crash()
    again = run_module(vm_instant, host.wish)
    assert again["changed"] and again["uuid"] == first["uuid"]
    assert (host.folder / "vda.qcow2").read_text() == kept
    assert host.running == [f"{host.layout.unit('stream')}.service", first["uuid"]]


def test_a_unit_that_is_gone_is_started_again_and_nothing_else(run_module: Run, host: Host) -> None:
    identity = run_module(vm_instant, host.wish)["uuid"]
    host.running.remove(f"{host.layout.unit('stream')}.service")
    assert run_module(vm_instant, host.wish)["changed"]
    assert host.running.count(identity) == 1


def test_a_run_that_was_killed_before_it_could_define_it_is_gone_on_with(run_module: Run, host: Host) -> None:
    host.libvirt.answers["virsh define"] = refused("killed")
    assert run_module(vm_instant, host.wish)["failed"]
    host.libvirt.answers["virsh define"] = host.define
    record = read_json(str(host.folder / RECORD))
    assert run_module(vm_instant, host.wish)["uuid"] == record["uuid"]


def test_a_run_that_was_killed_right_after_it_was_defined_is_gone_on_with(run_module: Run, host: Host) -> None:
    run_module(vm_instant, host.wish)
    record = str(host.folder / RECORD)
    write_json(record, {**read_json(record), "defined": False})
    host.crash()
    assert run_module(vm_instant, host.wish)["changed"]
    # Else nothing would ever be pulled.
    assert read_json(record)["defined"]


def test_two_runs_at_once_wait_for_each_other(run_module: Run, host: Host) -> None:
    with _borrow.making(host.layout):
        assert "is held by a restore of acme/erp at once" in run_module(vm_instant, host.wish)["msg"]
        assert run_module(vm_instant, host.wish, check_mode=True)["changed"]


def test_when_all_is_there_it_is_its_owners(run_module: Run, host: Host) -> None:
    run_module(vm_instant, host.wish)
    record = str(host.folder / RECORD)
    write_json(record, {**read_json(record), "borrows": []})
    host.running.clear()
    over = run_module(vm_instant, host.wish)
    assert (over["changed"], over["arrived"]) == (False, True)


def test_a_second_one_waits_its_turn(run_module: Run, host: Host) -> None:
    run_module(vm_instant, host.wish)
    told = run_module(vm_instant, {**host.wish, "name": "friday"})["msg"]
    assert f"tuesday is being made of image {IDS[0]} of acme/erp here" in told


def test_a_definition_that_is_not_the_images_is_refused(run_module: Run, host: Host) -> None:
    host.lends = "passwd"
    told = run_module(vm_instant, host.wish)["msg"]
    assert "lends 'passwd', which nobody asked for" in told
    # Nobody goes on lending to what is not there.
    loan = _borrow.read(host.layout)
    assert loan is not None and loan["over"] and not os.path.exists(_borrow.folder(host.layout))
    host.lends = "domain.xml"
    wrong = {**host.wish, "definition": [{"name": "domain.xml", "sha256": "0" * 64}]}
    assert "is not what the manifest names" in run_module(vm_instant, wrong)["msg"]
    assert os.listdir(host.layout.restored) == []


def test_lending_is_told_done_and_ended(run_module: Run, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = host.images
    os.makedirs(layout.transfer)
    host.libvirt.answers["systemctl stop"] = lambda words: host.running.remove(words[-1]) or said()
    monkeypatch.setattr(image_lend, "run", host.libvirt)
    peer = {"name": "b", "address": "192.0.2.2"}
    wish = {"root": layout.root, "customer": "acme", "vm": "erp", "image_id": IDS[0], "name": "tuesday", "peer": peer}
    assert run_module(image_lend, wish, check_mode=True)["changed"] and not os.listdir(layout.pins)
    assert run_module(image_lend, wish)["changed"] and os.listdir(layout.pins)
    again = run_module(image_lend, wish)
    assert (again["changed"], again["waiting"]) == (False, "")
    assert run_module(image_lend, {**wish, "state": "absent"})["changed"]
    assert not run_module(image_lend, {**wish, "state": "absent"})["changed"]
    assert not os.listdir(layout.pins) and f"{layout.unit(_lend.HOP)}.service" not in host.running
