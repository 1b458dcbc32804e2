# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who sees whom: the truth table of docs/takeover.md where real ways between real machines are cut, A being up.

Its rows in which the guest or A answers are test_takeover's, those of a fence agent test_fence's, those of a backup
storage without power test_no_storage's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from integration.world import STORE, World
from lab.rvmlab.config import CONTROL, MACHINES

pytestmark = pytest.mark.soak

VM = "harbour"
ALONE = {"without_backup_storage": True}
# Where a packet to a machine that is cut off goes: to a card that nobody has, without a word to its sender.
NOBODY = "02:00:00:00:00:99"
ADDRESS = {"control": CONTROL.address, **{name: machine.address for name, machine in MACHINES.items()}}
# Ways that are cut ("a" is its cable), what b can't see its gateway by, what else is said -> what a takeover says.
CASES: dict[str, tuple[Sequence[str], dict[str, Any], str]] = {
    "only from here": (["a-control"], {}, "b and c still reach a: only the way to it from here is cut"),
    "c sees it": (["a-control", "a-b"], {}, "c still reach a: only the way to it from here is cut"),
    "b sees it": (["a-control", "a-c"], {}, "b still reach a: only the way to it from here is cut"),
    "nobody sees it": (["a"], {}, "nobody sees a, but only somebody who knows can say that it is off"),
    "b may be cut off": (["a", "b-c"], {}, "b can't reach c: it may be b that is cut off"),
    "no way to b": (["a", "b-control"], {}, f"standby host b can't be reached, and nothing else can run {VM}"),
    "no way to c": (["a", "c-control"], {}, "backup storage c can't be reached, and it has to decide; bring it back"),
    "b sees c": (["a", "c-control"], ALONE, "b still reaches c, which decides: only the way to it from here is cut"),
    "c is cut off": (
        ["a", "c-control", "b-c"],
        ALONE,
        "nobody sees a, but only somebody who knows can say that it is off",
    ),
    "b sees nothing": (
        ["a", "c-control", "b-c", "gateway"],
        ALONE,
        "b can't reach c, nor its gateway or another witness: it may be b that is cut off",
    ),
}


def switch(world: World, way: str, on: bool) -> None:
    """Cut a way, or mend it. Of one between two, the first one's packets are lost: neither hears the other."""
    first, _line, other = way.partition("-")
    if way == "gateway":
        world.on("b", f"ip route {'replace' if on else 'delete'} default via {ADDRESS['control']}")
    elif not other:
        world.lab("heal" if on else "cut", first)
    else:
        device = "vmbr0" if MACHINES[first].libvirt else "eth0"
        to = f"{ADDRESS[other]} dev {device}"
        world.on(
            first, f"ip neigh {'delete' if on else 'replace'} {to}" + ("" if on else f" lladdr {NOBODY} nud permanent")
        )


@contextmanager
def cut(world: World, ways: Sequence[str]) -> Iterator[None]:
    try:
        for way in ways:
            switch(world, way, on=False)
        yield
    finally:
        for way in reversed(ways):
            switch(world, way, on=True)


@dataclass
class Harbour:
    """One VM with an image of last night, whose guest wrote on since."""

    world: World
    inventory: Path

    def said(self, name: str, expect: int = 0, **variables: Any) -> str:
        played = self.world.play(name, "--limit", VM, inventory=[self.inventory], expect=expect, **variables)
        return " ".join(played.output.split())

    def state(self, host: str) -> tuple[str, str, int]:
        found: dict[str, Any] = json.loads(self.world.on(host, f"cat {STORE}/{VM}/state.json"))
        return found["active"], found["phase"], found["epoch"]

    def runs_on(self) -> list[str]:
        return [host for host in ("a", "b") if VM in self.world.on(host, "virsh list --name").split()]

    def untouched(self) -> None:
        assert [self.state(host) for host in ("a", "b", "c")] == [("a", "protected", 1)] * 3
        assert self.runs_on() == ["a"]
        assert not self.world.on("b", f"ls {STORE}/{VM} | grep -e running -e intent || true")


@pytest.fixture(scope="module")
def harbour(machines: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    extra = machines.inventory_file(tmp_path_factory.mktemp("inventory") / f"{VM}.json", {VM: {}})
    machines.lab("guest", "create", "a", VM, "--kind", "raw", "--rate", "0", "--start")
    machines.protect(extra, VM)
    machines.in_guest(VM, "echo before > /disk/vda/key; sync")
    machines.play("daily", "--limit", VM, inventory=[extra])
    machines.in_guest(VM, "echo after > /disk/vda/key; sync")
    yield Harbour(machines, extra)
    machines.lab("heal", "a")
    for host in ("a", "b"):
        machines.on(host, f"virsh destroy {VM}", check=False)


@pytest.mark.parametrize("case", CASES)
def test_a_row_of_the_table(harbour: Harbour, case: str) -> None:
    ways, variables, expected = CASES[case]
    with cut(harbour.world, ways):
        assert expected in harbour.said("failover", expect=1, **variables)
    harbour.untouched()


# Lays, or takes away, what the gate knows of more VMs that live on this host, and that were confirmed.
CROWD = """
import json, os, sys
for number in range(20):
    uuid = f"22222222-2222-4222-8222-{number:012}"
    for path in f"/etc/resilient-vm/gate/{uuid}.json", f"/run/resilient-vm/.gate/{uuid}.json":
        if sys.argv[1] == "away":
            # A confirmation is gone once the host has heard of the takeover.
            if os.path.exists(path):
                os.unlink(path)
            continue
        with open(path.replace(uuid, sys.argv[2])) as stream:
            document = json.load(stream)
        if "uuid" in document:
            document["uuid"] = uuid
        with open(path, "w") as stream:
            json.dump(document, stream)
"""


@contextmanager
def crowded(world: World, vm: str) -> Iterator[None]:
    """Host a has twenty VMs more to ask about: their entries are this one's, but for the domain."""
    uuid = world.on("a", f"virsh domuuid {vm}")
    try:
        world.lab("exec", "a", "python3", "-", "lay", uuid, stdin=CROWD)
        yield
    finally:
        world.lab("exec", "a", "python3", "-", "away", uuid, stdin=CROWD)


def test_an_operator_is_wrong_and_the_cut_heals(harbour: Harbour) -> None:
    """A was only cut off and its guest ran on: it stops as A hears of the takeover, and its disk is kept."""
    world = harbour.world
    with crowded(world, VM):
        with cut(world, ["a"]):
            word = re.search(rf"resilient_vm_confirm=({VM}@a#1-[0-9a-f]{{8}})", harbour.said("failover", expect=1))
            assert word
            assert f"{VM} runs on b (epoch 2), taken over from a" in harbour.said("failover", confirm=word.group(1))
            assert world.in_guest(VM, "cat /disk/vda/key", on="b") == "before"
            # That is what a wrong word costs, and why a fence agent is better.
            assert harbour.runs_on() == ["a", "b"]
            world.in_guest(VM, "echo late > /disk/vda/late; sync")
        world.wait_until(lambda: harbour.runs_on() == ["b"], 45, f"a has stopped {VM}")
    stopped = f"acme/{VM} was stopped on a: c says b is active since epoch 2; what it wrote"
    assert stopped in world.on("a", "journalctl -b -u resilient-vm-superseded -o cat")
    assert "resilient-vm keeps the gate closed" in world.on("a", f"virsh start {VM} 2>&1 >/dev/null || true")
    said = harbour.said("status", expect=1)
    # A has not heard it from a playbook yet.
    assert f"ALARM: a holds {VM} as it was at epoch 1, and does not stand by; run the reprotect playbook" in said
    assert f"Z: {stopped}" in said
    disk = world.on("a", f"virsh domblklist {VM} | awk '$1 == \"vda\" {{print $2}}'")
    for name, text in (("key", "after"), ("late", "late")):
        assert world.on("a", f"debugfs -R 'cat /{name}' {disk} 2>/dev/null") == text


def test_what_it_had_written_is_kept_when_it_stands_by_again(harbour: Harbour) -> None:
    world = harbour.world
    harbour.said("reprotect")
    assert [harbour.state(host) for host in ("a", "b", "c")] == [("b", "protected", 2)] * 3
    kept = world.on("a", f"ls /var/lib/libvirt/images/{VM}-*.before-e2")
    assert world.on("a", f"debugfs -R 'cat /late' {kept} 2>/dev/null") == "late"
    assert world.in_guest(VM, "cat /disk/vda/key", on="b") == "before"
    harbour.said("status")
