# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL at any moment of a cycle, of any process that works for it."""

from __future__ import annotations

import random
import time

import pytest
from integration.vault import VM, Vault

# machine → pattern of the command line ("" for the playbook's control node). Brackets keep a pattern from finding the
# shell it stands in.
VICTIMS = {
    "the playbook": ("", ""),
    "the receiver on c": ("c", f"[r]esilient-vm fetch .*{VM}"),
    "the sender on a": ("a", f"[r]esilient-vm forced .*{VM}"),
    "the sender on c": ("c", f"[r]esilient-vm refresh .*{VM}"),
    "the receiver on b": ("b", f"[r]esilient-vm forced .*{VM}"),
    "ssh on c": ("c", f"[s]sh -T -i .*{VM}"),
    "the snapshot's begin on a": ("a", f"[r]esilient-vm begin .*{VM}"),
    "the snapshot's watch on a": ("a", f"[r]esilient-vm watch .*{VM}"),
    "libvirtd on a": ("a", "/usr/sbin/[l]ibvirtd"),
    "libvirtd on b": ("b", "/usr/sbin/[l]ibvirtd"),
    "all movers on c": ("c", "[r]esilient-vm "),
}
# Each part is a campaign of its own, so that what is cut off was not for nothing.
PARTS, ROUNDS = 8, 25


def strike(vault: Vault, chance: random.Random, cycle_seconds: float) -> str:
    """One cycle in which something dies at a random moment; what and when."""
    victim = chance.choice(sorted(VICTIMS))
    host, pattern = VICTIMS[victim]
    moment = chance.uniform(0, cycle_seconds)
    hop = chance.choice(["b", "c"])
    vault.world.lab("shape", hop, "80mbit")
    play = vault.start_cycle()
    try:
        time.sleep(moment)
        if host:
            killed = vault.world.on(host, f"pkill -9 -c -f '{pattern}' || true")
        else:
            play.kill()
            killed = "1"
    finally:
        vault.world.lab("shape", hop, "off")
    vault.ended(play)
    return f"{victim} after {moment:.1f} s, {killed} killed"


def campaign(vault: Vault, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    vault.next_day()
    begun = time.monotonic()
    vault.cycle()
    cycle_seconds = time.monotonic() - begun
    for number in range(rounds):
        before = vault.before()
        vault.next_day()
        told = strike(vault, chance, cycle_seconds)
        try:
            vault.intact(before)
            vault.converges()
        except Exception as error:
            raise AssertionError(f"seed {seed}, round {number}: {told}") from error
        # Shown by pytest -s, and the proof of a long run.
        print(f"round {number}: {told}: intact, converged", flush=True)


def test_a_slice_of_the_campaign(vault: Vault) -> None:
    campaign(vault, 1, seed=random.randrange(1 << 32))


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
def test_the_campaign(vault: Vault, part: int) -> None:
    campaign(vault, ROUNDS, seed=20260114 + part)
