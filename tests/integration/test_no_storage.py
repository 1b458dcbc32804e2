# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A and C are both down: B takes the VM over by itself, and nobody starts it twice when they come back together."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from integration.world import STORE, Played, World

pytestmark = pytest.mark.soak

# One with an agent, and a small one that is taken over from B's own shell.
VM, SMALL = "annuity", "coupon"
ALONE = {"without_backup_storage": True}


@dataclass
class Lonely:
    """One VM with an image of this night; its guest wrote on until A died."""

    world: World
    inventory: Path

    def play(self, name: str, *options: str, expect: int = 0, **variables: Any) -> Played:
        words = ["--limit", VM, *options]
        return self.world.play(name, *words, inventory=[self.inventory], expect=expect, **variables)

    def said(self, name: str, expect: int = 1, **variables: Any) -> str:
        return " ".join(self.play(name, expect=expect, **variables).output.split())

    def state(self, host: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.world.on(host, f"cat {STORE}/{VM}/state.json"))
        return found

    def documents(self) -> list[tuple[str, str, int]]:
        return [(found["active"], found["phase"], found["epoch"]) for found in map(self.state, ("a", "b", "c"))]

    def journal(self, host: str) -> list[tuple[str, int, str]]:
        lines = self.world.on(host, f"cat {STORE}/{VM}/journal.jsonl").splitlines()
        return [(entry["what"], entry["epoch"], entry["active"]) for entry in map(json.loads, lines)]

    def runs_on(self) -> list[str]:
        return [host for host in ("a", "b") if VM in self.world.on(host, "virsh list --name").split()]


@pytest.fixture(scope="module")
def lonely(machines: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lonely]:
    extra = machines.inventory_file(
        tmp_path_factory.mktemp("inventory") / f"{VM}.json",
        {name: {"resilient_vm_autostart": True} for name in (VM, SMALL)},
    )
    lonely = Lonely(machines, extra)
    running = machines.on("a", "virsh list --name").split()
    machines.lab("guest", "create", "a", VM, "--kind", "two-disk", "--rate", "0", "--start")
    machines.lab("guest", "create", "a", SMALL, "--kind", "tiny", "--start")
    machines.protect(extra, VM, SMALL)
    machines.in_guest(VM, "echo before > /disk/vda/key; sync")
    machines.play("daily", "--limit", f"{VM},{SMALL}", inventory=[extra])
    machines.in_guest(VM, "echo after > /disk/vda/late; sync")
    yield lonely
    machines.lab("up", "a")
    machines.lab("up", "c")
    for host in ("a", "b"):
        machines.on(host, f"virsh destroy {VM}; virsh destroy {SMALL}", check=False)
    machines.back_to_work(running)


def gate(world: World, host: str) -> str:
    """What its unit has said since the boot of the host."""
    return world.on(host, "journalctl -b -u resilient-vm-gate -o cat")


def test_without_the_permission_it_says_how_to_go_on_and_what_it_costs(lonely: Lonely) -> None:
    lonely.world.lab("crash", "a")
    lonely.world.lab("crash", "c")
    said = lonely.said("failover")
    assert "backup storage c can't be reached, and it has to decide; bring it back; or, when" in said
    assert "run it again with -e resilient_vm_without_backup_storage=true: b decides by itself" in said
    scheduled = " ".join(lonely.play("failover", "-e", "awx_schedule_id=7", expect=1, **ALONE).output.split())
    assert "resilient_vm_without_backup_storage is set in a scheduled job" in scheduled
    found = lonely.state("b")
    assert (found["active"], found["epoch"], found["unwitnessed"]) == ("a", 1, None)


def test_b_takes_it_over_by_itself_with_what_was_written_before_the_last_cycle(lonely: Lonely) -> None:
    said = lonely.said("failover", **ALONE)
    word = re.search(
        rf"--limit {VM} -e resilient_vm_without_backup_storage=true -e resilient_vm_confirm=({VM}@a#1-[0-9a-f]{{8}})",
        said,
    )
    assert word, said
    told = lonely.play("failover", confirm=word.group(1), **ALONE).output
    assert f"{VM} runs on b (epoch 2), taken over from a" in told
    assert "witness: b decides by itself" in " ".join(told.split())
    assert lonely.world.in_guest(VM, "cat /disk/vda/key", on="b") == "before"
    assert "late" not in lonely.world.in_guest(VM, "ls /disk/vda", on="b").split()
    own = lonely.state("b")
    assert (own["active"], own["phase"], own["epoch"]) == ("b", "failed_over", 2) and own["unwitnessed"]
    assert lonely.journal("b")[-2:] == [("fail_over", 2, "b"), ("finish_failover", 2, "b")]
    assert f"b took {VM} over by itself at {own['unwitnessed']}" in lonely.said("status")
    # Run again it changes nothing.
    assert lonely.play("failover", **ALONE).changed == 0
    lonely.world.in_guest(VM, "echo at b > /disk/vda/key; sync", on="b")


def test_with_the_control_node_gone_too_it_is_typed_on_b(lonely: Lonely) -> None:
    def typed(*options: str) -> str:
        words = " ".join(["resilient-vm", "takeover", f"acme/{SMALL}", *options])
        return lonely.world.on("b", f"{words} 2>&1 || true")

    allow = "--without-backup-storage"
    assert f"run it again with {allow}: b decides by itself" in typed()
    word = re.search(rf"{allow} --confirm ({SMALL}@a#1-[0-9a-f]{{8}})", typed(allow))
    assert word
    assert f"{SMALL} runs on b (epoch 2), taken over from a" in typed(allow, "--confirm", word.group(1))
    assert f"{SMALL} runs on b since it was taken over at" in typed(allow)
    assert SMALL in lonely.world.on("b", "virsh list --name").split()


def test_b_needs_nobody_to_start_it_again(lonely: Lonely) -> None:
    world = lonely.world
    world.lab("powercut", "b")
    world.lab("up", "b")
    world.wait_until(lambda: VM in world.on("b", "virsh list --name").split(), 90, f"{VM} runs on b after its boot")
    world.lab("guest", "wait", VM, "--on", "b")
    assert "this host took it over by itself" in gate(world, "b")


def test_a_and_c_come_back_together_and_a_stays_down(lonely: Lonely) -> None:
    world = lonely.world
    world.lab("up", "a", "c")
    assert lonely.documents() == [("a", "protected", 1), ("b", "failed_over", 2), ("a", "protected", 1)]
    world.wait_until(
        lambda: f"b says the active host of acme/{VM} is b since epoch 2" in gate(world, "a"),
        90,
        "a has asked b as well",
    )
    assert "resilient-vm keeps the gate closed" in world.on("a", f"virsh start {VM} 2>&1 >/dev/null || true")
    assert lonely.runs_on() == ["b"]
    assert "and has still to be told; run the daily playbook" in lonely.said("status")
    assert "and has still to be told; run the daily playbook" in lonely.said("reprotect")


def test_the_next_daily_has_c_catch_up_and_takes_the_image(lonely: Lonely) -> None:
    played = lonely.play("daily", expect=1)
    told = played.refusals(VM)
    assert any(text.startswith(f"a holds {VM} as it was at epoch 1, and does not stand by") for text in told)
    assert all(f"{VM} could not be started on a" in text or text.startswith(f"a holds {VM}") for text in told), told
    assert lonely.documents() == [("a", "protected", 1), ("b", "failed_over", 2), ("b", "failed_over", 2)]
    assert lonely.state("b")["unwitnessed"] is None
    assert lonely.journal("c")[-2:] == [("fail_over", 2, "b"), ("finish_failover", 2, "b")]
    newest = lonely.world.images(VM)[-1]
    assert (lonely.world.manifest(VM, newest)["epoch"], lonely.world.manifest(VM, newest)["source_host"]) == (2, "b")
    lonely.world.check_image(VM, newest)


def test_a_stands_by_again_and_all_is_green(lonely: Lonely) -> None:
    lonely.play("reprotect")
    assert lonely.documents() == [("b", "protected", 2)] * 3
    assert lonely.runs_on() == ["b"]
    assert lonely.play("daily").recap[VM]
    lonely.play("status")
    assert lonely.world.in_guest(VM, "cat /disk/vda/key", on="b") == "at b"
