# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about gate as a module: laid once, proven each time, opened for the VMs that live here."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from unit.plugins.module_utils.test_gate import OWN, World
from unit.plugins.module_utils.test_gate_proof import Libvirt

from ansible_collections.edgecloud.resilient_vm.plugins.modules import gate

Run = Callable[..., dict[str, Any]]
VMS = [{"customer": "acme", "vm": "erp", "domain": "erp"}, {"customer": "acme", "vm": "crm"}]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world, libvirt = World(tmp_path), Libvirt(tmp_path)
    for vm in ("erp", "crm"):
        folder = tmp_path / "acme" / vm
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(json.dumps({**OWN.as_dict(), "vm": vm}))
    world.register(state=str(tmp_path / "acme/erp/state.json"))
    world.boots("one")
    monkeypatch.setattr(gate, "Gate", lambda *_given: world.gate)
    monkeypatch.setattr(gate, "GateProof", lambda *_given: libvirt.proof)
    monkeypatch.setattr(gate, "Tree", partial(gate.Tree, identity=lambda _name: (os.getuid(), os.getgid())))
    return world


def test_check_do_do(run_module: Run, host: World, tmp_path: Path) -> None:
    wish = {"root": str(tmp_path), "install": "a", "vms": VMS}
    checked = run_module(gate, wish, check_mode=True)
    assert not (tmp_path / "hooks").exists() and not (tmp_path / "confirmed").exists()
    done, again = run_module(gate, wish), run_module(gate, wish)
    assert [answer["changed"] for answer in (checked, done, again)] == [True, True, False]
    assert done["open"] == {"acme/erp": "confirmed by c and b"}
    assert done["problems"] == {}
    assert done["unregistered"] == ["acme/crm"]
    # What was off when the gate was laid is left off.
    assert host.gate.waiting(first=True) == []


def test_a_vm_that_could_not_be_started_is_named(run_module: Run, host: World, tmp_path: Path) -> None:
    host.answers.clear()
    run_module(gate, {"root": str(tmp_path), "install": "a"})
    answer = run_module(gate, {"root": str(tmp_path), "vms": VMS[:1]})
    assert answer["open"] == {} and answer["changed"] is False
    assert "nobody could confirm" in answer["problems"]["acme/erp"]


def test_a_host_that_nobody_would_confirm_after_a_boot_says_so_before(
    run_module: Run, host: World, tmp_path: Path
) -> None:
    """Its way to the other host was closed since it booted."""
    wish = {"root": str(tmp_path), "vms": VMS[:1]}
    assert run_module(gate, {**wish, "install": "a"})["after_a_boot"] == {}
    assert run_module(gate, wish)["after_a_boot"] == {}
    del host.answers["192.0.2.12"]
    answer = run_module(gate, wish)
    assert answer["open"] and answer["problems"] == {}
    assert "b has to say that it has not taken acme/erp over" in answer["after_a_boot"]["acme/erp"]


def test_a_gate_that_is_not_there_fails(run_module: Run, host: World, tmp_path: Path) -> None:
    del host
    answer = run_module(gate, {"root": str(tmp_path), "vms": VMS})
    assert answer["failed"] and "starts machines that the gate refuses to start" in answer["msg"]
