# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes that turn anywhere in what C and B keep, and what is done with it before anybody has verified it.

Whatever is restored or backed up meanwhile is right or refused in a sentence; then verify finds the place, and mends it
or names it. The ordinary run has seven chosen places in test_verify.py; ten of these take minutes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import pytest
from integration.vault import VM, Vault
from integration.world import STORE, Played

pytestmark = pytest.mark.soak

_BLOCK = 65536
# File → where it is found: images on C, generations on B.
_FILES = ("vda.raw", "vda.raw", "vda.digests", "manifest.json", "manifest.sha256", "domain.xml")
_STORES = {"c": "images", "b": "generations"}
_KINDS = {"c": "image", "b": "generation"}
# Where a file holds data: a byte of a hole is turned as often as one of those, but not nearly always.
_DATA = """
import os, sys
descriptor, at = os.open(sys.argv[1], os.O_RDONLY), 0
while True:
    try:
        begin = os.lseek(descriptor, at, os.SEEK_DATA)
    except OSError:
        break
    at = os.lseek(descriptor, begin, os.SEEK_HOLE)
    print(begin, at)
"""
_NIGHTS = 3


@dataclass(frozen=True)
class Flip:
    """One byte of one file."""

    host: str
    image: str
    file: str
    at: int

    @property
    def path(self) -> str:
        return f"{STORE}/{VM}/{_STORES[self.host]}/{self.image}/{self.file}"

    @property
    def key(self) -> str:
        return f"{self.host}:./{self.image}/{self.file}"

    @property
    def place(self) -> str:
        """As verify names it."""
        file = "manifest.json" if self.file == "manifest.sha256" else self.file
        where = f"vda at byte {self.at // _BLOCK * _BLOCK}" if file == "vda.raw" else f"{file} at byte 0"
        return f"{_KINDS[self.host]} {self.image} of acme/{VM}: {where}"


def said(played: Played) -> str:
    assert "Traceback" not in played.output, played.output
    return " ".join(played.output.split())


def verify(vault: Vault, expect: int | None = None) -> Played:
    return vault.world.play(
        "verify", "--limit", VM, inventory=[vault.extra], expect=expect, now=vault.now, verify_all=True
    )


def sums(vault: Vault) -> dict[str, str]:
    """SHA-256 of every file of every image and generation, marks left out."""
    found = {}
    for host, folder in _STORES.items():
        listing = f"cd {STORE}/{VM}/{folder} && find . -type f ! -name damaged.json -exec sha256sum {{}} +"
        lines = vault.world.on(host, listing).splitlines()
        found.update({f"{host}:{line.split()[1]}": line.split()[0] for line in lines})
    return found


def chosen(vault: Vault, chance: Random) -> Flip:
    host = chance.choice("ccb")
    image = chance.choice(vault.world.images(VM) if host == "c" else vault.world.generations(VM))
    flip = Flip(host, image, chance.choice(_FILES), 0)
    size = int(vault.world.on(host, f"stat -c %s {flip.path}"))
    at = chance.randrange(size)
    if flip.file in ("vda.raw", "vda.digests") and chance.random() < 0.75:
        listed = vault.world.lab("exec", host, "python3", "-c", _DATA, flip.path).splitlines()
        begin, end = map(int, chance.choice(listed).split())
        at = chance.randrange(begin, min(end, size))
    return Flip(host, image, flip.file, at)


def restore(vault: Vault, flip: Flip, right: dict[str, str]) -> str:
    """A restore of the image, or one to B, whose generation it builds on: the right bytes, or a sentence."""
    point = flip.image if flip.host == "c" else vault.world.images(VM)[0]
    wish = {"restore_point": point, "restore_to": "files", "restore_host": "b", "restore_path": "/srv/flip"}
    played = vault.world.play("restore", "--limit", VM, inventory=[vault.extra], expect=None, now=vault.now, **wish)
    if played.code:
        assert re.search(r"damaged|is not what|can't be used|is missing|root digest", said(played)), played.output
        assert vault.world.on("b", "ls -A /srv | grep flip || true") == ""
        return "refused"
    laid = vault.world.on("b", "sha256sum /srv/flip/vda.raw; rm -r /srv/flip").split()[0]
    assert laid == right[f"c:./{point}/vda.raw"]
    return "restored"


def night(vault: Vault) -> str:
    """The next night: an image, or a sentence."""
    vault.next_day()
    played = vault.ended(vault.start_cycle())
    if played.code:
        assert played.refusals(VM), played.output
    return "a night" if played.code == 0 else f"red: {played.refusals(VM)}"


def holds(vault: Vault, images: Sequence[str]) -> None:
    for image in images:
        vault.world.check_image(VM, image)
    for image in vault.world.generations(VM):
        vault.world.check_image(VM, image, "b")


@pytest.mark.parametrize("seed", range(4))
def test_what_turns_anywhere_is_found_and_leads_nobody_astray(vault: Vault, seed: int) -> None:
    world, chance = vault.world, Random(20260500 + seed)
    for _night in range(max(0, _NIGHTS - len(world.images(VM)))):
        vault.next_day()
        vault.cycle()
    assert verify(vault, 0).changed == 0
    for number in range(10):
        before, flip = sums(vault), chosen(vault, chance)
        world.spoil(flip.host, flip.path, flip.at)
        assert sums(vault)[flip.key] != before[flip.key]
        meanwhile = night(vault) if number % 3 == 2 else restore(vault, flip, before)
        gone = flip.image not in (world.images(VM) if flip.host == "c" else world.generations(VM))
        played = verify(vault)
        after, told = sums(vault), said(played)
        wrong = {name for name in before if name in after and after[name] != before[name]}
        if wrong:
            assert wrong == {flip.key} and played.code != 0
            assert f"{flip.place} is damaged" in told or flip.path.rpartition("/")[0] in told, told
            assert world.play("status", "--limit", VM, inventory=[vault.extra], expect=1, now=vault.now)
            world.spoil(flip.host, flip.path, flip.at)
            assert verify(vault, 0)
        else:
            assert gone or f"{flip.place} was damaged and is right again" in told, told
            assert played.code == 0, played.output
        end = "gone with its image" if gone else "named" if wrong else "mended"
        print(f"{seed}.{number} {flip.key} at byte {flip.at}: {meanwhile}; {end}", flush=True)
        holds(vault, world.images(VM))
    vault.next_day()
    vault.converges()


def test_a_generation_that_could_not_be_mended_is_not_started_and_the_one_before_it_is_offered(vault: Vault) -> None:
    world = vault.world
    for _night in range(2):
        vault.next_day()
        limit = ("daily", "--limit", VM)
        world.play(*limit, inventory=[vault.extra], now=vault.now, keep_generations=2)
    older, current = world.generations(VM)[-2:]
    # What only the newest day has, on C as on B.
    at = (136 + (vault.day * 24) % 88 + 3) << 20
    for host, folder in _STORES.items():
        world.spoil(host, f"{STORE}/{VM}/{folder}/{current}/vda.raw", at)
    told = said(verify(vault, 1))
    for kind in _KINDS.values():
        assert f"{kind} {current} of acme/{VM}: vda at byte {at} is damaged" in told
    state = world.on("b", f"cat {STORE}/{VM}/state.json; virsh domstate {VM}")
    played = world.play("failover", "--limit", VM, inventory=[vault.extra], expect=1, now=vault.now)
    assert f"generation {current} of {VM} on b is damaged" in said(played)
    assert f"-e resilient_vm_takeover_point={older}" in said(played)
    assert world.on("b", f"cat {STORE}/{VM}/state.json; virsh domstate {VM}") == state
    for host, folder in _STORES.items():
        world.spoil(host, f"{STORE}/{VM}/{folder}/{current}/vda.raw", at)
    assert verify(vault, 0)
    holds(vault, world.images(VM)[-2:])
