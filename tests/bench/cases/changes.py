# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies after 1 % of a disk changed, in scattered blocks of 64 KiB."""

from __future__ import annotations

import itertools
from typing import Any

from ..machines import MIB, Bench, Guest
from ..ours import Ours, Taken
from ..peers import Peers
from . import Case, Figures, each
from .full import disk, twin

__all__ = ["CASES", "changed_blocks"]

BLOCK = 64 << 10
# No two changes of a run are the same.
_seeds = itertools.count(1000)
# The image the next one of a VM counts from.
_newest: dict[str, Taken] = {}


def changed_blocks(bench: Bench) -> int:
    """1 % of the disk."""
    return max(1, bench.size_mib * MIB // 100 // BLOCK)


def wide(bench: Bench) -> Guest:
    """The same data on a disk ten times as large."""
    return Guest("wide", bench.size_mib * 10, twin_of="disk")


def change(bench: Bench, *guests: Guest) -> int:
    """The same new blocks on several disks; the bytes changed on each."""
    seed = next(_seeds)
    return max(bench.scatter(guest.name, changed_blocks(bench), bench.size_mib, seed) for guest in guests)


def next_image(bench: Bench, guest: Guest, changed: int, by_bitmap: bool) -> tuple[Taken, Figures]:
    """Ours takes the next image, with its base's bitmap or without; it has to find exactly what was changed."""
    base = _newest[guest.name].base if by_bitmap else None
    taken = Ours(bench, guest.name).take(base)
    found_by = {disk["found_by"] for disk in taken.result["disks"]}
    if found_by != {"bitmap" if by_bitmap else "digests"}:
        raise RuntimeError(f"{guest.name}: changed blocks were found by {found_by}: {taken.result['disks']}")
    _newest[guest.name] = taken
    disks: list[dict[str, Any]] = list(taken.result["disks"])
    found = sum(disk["changed_bytes"] for disk in disks)
    if found != changed:
        raise RuntimeError(f"{guest.name}: {changed} bytes were changed and {found} found: {disks}")
    return taken, {
        "seconds": taken.seconds,
        "open_seconds": taken.open_seconds,
        "bytes_sent": taken.result["bytes_sent"],
        "bytes_read": sum(disk["bytes_read"] for disk in disks),
    }


def checked_image(bench: Bench, guest: Guest, changed: int, by_bitmap: bool) -> Figures:
    before = _newest[guest.name]
    taken, figures = next_image(bench, guest, changed, by_bitmap)
    ours = Ours(bench, guest.name)
    bench.check("c", ours.image(taken.id), bench.digest("a", guest.disk), f"ours of {guest.name}")
    ours.forget(before.id)
    return figures


def prepare(bench: Bench) -> None:
    """First copies by everybody."""
    for guest in (disk(bench), wide(bench)):
        _newest[guest.name] = Ours(bench, guest.name).take()
    Peers(bench, disk(bench)).rsync()
    Peers(bench, twin(bench)).virtnbdbackup("full")


def bitmap(bench: Bench, repetition: int) -> dict[str, Figures]:
    small, other, large = disk(bench), twin(bench), wide(bench)
    changed = change(bench, small, other, large)
    peers, third = Peers(bench, small), Peers(bench, other)

    def by_rsync() -> Figures:
        copy = peers.rsync()
        bench.check("c", copy.path, bench.digest("a", small.disk), "rsync")
        return copy.figures

    contestants = {
        "ours": lambda: checked_image(bench, small, changed, by_bitmap=True),
        "ours, disk ten times as large": lambda: checked_image(bench, large, changed, by_bitmap=True),
        "rsync": by_rsync,
        "virtnbdbackup": lambda: third.virtnbdbackup("inc").figures,
    }
    figures = each(bench, contestants, repetition)
    # Restoring takes long and is not the measured thing, but each link of the chain has to be good.
    bench.check("c", third.restored(), bench.digest("a", other.disk), "virtnbdbackup")
    return figures


def digests(bench: Bench, repetition: int) -> dict[str, Figures]:
    guest = disk(bench)
    changed = change(bench, guest)
    peers = Peers(bench, guest)

    def by_rsync() -> Figures:
        copy = peers.rsync()
        bench.check("c", copy.path, bench.digest("a", guest.disk), "rsync")
        return copy.figures

    def by_ours() -> Figures:
        return {**checked_image(bench, guest, changed, by_bitmap=False), "bytes_changed": changed}

    contestants = {"ours": by_ours, "rsync": by_rsync}
    return each(bench, contestants, repetition)


def prepare_digests(bench: Bench) -> None:
    guest = disk(bench)
    _newest[guest.name] = Ours(bench, guest.name).take()
    Peers(bench, guest).rsync()


def prepare_standby(bench: Bench) -> None:
    guest = disk(bench)
    ours = Ours(bench, guest.name)
    _newest[guest.name] = ours.take()
    ours.refresh(_newest[guest.name].id)
    Peers(bench, guest).rsync_to_standby(ours.image(_newest[guest.name].id))


def standby(bench: Bench, repetition: int) -> dict[str, Figures]:
    guest = disk(bench)
    ours, peers = Ours(bench, guest.name), Peers(bench, guest)
    before = _newest[guest.name]
    changed = change(bench, guest)
    taken, _figures = next_image(bench, guest, changed, by_bitmap=True)
    wanted = bench.digest("a", guest.disk)

    def by_ours() -> Figures:
        result, seconds = ours.refresh(taken.id)
        bench.check("b", ours.generation(taken.id), wanted, "ours on the standby host")
        read = sum(entry["bytes_read"] for entry in result["disks"])
        if read > changed:
            raise RuntimeError(f"{read} bytes of the image were read to send {changed}")
        return {"seconds": seconds, "bytes_sent": result["bytes_sent"], "bytes_read": read}

    def by_rsync() -> Figures:
        copy = peers.rsync_to_standby(ours.image(taken.id))
        bench.check("b", copy.path, wanted, "rsync to the standby host")
        return copy.figures

    contestants = {"ours": by_ours, "rsync": by_rsync}
    figures = each(bench, contestants, repetition)
    ours.forget(before.id)
    bench.b.sh(f"rm -rf {ours.generation(before.id).rsplit('/', 1)[0]}")
    return figures


CASES = [
    Case(
        "bitmap",
        "1 % changed, found by the dirty bitmap",
        lambda bench: [disk(bench), twin(bench), wide(bench)],
        bitmap,
        prepare,
    ),
    Case("digests", "1 % changed, no bitmap", lambda bench: [disk(bench)], digests, prepare_digests),
    Case("standby", "1 % changed, from C to B", lambda bench: [disk(bench)], standby, prepare_standby),
]
