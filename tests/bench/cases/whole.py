# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole cycle under Ansible, and the memory of both movers."""

from __future__ import annotations

import resource
import time

from ..machines import REMOTE, Bench, Guest
from ..ours import Ours
from . import Case, Figures
from .full import disk
from .store import tera

__all__ = ["CASES"]


def small(bench: Bench) -> list[Guest]:
    """Many machines that are off."""
    return [Guest(f"small{number:03d}", 64) for number in range(1, bench.vms + 1)]


def daily(bench: Bench, names: list[str], force: bool) -> Figures:
    """The playbook as a user runs it: seconds, and the control node's processor time with all its children."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    bench.world.play("daily", "--limit", ",".join(names), inventory=[bench.inventory], timeout=7200, force=force)
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": spent}


def prepare_daily(bench: Bench) -> None:
    daily(bench, [disk(bench).name], force=False)


def idle(bench: Bench, _repetition: int) -> dict[str, Figures]:
    one = disk(bench).name
    figures = {
        "daily, an image is due": daily(bench, [one], force=True),
        "daily, nothing is due": daily(bench, [one], force=False),
    }
    ours = Ours(bench, one)
    newest = bench.c.sh(f"ls {ours.image('.').rsplit('/', 2)[0]} | tail -1").out.strip()
    bench.check("c", ours.image(newest), bench.digest("a", disk(bench).disk), "daily")
    return figures


def many(bench: Bench, _repetition: int) -> dict[str, Figures]:
    names = [guest.name for guest in small(bench)]
    alone = daily(bench, names[:1], force=True)
    together = daily(bench, names, force=True)
    for name in names:
        folder = Ours(bench, name).image(".").rsplit("/", 2)[0]
        if not bench.c.sh(f"ls {folder}").out.split():
            raise RuntimeError(f"{name} has no image after the daily playbook")
    further = (together["cpu_seconds"] - alone["cpu_seconds"]) / (len(names) - 1)
    return {
        "one VM": alone,
        f"{len(names)} VMs": together,
        "each further VM": {"cpu_seconds": further},
    }


def memory(bench: Bench, _repetition: int) -> dict[str, Figures]:
    """Two copies of each disk, everything and what digests find; the most that a mover and its helpers held."""
    bench.clean()
    figures: dict[str, Figures] = {}
    for guest in (disk(bench), tera(bench)):
        ours = Ours(bench, guest.name)
        watchers = {"sender": bench.another("a"), "receiver": bench.another("c")}
        flag = f"{REMOTE}/stop"
        for watcher in watchers.values():
            watcher.sh(f"rm -f {flag}")
            watcher.begin(["python3", f"{REMOTE}/memory.py", f"acme/{guest.name}", flag])
        ours.take(keep=False)
        bench.scatter(guest.name, 64, guest.size_mib, bench.seed)
        taken = ours.take(keep=False)
        bench.a.sh(f"touch {flag}")
        bench.c.sh(f"touch {flag}")
        for end, watcher in watchers.items():
            figures[f"{end}, disk of {guest.size_mib} MiB"] = {"mib": float(watcher.end().out)}
            watcher.close()
        bench.check("c", ours.image(taken.id), bench.digest("a", guest.disk), "ours")
    most = max(found["mib"] for found in figures.values())
    return {**figures, "the larger end": {"mib": most}}


CASES = [
    Case("memory", "resident memory of the movers", lambda bench: [disk(bench), tera(bench)], memory, repetitions=1),
    Case("idle", "daily with nothing changed, one VM", lambda bench: [disk(bench)], idle, prepare_daily, repetitions=3),
    Case("many", "daily with many stopped VMs", small, many, repetitions=1, stopped=True),
]
