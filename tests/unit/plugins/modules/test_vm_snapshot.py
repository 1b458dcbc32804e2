# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about vm_snapshot as a module: check mode, diff and results come from one plan."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.libvirt_fakes import Host, disk, domain, facts_answer, make_host, said

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import write_json
from ansible_collections.edgecloud.resilient_vm.plugins.modules import vm_snapshot

Run = Callable[..., dict[str, Any]]
OPEN = {"epoch": 1, "now": "2026-01-14T02:00:00Z", "scratch_floor_bytes": 0}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = make_host(tmp_path, monkeypatch)
    made.world.answers["virsh dumpxml"] = facts_answer(domain(disk()), checkpoints="resilient-vm-old")
    made.world.answers["virsh checkpoint-dumpxml"] = said("<domaincheckpoint/>")
    made.world.answers["virsh checkpoint-delete"] = said()
    monkeypatch.setattr(vm_snapshot, "run", made.world)
    monkeypatch.setattr(
        vm_snapshot, "Layout", lambda customer, vm, root: _layout.Layout(customer, vm, root, made.layout.runtime)
    )

    def start(_words: list[str]) -> Any:
        write_json(made.layout.snapshot, {"id": "20260114T020000Z"})
        return said()

    made.world.answers["systemd-run"] = start
    return made


def args(host: Host, **more: Any) -> dict[str, Any]:
    return {"root": host.layout.root, "customer": "acme", "vm": "erp", "domain": "erp", **more}


def test_check_mode_tells_what_opening_would_do_and_does_nothing(run_module: Run, host: Host) -> None:
    told = run_module(vm_snapshot, args(host, **OPEN), check_mode=True, diff=True)
    assert (told["changed"], told["snapshot"], told["estimate_bytes"]) == (True, {}, 524288)
    assert told["diff"]["before"]["open"] is None
    assert told["diff"]["after"]["open"] == "20260114T020000Z"
    assert not os.path.exists(host.layout.run)
    done = run_module(vm_snapshot, args(host, **OPEN), diff=True)
    assert (done["changed"], done["snapshot"], done["adopted"]) == (True, {"id": "20260114T020000Z"}, False)


def test_closing_twice_changes_once(run_module: Run, host: Host) -> None:
    close = args(host, state="absent", keep_checkpoint="")
    planned = run_module(vm_snapshot, close, check_mode=True)
    done = run_module(vm_snapshot, close)
    host.world.answers["virsh dumpxml"] = facts_answer(domain(disk()))
    again = run_module(vm_snapshot, close)
    assert planned["removed_checkpoints"] == done["removed_checkpoints"] == ["resilient-vm-old"]
    assert (planned["changed"], done["changed"], again["changed"]) == (True, True, False)


def test_what_is_refused_is_one_sentence_with_its_facts(run_module: Run, host: Host) -> None:
    host.world.answers["virsh dumpxml"] = facts_answer(domain("<hostdev type='pci'/>", disk()))
    told = run_module(vm_snapshot, args(host, **OPEN))
    assert told["failed"] is True
    assert told["refused"][0]["reason"] == "a device of the host passed through"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [({}, "epoch"), ({"epoch": 1, "customer": "Bad Name"}, "resilient_vm_customer"), ({"epoch": "x"}, "epoch")],
)
def test_bad_arguments_are_told(run_module: Run, host: Host, more: dict[str, Any], sentence: str) -> None:
    told = run_module(vm_snapshot, args(host, **more))
    assert told["failed"] is True
    assert sentence in told["msg"]
