# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about vm_standby and standby_info as modules: what one does, the other tells."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from unit.libvirt_fakes import UUID, Host, said
from unit.standby_fakes import CAPABILITIES, NEW, NEWEST, OLD, make_standby

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _standby
from ansible_collections.edgecloud.resilient_vm.plugins.modules import standby_info, vm_standby

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = make_standby(tmp_path, monkeypatch)
    for module in (vm_standby, standby_info):
        monkeypatch.setattr(module, "run", made.world)
    for name in ("plan_present", "plan_absent"):
        here = partial(getattr(_standby, name), installed=str(tmp_path / "version.json"))
        monkeypatch.setattr(_standby, name, here)
    return made


def args(host: Host, **more: Any) -> dict[str, Any]:
    return {"root": host.layout.root, "customer": "acme", "vm": "erp", "domain": "erp", **more}


def told(run_module: Run, host: Host, **more: Any) -> dict[str, Any]:
    answer = run_module(standby_info, {"root": host.layout.root, "vms": [{"customer": "acme", "vm": "erp"}]}, **more)
    assert answer["changed"] is False
    return answer["standbys"]["acme/erp"]


def test_check_mode_tells_what_will_be_done_and_does_nothing(run_module: Run, host: Host) -> None:
    wish = args(host, image_id=NEW, epoch=1)
    planned = run_module(vm_standby, wish, check_mode=True, diff=True)
    assert not os.path.lexists(host.layout.current) and not host.world.asked("virsh define")
    done = run_module(vm_standby, wish, diff=True)
    # What libvirt made of it can be looked at only once it is there.
    assert "unfit" not in planned
    assert done == {**planned, "unfit": []}
    assert [done[name] for name in ("changed", "current", "switched", "defined")] == [True, NEW, True, True]
    assert done["erased"] == [OLD]
    assert [done["diff"][side]["current"] for side in ("before", "after")] == [None, NEW]
    assert run_module(vm_standby, wish)["changed"] is False


def test_why_it_could_not_start_here_is_told_by_both(run_module: Run, host: Host) -> None:
    host.world.answers["virsh capabilities"] = said(CAPABILITIES.replace("7.2", "7.0"))
    os.mkdir(host.layout.running)
    done = run_module(vm_standby, args(host, image_id=NEW, epoch=1))
    assert [text.split(";")[0] for text in done["unfit"]] == [
        "QEMU here does not know machine type pc-q35-7.2",
        f"{host.layout.running} holds disks of an earlier time",
    ]
    assert told(run_module, host)["unfit"] == done["unfit"]
    # What runs here is no standby.
    host.world.answers["virsh domstate"] = said("running (booted)")
    assert told(run_module, host)["unfit"] == []


def test_taking_a_vm_away_twice_changes_once(run_module: Run, host: Host) -> None:
    run_module(vm_standby, args(host, image_id=NEW, epoch=1))
    planned, done, again = (
        run_module(vm_standby, args(host, state="absent"), check_mode=check) for check in (True, False, False)
    )
    assert (planned["changed"], done["changed"], again["changed"]) == (True, True, False)
    assert planned["erased"] == done["erased"] == [NEW]
    assert done["current"] is None and os.listdir(host.layout.generations) == []


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"image_id": NEW}, "epoch"),
        ({"image_id": NEWEST, "epoch": 1}, f"generation {NEWEST} of acme/erp is not on this host"),
        ({"image_id": "../x", "epoch": 1}, "is not an image id"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(run_module: Run, host: Host, more: dict[str, Any], sentence: str) -> None:
    answer = run_module(vm_standby, args(host, **more))
    assert answer["failed"] is True
    assert sentence in answer["msg"]


def test_what_is_held_is_told_before_and_after_alike_in_check_mode(run_module: Run, host: Host) -> None:
    bare = told(run_module, host)
    assert (bare["current"], bare["defined"], bare["problems"]) == (None, False, [])
    assert [generation["id"] for generation in bare["generations"]] == [OLD, NEW]
    run_module(vm_standby, args(host, image_id=NEW, epoch=1))
    now = told(run_module, host)
    assert (now["current"]["id"], now["defined"], now["uuid"], now["state"]) == (NEW, True, UUID, "shut off")
    assert told(run_module, host, check_mode=True) == now


def test_of_a_vm_named_twice_nothing_is_told(run_module: Run, host: Host) -> None:
    answer = run_module(standby_info, {"root": host.layout.root, "vms": [{"customer": "acme", "vm": "erp"}] * 2})
    assert (answer["failed"], answer["msg"]) == (True, "VM acme/erp is named twice; name it once")
