# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A is down and there is no control node: one command on B takes the VM over, by C's decision and nobody else's."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from integration.world import ROOT, STORE, Played, World

# Each case goes on where the one before ended.
STORY = True
VM = "tally"
KILLED = "slip"
NAME = f"acme/{VM}"
# What the refusal says is to be typed.
_COMMAND = re.compile(r"^ +(resilient-vm takeover \S+ --confirm \S+)$", re.M)


@dataclass
class Island:
    """B and C, by themselves: nothing but a shell on B is used until A is back."""

    world: World
    inventory: Path

    def type(self, command: str, expect: int = 0, on: str = "b") -> str:
        """Type a command as root; all it printed."""
        words = [str(ROOT / "tests/lab/lab"), "exec", on, "sh", "-c", command]
        done = subprocess.run(
            words,
            check=False,
            env=self.world.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    def ssh(self, verb: str, line: str, expect: int = 0, on: str = "b") -> str:
        """What C answers to somebody who has a host's key."""
        plan = json.loads(self.world.on(on, f"cat {STORE}/{VM}/plan.json"))
        options = f"-i /etc/resilient-vm/keys/acme.{VM} -o UserKnownHostsFile=/etc/resilient-vm/known_hosts"
        place = f"rvm-acme@{plan['addresses']['c']['address']}"
        return self.type(f"echo {shlex.quote(line)} | ssh {options} {place} {shlex.quote(verb)}", expect, on)

    def claim(self, on: str = "b", **question: Any) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ssh("claim", json.dumps({"protocol": 1, **question}), on=on))
        return found

    def asked(self, vm: str = VM) -> str:
        """The command that the refusal names."""
        said = self.type(f"resilient-vm takeover acme/{vm}", expect=1)
        assert "nobody sees a, but only somebody who knows can say that it is off" in said
        found = _COMMAND.search(said)
        assert found, said
        return found.group(1)

    def state(self, host: str, vm: str = VM) -> tuple[str, str, int]:
        found: dict[str, Any] = json.loads(self.world.on(host, f"cat {STORE}/{vm}/state.json"))
        return found["active"], found["phase"], found["epoch"]

    def journal(self, host: str, vm: str = VM) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.world.on(host, f"cat {STORE}/{vm}/journal.jsonl").splitlines()]

    def play(self, name: str, vm: str, expect: int = 0, **variables: Any) -> Played:
        return self.world.play(name, "--limit", vm, inventory=[self.inventory], expect=expect, **variables)

    def untouched(self, vm: str = VM) -> None:
        assert [self.state(host, vm) for host in ("b", "c")] == [("a", "protected", 1)] * 2
        assert [entry["what"] for entry in self.journal("c", vm)] == ["protect"]
        assert not self.world.on("b", f"ls {STORE}/{vm} | grep -e running -e intent || true")


@pytest.fixture(scope="module")
def island(machines: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Island]:
    extra = machines.inventory_file(tmp_path_factory.mktemp("inventory") / "island.json", {VM: {}, KILLED: {}})
    island = Island(machines, extra)
    running = machines.on("a", "virsh list --name").split()
    machines.lab("guest", "create", "a", VM, "--kind", "two-disk", "--rate", "0", "--start")
    machines.lab("guest", "create", "a", KILLED, "--kind", "tiny", "--start")
    machines.protect(extra, VM, KILLED)
    machines.in_guest(VM, "echo before > /disk/vda/key; sync")
    machines.play("daily", "--limit", f"{VM},{KILLED}", inventory=[extra])
    machines.in_guest(VM, "echo after > /disk/vda/late; sync")
    yield island
    machines.lab("up", "a")
    for vm in (VM, KILLED):
        machines.on("a", f"virsh destroy {vm}", check=False)
        machines.on("b", f"virsh destroy {vm}", check=False)
    machines.back_to_work(running)


def test_while_a_is_up_it_is_refused(island: Island) -> None:
    said = island.type(f"resilient-vm takeover {NAME}", expect=1)
    assert f"{VM} is not taken over: a can be reached" in said
    assert f"{VM} runs on a already" in island.type(f"resilient-vm takeover {NAME}", on="a")
    island.untouched()


def test_c_goes_by_its_own_rules_whoever_has_the_key(island: Island) -> None:
    """By B's key, but without any program of ours on B."""
    assert island.claim(ask="look")["seen"]["a"]
    nonce = island.claim(ask="word", epoch=1)["nonce"]
    take = {"ask": "take", "epoch": 1, "nonce": nonce, "who": "eve", "told": {}}
    assert "the backup storage still reaches a (" in island.claim(**take)["refused"]
    assert "b is not its active host" in island.claim(ask="finish", epoch=1, who="eve", told={})["refused"]
    assert "this is no claim" in island.claim(**{**take, "ask": "unprotect"})["refused"]
    assert "a is not its standby host" in island.claim("a", ask="word", epoch=1)["refused"]
    said = island.ssh("claim; id", "", expect=1)
    assert f"this key may only ask for epoch or claim of {NAME}" in said
    # Nor does another account, at root's socket.
    header = json.dumps({"vm": NAME, "holder": "b"}) + "\n"
    stranger = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/resilient-vm/claim.sock'); "
        f"s.sendall({header.encode()!r}); print(s.recv(999))"
    )
    assert "only account rvm-acme may claim" in island.type(f"python3 -c {shlex.quote(stranger)}", on="c")
    island.untouched()


def test_one_command_takes_it_over(island: Island) -> None:
    island.world.lab("crash", "a")
    first = island.asked()
    command = island.asked()
    island.untouched()
    for wrong, why in (
        (first, "is not the last one that was asked for"),
        (command.replace("#1-", "#2-"), "is about host a at epoch 2"),
    ):
        assert why in island.type(wrong, expect=1)
        island.untouched()
    # Whoever was refused on C has made every word void.
    said = island.type(island.asked())
    assert f"{VM} runs on b (epoch 2), taken over from a" in said
    assert "guest:          its agent answers after" in said
    in_guest = island.world.in_guest
    assert in_guest(VM, "cat /disk/vda/key", on="b") == "before"
    assert "late" not in in_guest(VM, "ls /disk/vda", on="b").split()
    assert [island.state(host) for host in ("b", "c")] == [("b", "failed_over", 2)] * 2
    steps = island.journal("c")[1:]
    assert [(entry["what"], entry["who"], entry["why"]) for entry in steps] == [
        ("fail_over", "root@b", "takeover on b"),
        ("finish_failover", "root@b", "takeover on b"),
    ]
    told = [steps[-1]["evidence"]["report"], island.journal("b")[-1]["evidence"]]
    assert told[0] == told[1] and told[0]["evidence"]["control"].startswith("not there")


def test_typed_again_it_has_nothing_to_do_and_a_used_word_is_none(island: Island) -> None:
    assert f"{VM} runs on b since it was taken over at" in island.type(f"resilient-vm takeover {NAME}")
    assert len(island.journal("c")) == 3


@pytest.mark.parametrize("mark", ["intent.json", "failing_over", "running"])
def test_killed_anywhere_the_same_command_goes_on(island: Island, mark: str) -> None:
    """It is killed, with its ssh, as soon as it has said what it is about to do; as it learns C's decision; and when
    the machine runs but nobody has been told."""
    reached = {
        "intent.json": f"[ -e {STORE}/{KILLED}/intent.json ]",
        "failing_over": f"grep -q failing_over {STORE}/{KILLED}/state.json",
        "running": f"virsh domstate {KILLED} | grep -q running",
    }[mark]
    command = f"resilient-vm takeover acme/{KILLED}" if island.state("c", KILLED)[2] == 2 else island.asked(KILLED)
    island.type(f"setsid {command} & until {reached}; do kill -0 $! || exit 3; done; kill -9 -$!")


def test_and_comes_to_its_end(island: Island) -> None:
    said = island.type(f"resilient-vm takeover acme/{KILLED}")
    assert island.world.on("b", f"virsh domstate {KILLED}") == "running", said
    assert [island.state(host, KILLED) for host in ("b", "c")] == [("b", "failed_over", 2)] * 2
    assert [entry["what"] for entry in island.journal("c", KILLED)] == ["protect", "fail_over", "finish_failover"]
    assert not island.world.on("b", f"ls {STORE}/{KILLED} | grep intent || true")


@pytest.mark.soak
def test_a_comes_back_and_starts_nothing_and_the_control_node_finds_its_way(island: Island) -> None:
    on = island.world.on
    island.world.lab("up", "a")
    island.world.wait_until(
        lambda: "the VM moved while this host was away" in on("a", "journalctl -b -u resilient-vm-gate -o cat"),
        60,
        "a has asked",
    )
    assert "resilient-vm keeps the gate closed" in on("a", f"virsh start {VM} 2>&1 >/dev/null || true")
    assert on("a", f"virsh domstate {VM}") == "shut off"
    assert f"{VM} lives on b since epoch 2" in island.type(f"resilient-vm takeover {NAME}", expect=1, on="a")
    again = island.play("failover", VM)
    assert again.changed == 0 and f"{VM} runs on b since it was taken over at" in again.output
    island.play("daily", VM, expect=1, force=True)
    newest = island.world.images(VM)[-1]
    assert (island.world.manifest(VM, newest)["epoch"], island.world.manifest(VM, newest)["source_host"]) == (2, "b")
