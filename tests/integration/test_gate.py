# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate on real hosts: what libvirt refuses, what opens it after a boot, and that its failing open is noticed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from integration.world import STORE, World

VM = "gated"
HOOK = "/etc/libvirt/hooks/qemu.d/50-resilient-vm"
CLOSED = "resilient-vm keeps the gate closed: "


class Gated(World):
    """The lab with one more VM, in an inventory of its own."""

    def __init__(self, world: World, extra: Path) -> None:
        super().__init__(world.state)
        self.extra = [extra]


@pytest.fixture(scope="module")
def gated(machines: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gated]:
    """A small VM that libvirt would start with its host, running before site laid the gate around it."""
    extra = machines.inventory_file(tmp_path_factory.mktemp("inventory") / f"{VM}.json", {VM: {}})
    gated = Gated(machines, extra)
    running = machines.on("a", "virsh list --name").split()
    machines.lab("guest", "create", "a", VM, "--kind", "tiny", "--start")
    machines.on("a", f"virsh autostart {VM}")
    site(gated)
    yield gated
    machines.lab("guest", "remove", VM, "--on", "a")
    machines.back_to_work(running)


def site(world: Gated, *more: Path) -> None:
    world.play("site", "--limit", f"{VM},lab_machines", inventory=[*world.extra, *more])


def state(world: World, host: str = "a") -> str:
    return world.on(host, f"virsh domstate {VM}")


def start(world: World, host: str = "a") -> str:
    """What virsh says; "" when it starts."""
    return world.on(host, f"virsh start {VM} 2>&1 >/dev/null || true")


def qemu(world: World) -> str:
    return world.on("a", f"cat /run/libvirt/qemu/{VM}.pid")


@contextmanager
def defined_on_b(world: Gated) -> Iterator[None]:
    xml = world.on("a", f"virsh dumpxml {VM} --inactive")
    world.lab("exec", "b", "sh", "-c", "cat > /root/gated.xml", stdin=xml)
    world.on("b", "virsh define /root/gated.xml")
    yield
    world.on("b", f"virsh autostart --disable {VM}; virsh undefine {VM}; rm /root/gated.xml")


def boots_again(world: World) -> None:
    world.lab("powercut", "a")
    world.lab("up", "a")


def test_autostart_is_taken_from_libvirt_and_site_changes_nothing_twice(gated: Gated) -> None:
    assert "disable" in gated.on("a", f"virsh dominfo {VM} | grep Autostart")
    assert gated.play("site", "--limit", f"{VM},lab_machines", inventory=gated.extra).changed == 0


def test_a_restart_of_libvirt_leaves_running_guests_alone(gated: Gated) -> None:
    before = qemu(gated)
    gated.on("a", "systemctl restart libvirtd")
    assert state(gated) == "running"
    assert qemu(gated) == before


def test_its_owner_stops_and_starts_it_on_the_active_host(gated: Gated) -> None:
    gated.on("a", f"virsh destroy {VM}")
    assert start(gated) == ""
    gated.on("a", f"virsh managedsave {VM}")
    assert start(gated) == ""
    assert state(gated) == "running"


def test_the_standby_refuses_every_start_of_it(gated: Gated) -> None:
    with defined_on_b(gated):
        assert f"{CLOSED}the active host of acme/{VM} is a since epoch 1, not b" in start(gated, "b")
        gated.on("b", f"virsh autostart {VM}; systemctl stop libvirtd; rm -f /run/libvirt/qemu/autostarted")
        gated.on("b", "systemctl start libvirtd; virsh list")
        assert state(gated, "b") == "shut off"
        assert CLOSED in gated.on("b", "journalctl -b -u libvirtd -o cat | tail -n 5")


def test_after_a_power_cut_it_is_confirmed_and_started_by_itself(gated: Gated) -> None:
    boots_again(gated)
    gated.wait_until(lambda: state(gated) == "running", 60, f"{VM} runs after the boot of a")
    assert "confirmed by c" in gated.on("a", "journalctl -b -u resilient-vm-gate -o cat")


@pytest.mark.soak
def test_with_the_storage_away_the_other_host_confirms(gated: Gated) -> None:
    gated.lab("cut", "c")
    try:
        boots_again(gated)
        gated.wait_until(lambda: state(gated) == "running", 90, f"{VM} runs after the boot of a")
        assert "confirmed by b" in gated.on("a", "journalctl -b -u resilient-vm-gate -o cat")
    finally:
        gated.lab("heal", "c")


def test_while_nobody_answers_it_stays_down_and_comes_up_when_somebody_does(gated: Gated) -> None:
    gated.lab("cut", "b")
    gated.lab("cut", "c")
    try:
        boots_again(gated)
        assert f"{CLOSED}no other machine has confirmed since the boot of a" in start(gated)
        assert state(gated) == "shut off"
    finally:
        gated.lab("heal", "b")
        gated.lab("heal", "c")
    gated.wait_until(lambda: state(gated) == "running", 90, f"{VM} runs once c answers")


@pytest.mark.soak
def test_where_it_is_wished_it_stops_when_it_hears_of_nobody_and_starts_again(gated: Gated, tmp_path: Path) -> None:
    site(gated, gated.inventory_file(tmp_path / "self-stop.json", {VM: {"resilient_vm_self_stop_seconds": 5}}))
    look = "systemctl start resilient-vm-superseded || true"
    gated.on("a", look)
    assert state(gated) == "running"
    gated.lab("cut", "b")
    gated.lab("cut", "c")
    try:
        for _look in range(2):
            # The count begins at the first one that nobody answers, be it the timer's.
            gated.on("a", look)
            time.sleep(5)
        gated.on("a", look)
        assert state(gated) == "shut off"
        assert "nobody answered for 5 s" in gated.on("a", "journalctl -b -u resilient-vm-superseded -o cat")
        assert f"{CLOSED}no other machine has confirmed" in start(gated)
    finally:
        gated.lab("heal", "b")
        gated.lab("heal", "c")
    gated.wait_until(lambda: state(gated) == "running", 90, f"{VM} runs once c answers")


def test_a_takeover_by_hand_stops_it_here_and_opens_it_there(gated: Gated) -> None:
    who = {"customer": "acme", "vm": VM, "who": "a test"}

    def step(transition: str, epoch: int) -> dict[str, Any]:
        asked = {**who, "transition": transition, "epoch": epoch, "why": "a test"}
        decided: dict[str, Any] = gated.play_module("c", "vm_state", asked)["state"]
        return decided

    moved = step("fail_over", 1)
    stopped = f"acme/{VM} was stopped on a: c says b is active since epoch 2"
    gated.wait_until(
        lambda: stopped in gated.on("a", "journalctl -b -u resilient-vm-superseded -o cat"), 90, f"a has stopped {VM}"
    )
    assert state(gated) == "shut off"
    assert CLOSED in start(gated)
    with defined_on_b(gated):
        assert CLOSED in start(gated, "b")
        gated.play_module("b", "vm_state", {**who, "document": moved})
        assert CLOSED in start(gated, "b")
        gated.on("b", "resilient-vm gate")
        # Past the gate; its disks were never brought here.
        assert "Cannot access storage file" in start(gated, "b")
        step("finish_failover", 2)
        back = step("undo_failover", 2)
        for host in ("a", "b"):
            gated.play_module(host, "vm_state", {**who, "document": back})
        assert CLOSED in start(gated, "b")
    gated.on("a", "resilient-vm gate")
    assert start(gated) == ""
    journal = [json.loads(line) for line in gated.on("c", f"cat {STORE}/{VM}/journal.jsonl").splitlines()]
    assert [(entry["what"], entry["epoch"], entry["active"]) for entry in journal] == [
        ("protect", 1, "a"),
        ("fail_over", 2, "b"),
        ("finish_failover", 2, "b"),
        ("undo_failover", 3, "a"),
    ]


@pytest.mark.parametrize("fault", ["no run bit", pytest.param("no hook", marks=pytest.mark.soak)])
def test_a_gate_that_fails_open_turns_the_night_red_and_site_mends_it(gated: Gated, fault: str) -> None:
    gated.on("a", f"chmod 644 {HOOK}" if fault == "no run bit" else f"rm {HOOK}")
    played = gated.play("daily", "--limit", VM, inventory=gated.extra, expect=1, force=True)
    [sentence] = played.refusals(VM)
    assert sentence.startswith("on a: libvirt on this host starts machines that the gate refuses to start")
    assert gated.images(VM), "the image of a red night is there all the same"
    site(gated)
    assert gated.play("daily", "--limit", VM, inventory=gated.extra).code == 0


def test_unprotect_gives_it_back_to_libvirt(gated: Gated) -> None:
    gated.play("unprotect", "--limit", VM, inventory=gated.extra, erase_images=True)
    assert "enable" in gated.on("a", f"virsh dominfo {VM} | grep Autostart")
    gated.on("a", f"virsh destroy {VM}")
    assert start(gated) == ""
