# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What images take on C, and what it takes to be rid of one."""

from __future__ import annotations

from ..machines import MIB, Bench, Guest
from ..ours import Ours, Taken
from . import Case, Figures
from .full import disk

__all__ = ["CASES", "tera"]

DAYS = 14
BLOCK = 64 << 10


def tera(bench: Bench) -> Guest:
    """A disk of 1 TiB, almost empty."""
    return Guest("tera", 1 << 20, bench.size_mib // 8)


def used(bench: Bench) -> int:
    """Bytes the filesystem of C's images counts as used."""
    return int(bench.c.sh("sync -f /var/lib/resilient-vm; df -B1 --output=used /var/lib/resilient-vm | tail -1").out)


def space(bench: Bench, repetition: int) -> dict[str, Figures]:
    bench.clean()
    guest = disk(bench)
    ours = Ours(bench, guest.name)
    empty = used(bench)
    taken: Taken = ours.take(now="2026-01-01T02:00:00Z")
    one = used(bench) - empty
    for day in range(2, DAYS + 1):
        # 1 % of what one image takes.
        bench.scatter(guest.name, one // 100 // BLOCK, guest.size_mib, 100 * repetition + day)
        taken = ours.take(taken.base, now=f"2026-01-{day:02d}T02:00:00Z")
    bench.check("c", ours.image(taken.id), bench.digest("a", guest.disk), "the last day's image")
    return {"one image": {"bytes": one}, f"{DAYS} images": {"bytes": used(bench) - empty}}


def erase(bench: Bench, repetition: int) -> dict[str, Figures]:
    bench.clean()
    guest = tera(bench)
    ours = Ours(bench, guest.name)
    first = ours.take(now="2026-01-01T02:00:00Z")
    bench.check("c", ours.image(first.id), bench.digest("a", guest.disk), "the first image")
    bench.scatter(guest.name, 100, guest.size_mib, repetition)
    last = ours.take(now="2026-01-15T02:00:00Z")
    bench.c.sh("sync -f /var/lib/resilient-vm")
    erased, seconds = ours.prune(retention_days=DAYS, minimum=1)
    if erased != [first.id]:
        raise RuntimeError(f"{erased} was erased, and {first.id} was to be")
    bench.check("c", ours.image(last.id), bench.digest("a", guest.disk), "the image that stays")
    return {"ours": {"seconds": seconds, "bytes_of_the_disk": guest.size_mib * MIB}}


CASES = [
    Case("space", f"{DAYS} days at 1 % a day on C", lambda bench: [disk(bench)], space, repetitions=1),
    Case("erase", "one day of a sparse disk of 1 TiB erased", lambda bench: [tera(bench)], erase),
]
