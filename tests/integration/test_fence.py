# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Would a takeover work, is told while A is up; then A is cut off with its VM running, and is powered off for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from integration.world import STORE, Played, World

# Each case goes on where the one before ended.
STORY = True
# One that is taken over, and one that changes so that it could not be.
VM, CHANGED = "vineyard", "orchard"
BRIDGE = "br-orchard"
NIGHT = "2026-01-14T02:00:00Z"
MORNING = "2026-01-14T11:30:00Z"
NEXT_NIGHT = "2026-01-15T02:00:00Z"
AGENT = "/usr/local/sbin/fence_lab"
# No agent in a machine of the lab reaches what powers these off: it leaves the order, and the test sees to it.
SCRIPT = """#!/bin/sh
cd /run/fence || exit 1
told=$(cat)
echo "$told" | grep -q ^password=grapes || { echo 'wrong password grapes' >&2; exit 1; }
action=$(echo "$told" | sed -n s/^action=//p)
echo "$action" >> asked
[ -e hangs ] && sleep 600
[ "$action" = off ] && touch ordered
[ -e dark ] && exit 2
exit 0
"""


@dataclass
class Power:
    """Between the agent on c and the lab: powers a off when it was ordered, until it is told to stop."""

    world: World
    over: threading.Event = field(default_factory=threading.Event)
    crashed: bool = False

    def watch(self) -> None:
        while not self.over.wait(0.3):
            if self.world.on("c", "ls /run/fence/ordered 2>/dev/null || true") and not self.crashed:
                self.world.lab("crash", "a")
                self.crashed = True
                self.world.on("c", "touch /run/fence/dark")


@dataclass
class Vineyard:
    world: World
    inventory: Path

    def failover(self, *options: str, expect: int = 0, **variables: Any) -> Played:
        variables.setdefault("now", MORNING)
        return self.world.play(
            "failover", "--limit", VM, *options, inventory=[self.inventory], expect=expect, **variables
        )

    def preflight(self, vm: str, *options: str, expect: int = 0, **variables: Any) -> str:
        variables.setdefault("now", MORNING)
        played = self.world.play(
            "preflight", "--limit", vm, *options, inventory=[self.inventory], expect=expect, **variables
        )
        assert played.changed == 0
        return " ".join(played.output.split())

    def refused(self, **variables: Any) -> str:
        return " ".join(self.failover(expect=1, **variables).output.split())

    def asked(self) -> list[str]:
        """What the agent on c was asked since the last time this was called."""
        return self.world.on("c", "cat /run/fence/asked 2>/dev/null; rm -f /run/fence/asked").split()


@pytest.fixture(scope="module")
def vineyard(machines: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vineyard]:
    fencing = {
        "resilient_vm_fence_agent": AGENT,
        "resilient_vm_fence_options": {"plug": "a"},
        "resilient_vm_fence_secrets": {"password": "grapes"},
        "resilient_vm_fence_seconds": 8,
    }
    folder = tmp_path_factory.mktemp("inventory")
    extra = machines.inventory_file(folder / f"{VM}.json", {VM: {}, CHANGED: {}}, {"a": fencing})
    running = machines.on("a", "virsh list --name").split()
    for vm in (VM, CHANGED):
        machines.lab("guest", "create", "a", vm, "--kind", "tiny", "--start")
    machines.protect(extra, VM, CHANGED)
    machines.play("daily", "--limit", f"{VM},{CHANGED}", inventory=[extra], now=NIGHT)
    machines.on("c", "mkdir -p /run/fence")
    machines.lab("exec", "c", "sh", "-c", f"cat > {AGENT}; chmod 755 {AGENT}", stdin=SCRIPT)
    yield Vineyard(machines, extra)
    machines.lab("heal", "a")
    machines.lab("up", "a")
    machines.on("c", f"rm -rf /run/fence {AGENT}")
    machines.on("b", f"ip link delete {BRIDGE}", check=False)
    for host in ("a", "b"):
        for vm in (VM, CHANGED):
            machines.on(host, f"virsh destroy {vm}", check=False)
    # Other tests start whatever is off on a: one lives on b now, and the other has lost its bridge.
    for vm in (VM, CHANGED):
        machines.lab("guest", "remove", vm, "--on", "a")
    machines.back_to_work(running)


def test_preflight_says_whether_it_would_work_and_asks_all_that_a_takeover_would(vineyard: Vineyard) -> None:
    said = vineyard.preflight(f"{VM},{CHANGED}")
    for vm in (VM, CHANGED):
        assert f"{vm}: a takeover by b would work now" in said
    assert "recovery point: 20260114T020000Z, 9 h 30 min old" in said
    assert f"power of a: c: {AGENT} says that it is on; b: fence agent {AGENT} is not on this machine" in said
    assert set(vineyard.asked()) == {"status"}
    late = vineyard.preflight(VM, "-vv", expect=1, now="2026-01-17T02:00:00Z", fence_secrets={"password": "raisins"})
    assert "vineyard: a takeover by b would NOT work now" in late
    assert "is 3 d 0 h old, and what was written since would be lost" in late
    assert f"NOT: a could not be powered off (c: {AGENT} ended with exit code 1 (wrong password" in late
    assert "raisins" not in late
    assert vineyard.asked() == []


def test_what_b_could_not_start_any_more_is_told_the_same_night(vineyard: Vineyard) -> None:
    """The image is taken all the same: it can still be restored elsewhere."""
    world = vineyard.world
    world.on("a", f"virsh attach-interface {CHANGED} bridge {BRIDGE} --model virtio --config")
    lacks = f"on b: bridge {BRIDGE}, to which the VM is attached, is not there; make it"

    def play(name: str, expect: int, now: str) -> str:
        played = world.play(name, "--limit", CHANGED, inventory=[vineyard.inventory], expect=expect, now=now)
        return " ".join(played.output.split())

    assert f"a takeover would not work: {lacks}" in play("daily", 1, NEXT_NIGHT)
    assert world.images(CHANGED)[-1] == "20260115T020000Z" == world.current(CHANGED)
    assert f"ALARM: {CHANGED} could not be taken over: {lacks}" in play("status", 1, NEXT_NIGHT)
    world.on("b", f"ip link add {BRIDGE} type bridge")
    play("status", 0, NEXT_NIGHT)


def test_nobody_is_powered_off_while_it_is_only_asked_what_would_be_done(vineyard: Vineyard) -> None:
    vineyard.asked()
    vineyard.world.lab("cut", "a")
    assert "nobody sees a; it is powered off to be sure" in vineyard.failover("--check").output
    assert vineyard.asked() == []


@pytest.mark.soak
def test_an_agent_that_hangs_proves_nothing_and_the_operator_is_asked(vineyard: Vineyard) -> None:
    """b was asked after c, and has no such program."""
    vineyard.world.on("c", "touch /run/fence/hangs")
    said = vineyard.refused()
    vineyard.world.on("c", "rm /run/fence/hangs; ! pgrep -x fence_lab")
    assert "its fence agent can't say that it is off (c: /usr/local/sbin/fence_lab did not tell its status" in said
    assert f"b: fence agent {AGENT} is not on this machine" in said
    assert f"--limit {VM} -e resilient_vm_confirm={VM}@a#1-" in said
    assert vineyard.asked() == ["status"]
    assert vineyard.world.on("a", f"virsh domstate {VM}") == "running"


@pytest.mark.soak
def test_an_agent_that_says_yes_and_powers_nothing_off_is_not_believed(vineyard: Vineyard) -> None:
    """Nobody but the agent sees a, where the VM runs on."""
    said = vineyard.refused()
    assert f"(c: {AGENT} says after" in said and "s that it is still on" in said
    asked = vineyard.asked()
    assert asked[:2] == ["status", "off"] and set(asked[2:]) == {"status"}
    assert vineyard.world.on("a", f"virsh domstate {VM}") == "running"
    assert vineyard.world.on("b", f"virsh domstate {VM}") == "shut off"
    state = json.loads(vineyard.world.on("c", f"cat {STORE}/{VM}/state.json"))
    assert (state["epoch"], state["active"], state["phase"]) == (1, "a", "protected")
    vineyard.world.on("c", "rm -f /run/fence/ordered")


def test_it_is_powered_off_and_taken_over_without_a_word(vineyard: Vineyard) -> None:
    world = vineyard.world
    vineyard.asked()
    power = Power(world)
    watch = threading.Thread(target=power.watch)
    watch.start()
    try:
        done = vineyard.failover("-vv")
    finally:
        power.over.set()
        watch.join()
    assert power.crashed, done.output
    said = " ".join(done.output.split())
    assert "vineyard runs on b (epoch 2), taken over from a" in said
    assert f"evidence: nobody sees a, and it is off (c: {AGENT} powered it off in" in said
    assert "grapes" not in done.output
    assert vineyard.asked()[:2] == ["status", "off"]
    assert world.on("b", f"virsh domstate {VM}") == "running"
    lines = world.on("c", f"cat {STORE}/{VM}/journal.jsonl").splitlines()
    taken = next(entry for entry in map(json.loads, lines) if entry["what"] == "fail_over")
    assert (taken["evidence"]["power"], taken["evidence"]["confirmed"]) == ("off", False)
    assert "powered it off in" in taken["evidence"]["fenced"]


def test_up_again_a_leaves_the_vm_alone(vineyard: Vineyard) -> None:
    vineyard.world.lab("heal", "a")
    vineyard.world.lab("up", "a")
    on = vineyard.world.on
    moved = "the VM moved while this host was away"
    vineyard.world.wait_until(lambda: moved in on("a", "journalctl -b -u resilient-vm-gate -o cat"), 60, "a has asked")
    assert on("a", f"virsh domstate {VM}") == "shut off"
    assert on("b", f"virsh domstate {VM}") == "running"
