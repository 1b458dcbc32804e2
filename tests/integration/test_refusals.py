# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A is down, and still a takeover is refused, in one sentence and with nothing touched; then A comes back in every way
in which a host starts machines by itself.

That the guest answers, or a cut between machines, is refused in test_takeover and test_cuts, a used word in test_alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from integration.world import STORE, World

pytestmark = pytest.mark.soak

# Each case goes on where the one before ended.
STORY = True
VM = "sentry"
NIGHT, MORNING = "2026-01-14T02:00:00Z", "2026-01-14T11:30:00Z"
IMAGE = "20260114T020000Z"
GENERATION = f"{STORE}/{VM}/generations/{IMAGE}"
NONCE = f"{STORE}/{VM}/nonce.json"
# What ran when the host went down, and is to run again after its boot.
RESUMED = "/var/lib/libvirt/libvirt-guests"


@dataclass
class Sentry:
    """One VM with an image of last night, whose host is down."""

    world: World
    inventory: Path

    def failover(self, *options: str, expect: int = 1, **variables: Any) -> str:
        asked = {"now": MORNING, **variables}
        played = self.world.play(
            "failover", "--limit", VM, *options, inventory=[self.inventory], expect=expect, **asked
        )
        return " ".join(played.output.split())

    def word(self) -> str:
        found = re.search(rf"resilient_vm_confirm=({VM}@a#1-[0-9a-f]{{8}})", self.failover())
        assert found
        return found.group(1)

    def untouched(self) -> None:
        on = self.world.on
        for host in ("b", "c"):
            state = json.loads(on(host, f"cat {STORE}/{VM}/state.json"))
            assert (state["active"], state["phase"], state["epoch"]) == ("a", "protected", 1)
        assert len(on("c", f"cat {STORE}/{VM}/journal.jsonl").splitlines()) == 1
        assert not on("b", f"ls {STORE}/{VM} | grep -e running -e intent || true")
        assert on("b", f"virsh domstate {VM}") == "shut off"


@pytest.fixture(scope="module")
def sentry(machines: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentry]:
    extra = machines.inventory_file(tmp_path_factory.mktemp("inventory") / f"{VM}.json", {VM: {}})
    machines.lab("guest", "create", "a", VM, "--kind", "tiny", "--start")
    machines.protect(extra, VM)
    machines.play("daily", "--limit", VM, inventory=[extra], now=NIGHT)
    # Whatever libvirt may wake it up by.
    machines.on("a", f"virsh managedsave {VM}")
    uuid = machines.on("a", f"virsh domuuid {VM}")
    # The lab has it masked, because it would save every guest at each `down`.
    machines.on("a", "printf 'ON_BOOT=start\\n' > /etc/default/libvirt-guests; systemctl unmask libvirt-guests")
    machines.on("a", f"systemctl enable libvirt-guests; echo 'default {uuid}' > {RESUMED}; sync")
    machines.lab("crash", "a")
    yield Sentry(machines, extra)
    machines.lab("up", "a")
    machines.on("a", f"systemctl mask libvirt-guests; rm -f {RESUMED} /etc/default/libvirt-guests")
    for host in ("a", "b"):
        machines.on(host, f"virsh destroy {VM}", check=False)


def aged(sentry: Sentry) -> dict[str, Any]:
    word = sentry.word()
    for host in ("b", "c"):
        then = '"issued": "\'$(date -ud "-16 min" +%FT%TZ)\'"'
        sentry.world.on(host, f'[ ! -e {NONCE} ] || sed -i \'s/"issued": "[^"]*"/{then}/\' {NONCE}')
    return {"confirm": word}


def big(sentry: Sentry) -> dict[str, Any]:
    sentry.world.on("b", f"virsh dumpxml {VM} > /root/kept.xml && virsh setmaxmem {VM} 1T --config")
    return {}


def small(sentry: Sentry) -> None:
    sentry.world.on("b", "virsh define /root/kept.xml && rm /root/kept.xml")


def damaged(sentry: Sentry) -> dict[str, Any]:
    sentry.world.on("b", f"cp -a {GENERATION}/manifest.json /root/kept.json")
    for offset in (40, 60):
        sentry.world.spoil("b", f"{GENERATION}/manifest.json", offset)
    return {}


def mended(sentry: Sentry) -> None:
    sentry.world.on("b", f"mv /root/kept.json {GENERATION}/manifest.json")


def gone(sentry: Sentry) -> dict[str, Any]:
    sentry.world.on("b", f"mv {STORE}/{VM}/generations /root/generations; mkdir {STORE}/{VM}/generations")
    return {}


def back(sentry: Sentry) -> None:
    sentry.world.on("b", f"rmdir {STORE}/{VM}/generations; mv /root/generations {STORE}/{VM}/generations")


Prepare = Callable[[Sentry], dict[str, Any]]
# What is wrong -> how it comes to be so and which variables are given, what mends it, and the sentence.
CASES: dict[str, tuple[Prepare, Callable[[Sentry], None], str]] = {
    "too old": (
        lambda _sentry: {"now": "2026-01-19T02:00:00Z"},
        lambda _sentry: None,
        f"generation {IMAGE} of {VM} on b is 5 d 0 h old, and what was written since would be lost; "
        "resilient_vm_max_data_loss_hours allows",
    ),
    "in a schedule": (
        lambda sentry: {"confirm": sentry.word()},
        lambda _sentry: None,
        "resilient_vm_confirm is set in a scheduled job: it is somebody's word that a is off now",
    ),
    "wrong word": (
        lambda sentry: {"confirm": sentry.word()[:-8] + "00000000"},
        lambda _sentry: None,
        "was used already, or is not the last one that was asked for",
    ),
    "old word": (aged, lambda _sentry: None, "and is good for 15 minutes; run failover without resilient_vm_confirm"),
    "no memory": (big, small, f"b could not start {VM}: the VM takes 1.0 TiB of memory, and"),
    "damaged": (damaged, mended, f"generation {IMAGE} of {VM} on b is damaged"),
    "no generation": (gone, back, f"b holds no complete generation of {VM}"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_and_nothing_is_touched(sentry: Sentry, case: str) -> None:
    prepare, mend, expected = CASES[case]
    variables = prepare(sentry)
    options = ("-e", "awx_schedule_id=7") if case == "in a schedule" else ()
    try:
        assert expected in sentry.failover(*options, **variables)
    finally:
        mend(sentry)
    sentry.untouched()


def test_with_all_of_that_mended_it_is_taken_over(sentry: Sentry) -> None:
    sentry.failover(confirm=sentry.word(), expect=0)
    assert sentry.world.on("b", f"virsh domstate {VM}") == "running"


def test_nothing_by_which_a_host_starts_machines_starts_it(sentry: Sentry) -> None:
    """Its own autostart, libvirt-guests with what it noted down, a saved state, and somebody who types it."""
    world, on = sentry.world, sentry.world.on

    def tried() -> int:
        """How often libvirt-guests was refused since the boot."""
        said = on("a", "journalctl -b -u libvirt-guests -o cat")
        assert said.count(f"Resuming guest {VM}") == said.count("resilient-vm keeps the gate closed")
        return said.count("resilient-vm keeps the gate closed")

    # At first it sees nobody.
    world.lab("cut", "b")
    world.lab("cut", "c")
    try:
        world.lab("up", "a")
        world.wait_until(lambda: tried() == 1, 60, "libvirt-guests has tried")
        assert "resilient-vm keeps the gate closed" in on("a", f"virsh start {VM} 2>&1 >/dev/null || true")
        assert on("a", f"virsh domstate {VM}") == "shut off"
    finally:
        world.lab("heal", "b")
        world.lab("heal", "c")
    world.wait_until(
        lambda: "the VM moved while this host was away" in on("a", "journalctl -b -u resilient-vm-gate -o cat"),
        90,
        "a has asked",
    )
    uuid = on("a", f"virsh domuuid {VM}")
    on("a", f"echo 'default {uuid}' > {RESUMED}; systemctl start libvirt-guests", check=False)
    assert tried() == 2
    on("a", f"virsh autostart {VM}; systemctl stop libvirtd; rm -f /run/libvirt/qemu/autostarted", check=False)
    on("a", "systemctl start libvirtd; virsh list")
    assert "resilient-vm keeps the gate closed" in on("a", f"virsh start {VM} 2>&1 >/dev/null || true")
    assert on("a", f"virsh domstate {VM}") == "shut off"
    assert on("b", f"virsh domstate {VM}") == "running"
