# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bits that turn on the disks of C and B: each is found, none travels, and what can be mended is what it was."""

from __future__ import annotations

import random

import pytest
from integration.vault import VM, Vault
from integration.world import STORE, Played

_MIB = 1 << 20
# The guest's boot disk before what the vault writes: the same in every image.
_OLD_BYTES = 100 * _MIB
_NEW_MIB = 136


def verify(vault: Vault, *options: str, expect: int = 0, everything: bool = True) -> Played:
    words = ("verify", "--limit", VM, *options)
    return vault.world.play(*words, inventory=[vault.extra], expect=expect, now=vault.now, verify_all=everything)


def said(played: Played) -> str:
    return " ".join(played.output.split())


def sums(vault: Vault) -> dict[str, str]:
    """SHA-256 of every file of every image and generation."""
    found = {}
    for host, folder in (("c", "images"), ("b", "generations")):
        listed = vault.world.on(host, f"cd {STORE}/{VM}/{folder} && find . -type f -exec sha256sum {{}} +")
        found.update({f"{host}:{line.split()[1]}": line.split()[0] for line in listed.splitlines()})
    return found


@pytest.fixture
def three_days(vault: Vault) -> Vault:
    while len(vault.world.images(VM)) < 3:
        vault.next_day()
        vault.cycle()
    vault.next_day()
    vault.cycle()
    return vault


def test_bits_that_turn_are_found_and_mended_or_named(three_days: Vault) -> None:
    vault, world, chance = three_days, three_days.world, random.Random(20260114)
    assert verify(vault, "--check").changed == 0
    assert verify(vault).changed == 0
    before = sums(vault)
    first, second, third = world.images(VM)[-3:]
    folders = {day: f"{STORE}/{VM}/images/{day}" for day in (first, second, third)}
    size = int(world.on("c", f"stat -c %s {folders[first]}/manifest.json"))
    world.spoil("c", f"{folders[first]}/manifest.json", chance.randrange(size))
    world.spoil("c", f"{folders[first]}/vda.raw", chance.randrange(_OLD_BYTES))
    world.spoil("c", f"{folders[second]}/vda.raw", chance.randrange(_OLD_BYTES))
    world.spoil("c", f"{folders[second]}/domain.xml", 100)
    world.spoil("c", f"{folders[third]}/vda.digests", chance.randrange(_OLD_BYTES // 65536 * 32))
    # What nobody else on the machine has: the newest day's own data, and the one generation.
    alone = (_NEW_MIB + (vault.day * 24) % 88 + chance.randrange(24)) * _MIB
    generation = f"{STORE}/{VM}/generations/{third}/vda.raw"
    elsewhere = chance.randrange(_OLD_BYTES)
    world.spoil("c", f"{folders[third]}/vda.raw", alone)
    world.spoil("b", generation, elsewhere)

    told = said(verify(vault, expect=1))
    for name, place in ((first, "manifest.json"), (second, "domain.xml"), (third, "vda.digests")):
        assert f"image {name} of acme/{VM}: {place} at byte 0 was damaged and is right again" in told
    assert told.count("was damaged and is right again") == 5
    assert f"image {third} of acme/{VM}: vda at byte {alone // 65536 * 65536} is damaged, found" in told
    assert f"generation {third} of acme/{VM}: vda at byte {elsewhere // 65536 * 65536} is damaged, found" in told
    after = sums(vault)
    differing = {name for name in before if after[name] != before[name]}
    assert differing == {f"c:./{third}/vda.raw", f"b:./{third}/vda.raw"}
    status = world.play("status", "--limit", VM, inventory=[vault.extra], expect=1, now=vault.now)
    assert f"{third} is damaged; run the verify playbook" in said(status)

    # The next night builds on neither of the two.
    vault.next_day()
    vault.cycle()
    vault.settled()
    # The block is what it was again: the mark goes.
    world.spoil("c", f"{folders[third]}/vda.raw", alone)
    assert "was damaged and is right again" in said(verify(vault, everything=False))
    assert world.play("status", "--limit", VM, inventory=[vault.extra], now=vault.now).code == 0
    for day in (first, second, third):
        world.check_image(VM, day)
