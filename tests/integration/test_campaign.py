# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL at any moment of a cycle, of any process that works for it."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from integration.vault import Vault
from integration.world import World

# machine → pattern of the command line ("" for the playbook's control node). Brackets keep a pattern from finding the
# shell it stands in.
VICTIMS = {
    "the playbook": ("", ""),
    "the receiver on c": ("c", "[r]esilient-vm fetch .*{vm}"),
    "the sender on a": ("a", "[r]esilient-vm forced .*{vm}"),
    "the sender on c": ("c", "[r]esilient-vm refresh .*{vm}"),
    "the receiver on b": ("b", "[r]esilient-vm forced .*{vm}"),
    "ssh on c": ("c", "[s]sh -T -i .*{vm}"),
    "the snapshot's begin on a": ("a", "[r]esilient-vm begin .*{vm}"),
    "the snapshot's watch on a": ("a", "[r]esilient-vm watch .*{vm}"),
    "libvirtd on a": ("a", "/usr/sbin/[l]ibvirtd"),
    "libvirtd on b": ("b", "/usr/sbin/[l]ibvirtd"),
    "all movers on c": ("c", "[r]esilient-vm "),
}
# Of several VMs at once, for a round's playbooks and looks cost hardly more; none is the beginning of another's name.
FLEET = ("north", "east", "south", "west")
# Each part is a campaign of its own, so that what is cut off was not for nothing: 4 parts x 13 rounds x 4 VMs = 208.
PARTS, ROUNDS = 4, 13


# They are there nearly all the time, and the others for seconds.
LASTING = ("the playbook", "libvirtd on a", "libvirtd on b")


def victims(chance: random.Random) -> list[str]:
    """All of them, in the order in which they are looked for: mostly what lasts comes last."""
    shuffled = chance.sample(sorted(VICTIMS), len(VICTIMS))
    return sorted(shuffled, key=lambda victim: victim in LASTING) if chance.random() < 0.8 else shuffled


@dataclass(frozen=True)
class Strike:
    """Something that works for a VM dies, so many seconds after the cycle began: the first of the victims that there
    is then."""

    after: float
    vm: str
    victims: list[str]

    def fall(self, world: World, play: subprocess.Popen[str]) -> str:
        """Returns what it did."""
        when = f"{self.vm}, after {self.after:.1f} s"
        for victim in self.victims:
            host, pattern = VICTIMS[victim]
            if host:
                killed = int(world.on(host, f"pkill -9 -c -f '{pattern.format(vm=self.vm)}' || true"))
            else:
                killed = int(play.poll() is None)
                play.kill()
            if killed:
                return f"{when}: {killed} of {victim} killed"
        return f"{when}: nothing was there"


def each(vaults: Sequence[Vault], work: Callable[[Vault], object]) -> None:
    """For all of them side by side; one that fails, fails."""
    with ThreadPoolExecutor(len(vaults)) as pool:
        list(pool.map(work, vaults))


def cycle(vaults: Sequence[Vault], strikes: Sequence[Strike] = ()) -> list[str]:
    """One cycle of all of them, in which strikes fall; what each did. Without any it must succeed."""
    first, told = vaults[0], []
    began = time.monotonic()
    limit = ",".join(vault.vm for vault in vaults)
    play = first.world.start_play("daily", "--limit", limit, inventory=[first.extra], now=first.now)
    for strike in sorted(strikes, key=lambda strike: strike.after):
        time.sleep(max(0.0, began + strike.after - time.monotonic()))
        told.append(strike.fall(first.world, play))
    ended = first.ended(play)
    assert strikes or ended.code == 0, ended.output
    return told


def campaign(vaults: Sequence[Vault], rounds: int, seed: int) -> None:
    """In each round, for each VM, one process dies at a moment of its own."""
    chance = random.Random(seed)
    world = vaults[0].world
    each(vaults, Vault.next_day)
    begun = time.monotonic()
    cycle(vaults)
    cycle_seconds = time.monotonic() - begun
    for number in range(rounds):
        before = {vault.vm: vault.before() for vault in vaults}
        each(vaults, Vault.next_day)
        hop = chance.choice(["b", "c"])
        strikes = [Strike(chance.uniform(0, cycle_seconds), vault.vm, victims(chance)) for vault in vaults]
        world.lab("shape", hop, f"{80 * len(vaults)}mbit")
        try:
            told = cycle(vaults, strikes)
        finally:
            world.lab("shape", hop, "off")
        try:
            each(vaults, lambda vault, before=before: vault.intact(before[vault.vm]))
            cycle(vaults)
            each(vaults, Vault.settled)
        except Exception as error:
            raise AssertionError(f"seed {seed}, round {number}: {'; '.join(told)}") from error
        # Shown by pytest -s, and the proof of a long run.
        for sentence in told:
            print(f"round {number}: {sentence}: intact, converged", flush=True)


def test_a_slice_of_the_campaign(vault: Vault) -> None:
    campaign([vault], 1, seed=random.randrange(1 << 32))


@pytest.fixture(scope="module")
def fleet(machines: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Vault]]:
    """Protected VMs with an image each; no others run beside them."""
    settings = {"resilient_vm_retention_days": 7, "resilient_vm_retention_minimum": 2}
    extra = machines.inventory_file(tmp_path_factory.mktemp("inventory") / "fleet.json", dict.fromkeys(FLEET, settings))
    # Machines that were kept have them.
    for name in set(FLEET) - set(machines.on("a", "virsh list --name").split()):
        machines.lab("guest", "create", "a", name, "--kind", "raw", "--format", "qcow2", "--no-mount", "--start")
    machines.protect(extra, *FLEET)
    yield [Vault(machines, extra, vm=name) for name in FLEET]
    for name in FLEET:
        machines.lab("guest", "remove", name, "--on", "a")


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
def test_the_campaign(fleet: list[Vault], part: int) -> None:
    campaign(fleet, ROUNDS, seed=20260114 + part)
