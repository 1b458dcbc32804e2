# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bits that turn on the disks of C and B: each is found, none travels, and what can be mended is what it was."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import pytest
from integration.vault import VM, Vault
from integration.world import STORE, Played

_MIB = 1 << 20
_BLOCK = 65536
# Before what the vault writes the guest's disk is the same in every image.
_OLD_BLOCKS = 100 * _MIB // _BLOCK
_NEW_MIB = 136
# Blocks of a disk that are not empty, by its digest file.
_WITH_DATA = """
import sys
data = open(sys.argv[1], "rb").read()
print(*(at // 32 for at in range(0, len(data), 32) if any(data[at : at + 32])))
"""


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
    # At least one: only a bitmap of last night's is any good, and other tests take the active host its power.
    while True:
        vault.next_day()
        vault.cycle()
        if len(vault.world.images(VM)) >= 3:
            break
    vault.next_day()
    limit = ("daily", "--limit", VM)
    played = vault.world.play(*limit, inventory=[vault.extra], now=vault.now, verify_source=True)
    assert re.search(r"compared with the open snapshot: .*, none of them other than on c", said(played)), played.output
    (disk,) = vault.world.manifest(VM, vault.image_id)["disks"]
    assert disk["found_by"] == "bitmap" and disk["proven"]["full_round"] == vault.image_id
    return vault


def test_bits_that_turn_are_found_and_mended_or_named(three_days: Vault) -> None:
    vault, world, chance = three_days, three_days.world, random.Random(20260114)
    assert verify(vault, "--check").changed == 0
    assert verify(vault).changed == 0
    before = sums(vault)
    first, second, third = world.images(VM)[-3:]
    folders = {day: f"{STORE}/{VM}/images/{day}" for day in (first, second, third)}
    size = int(world.on("c", f"stat -c %s {folders[first]}/manifest.json"))
    listed = world.lab("exec", "c", "python3", "-c", _WITH_DATA, f"{folders[third]}/vda.digests").split()
    old, new = ([b for b in map(int, listed) if (b < _OLD_BLOCKS) == wanted] for wanted in (True, False))
    today = range((_NEW_MIB + (vault.day * 24) % 88) * _MIB // _BLOCK, (_NEW_MIB + 24 + (vault.day * 24) % 88) * 16)

    def somewhere(blocks: Sequence[int]) -> int:
        return chance.choice(blocks) * _BLOCK + chance.randrange(_BLOCK)

    shared = [somewhere(old), somewhere(old)]
    world.spoil("c", f"{folders[first]}/manifest.json", chance.randrange(size))
    world.spoil("c", f"{folders[first]}/vda.raw", shared[0])
    world.spoil("c", f"{folders[second]}/vda.raw", shared[1])
    world.spoil("c", f"{folders[second]}/domain.xml", 100)
    world.spoil("c", f"{folders[third]}/vda.digests", chance.choice(old) * 32 + chance.randrange(32))
    # What nothing else on the machine has: the newest day's own data, and the one generation.
    own, elsewhere, lost = (at * _BLOCK + 5 for at in chance.sample([block for block in new if block in today], 3))
    generation = f"{STORE}/{VM}/generations/{third}"
    world.spoil("c", f"{folders[third]}/vda.raw", own)
    world.spoil("b", f"{generation}/vda.raw", elsewhere)

    told = said(verify(vault))
    for name, place in ((first, "manifest.json"), (second, "domain.xml"), (third, "vda.digests")):
        assert f"image {name} of acme/{VM}: {place} at byte 0 was damaged and is right again" in told
    for name, place in ((first, shared[0]), (second, shared[1])):
        assert f"image {name} of acme/{VM}: vda at byte {place // _BLOCK * _BLOCK} was damaged and is right" in told
    mended = f"at byte {own // _BLOCK * _BLOCK} was damaged and is right again, from {third} on b"
    assert f"image {third} of acme/{VM}: vda {mended}" in told
    mended = (
        f"at byte {elsewhere // _BLOCK * _BLOCK} was damaged and is right again, from {third} on the backup storage"
    )
    assert f"generation {third} of acme/{VM}: vda {mended}" in told
    assert told.count("was damaged and is right again") == 7
    assert sums(vault) == before

    # What neither has any more.
    for host, folder in (("c", folders[third]), ("b", generation)):
        world.spoil(host, f"{folder}/vda.raw", lost)
    told = said(verify(vault, expect=1))
    for kind in ("image", "generation"):
        assert f"{kind} {third} of acme/{VM}: vda at byte {lost // _BLOCK * _BLOCK} is damaged, found" in told
    after = sums(vault)
    differing = {name for name in before if after[name] != before[name]}
    assert differing == {f"c:./{third}/vda.raw", f"b:./{third}/vda.raw"}
    status = world.play("status", "--limit", VM, inventory=[vault.extra], expect=1, now=vault.now)
    assert f"{third} is damaged; run the verify playbook" in said(status)
    assert "mended by verify, last at " in said(status)

    # The next night builds on neither of the two.
    vault.next_day()
    vault.cycle()
    vault.settled()
    # The block is what it was again: the mark goes.
    world.spoil("c", f"{folders[third]}/vda.raw", lost)
    assert "was damaged and is right again" in said(verify(vault, everything=False))
    assert world.play("status", "--limit", VM, inventory=[vault.extra], now=vault.now).code == 0
    for day in (first, second, third):
        world.check_image(VM, day)
