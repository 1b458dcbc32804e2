# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about vm_protection and the gate: who is registered, who may ask, who starts a VM with its host."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from unit.plugins.modules.test_vm_protection import KEY, OTHER_KEY, UUID, World

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed, run


@pytest.fixture
def storage(tmp_path: Path) -> World:
    return World(tmp_path / "storage", "backup_storage", keys={"a": KEY, "b": OTHER_KEY})


@pytest.fixture
def hypervisor(tmp_path: Path) -> World:
    return World(tmp_path / "hypervisor", "hypervisor", keys={"c": KEY})


class Libvirt:
    """One domain, which starts with the host or not."""

    def __init__(self, autostart: bool) -> None:
        self.autostart = autostart

    def __call__(self, argv: list[str], **options: Any) -> Completed:
        if argv[:1] != ["virsh"]:
            return run(argv, **options)
        if "--autostart" in argv:
            return Completed(0, f"{UUID}\n" if self.autostart else "", "")
        if argv[3] == "autostart":
            self.autostart = "--disable" not in argv
        return Completed(0, f"{UUID} erp\n\n", "")


def registered(world: World) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads(world.read(f"etc/gate/{UUID}.json"))
    return entry


def test_a_host_knows_by_uuid_what_it_protects_and_whom_to_ask(hypervisor: World) -> None:
    hypervisor.do()
    entry = registered(hypervisor)
    assert (entry["customer"], entry["vm"], entry["host"], entry["account"]) == ("acme", "erp", "b", "rvm-acme")
    assert entry["state"] == str(hypervisor.root / "acme/erp/state.json")
    assert [(place["name"], place["address"]) for place in entry["ask"]] == [("c", "192.0.2.13"), ("a", "192.0.2.11")]


def test_a_storage_has_no_gate_and_a_vm_without_uuid_no_entry(storage: World, hypervisor: World) -> None:
    storage.do()
    assert not (storage.place / "etc").exists()
    hypervisor.names = ("crm",)
    hypervisor.do()
    assert not (hypervisor.place / "etc/gate").exists()


def test_the_active_host_takes_autostart_from_libvirt_and_gives_it_back(hypervisor: World) -> None:
    hypervisor.production, libvirt = "b", Libvirt(autostart=True)
    hypervisor.runner, hypervisor.standby = libvirt, "a"
    hypervisor.autostart = hypervisor.do(dry=True)["autostarts"]["acme/erp"]
    assert hypervisor.autostart is True and libvirt.autostart
    assert hypervisor.do()["changed"] is True
    assert not libvirt.autostart and registered(hypervisor)["autostart"] is True
    # libvirt has forgotten it by now; the gate has not.
    again = hypervisor.do()
    assert again["autostarts"] == {"acme/erp": True} and not again["changed"]
    hypervisor.do(state="absent")
    assert libvirt.autostart and not (hypervisor.place / f"etc/gate/{UUID}.json").exists()


def test_a_standby_leaves_autostart_alone(hypervisor: World) -> None:
    libvirt = Libvirt(autostart=True)
    hypervisor.runner, hypervisor.autostart = libvirt, True
    hypervisor.do()
    assert libvirt.autostart
    hypervisor.do(state="absent")
    assert libvirt.autostart


def test_the_hosts_may_ask_each_other_and_only_the_storage_gets_data(hypervisor: World) -> None:
    hypervisor.keys = {"c": KEY, "a": OTHER_KEY}
    hypervisor.do()
    lines = hypervisor.read("root/acme/.ssh/authorized_keys").splitlines()[1:]
    verbs = {line.rpartition("@")[2]: line.partition("forced acme/erp ")[2].partition('"')[0] for line in lines}
    assert verbs == {"c": "send,receive,restore,mend,lend", "a": "epoch a"}
    assert "a,192.0.2.11 " in hypervisor.read("etc/known_hosts")


@pytest.mark.parametrize("part", ["hypervisor", "backup_storage"])
def test_what_a_takeover_alone_needs_is_roots_on_every_machine(tmp_path: Path, part: str) -> None:
    world = World(tmp_path, part, keys={"c" if part == "hypervisor" else "a": KEY})
    world.plan = {"schema": 1, "addresses": {"c": "192.0.2.13"}}
    world.do()
    path = world.root / "acme/erp/plan.json"
    assert json.loads(path.read_text()) == world.plan
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    world.plan = None
    assert not world.do()["changed"], "who does not know it leaves it alone"
    world.do(state="absent")
    assert not path.exists()


def test_steps_of_an_earlier_life_are_not_taken_for_those_of_the_next(hypervisor: World) -> None:
    """Its epochs begin at 1 again: a takeover's steps would count as done."""
    hypervisor.do()
    record = hypervisor.root / "acme/erp/steps.json"
    record.write_text('{"epoch": 2, "move": "failover", "steps": [{"name": "dns", "done": true}]}')
    hypervisor.do(state="absent")
    hypervisor.do()
    assert not record.exists()
