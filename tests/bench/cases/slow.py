# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Narrow and far links: how much of one is used, what is sent twice after interruptions, what the guest feels."""

from __future__ import annotations

import json
import random

from ..histogram import percentile
from ..links import far, narrow
from ..machines import MIB, REMOTE, Bench, Guest
from ..ours import Ours, Taken
from ..peers import Peers
from . import Case, Figures
from .full import disk

__all__ = ["CASES", "noise"]

MBIT = 100
ROUND_TRIP_MS = 20
_BYTES_A_SECOND = MBIT * 1_000_000 / 8
# So slow that a whole copy takes this long: points lie far enough apart to be hit one by one.
_RESUME_SECONDS = 40
_INTERRUPTIONS = 20
_RECEIVED = "/sys/class/net/eth0/statistics/rx_bytes"


def noise(bench: Bench) -> Guest:
    """A disk full of what no compressor makes smaller."""
    return Guest("noise", bench.size_mib // 8, bench.size_mib // 8, "noise")


def text(bench: Bench) -> Guest:
    return Guest("text", bench.size_mib // 4, bench.size_mib // 4, "text")


def slow_link(bench: Bench, _repetition: int) -> dict[str, Figures]:
    figures: dict[str, Figures] = {}
    with far(bench, ROUND_TRIP_MS), narrow(bench, MBIT):
        trip = bench.c.sh("ping -q -c 5 -i 0.2 a | tail -1").out
        for name, guest in (("ours, noise", noise(bench)), ("ours, text", text(bench))):
            ours = Ours(bench, guest.name)
            taken = ours.take(keep=False)
            bench.check("c", ours.image(taken.id), bench.digest("a", guest.disk), name)
            ours.forget(taken.id)
            figures[name] = _share(guest, taken.seconds)
        guest = noise(bench)
        copy = Peers(bench, guest).ssh_stream()
        bench.check("c", copy.path, bench.digest("a", guest.disk), "ssh stream")
        figures["ssh stream, noise"] = _share(guest, copy.seconds)
    return {**figures, "link": {"round_trip_ms": float(trip.split("=")[1].split("/")[1])}}


def _share(guest: Guest, seconds: float) -> Figures:
    return {"seconds": seconds, "share_of_link": guest.data_mib * MIB / seconds / _BYTES_A_SECOND}


def resume(bench: Bench, repetition: int) -> dict[str, Figures]:
    guest = noise(bench)
    ours = Ours(bench, guest.name)
    wanted = bench.digest("a", guest.disk)
    with narrow(bench, max(1, guest.data_mib * 8 // _RESUME_SECONDS)):
        before = received(bench)
        taken = ours.take(keep=False)
        whole = received(bench) - before
        bench.check("c", ours.image(taken.id), wanted, "ours")
        ours.forget(taken.id)
        interrupted = _interrupted(bench, ours, whole, random.Random(bench.seed + repetition), wanted)
    return {"uninterrupted": {"bytes": whole}, "interrupted": interrupted}


def received(bench: Bench) -> int:
    """Bytes that came to C over its network, headers and all."""
    return int(bench.c.sh(f"cat {_RECEIVED}").out)


def _interrupted(bench: Bench, ours: Ours, whole: int, chance: random.Random, wanted: str) -> Figures:
    """One image, its copy interrupted at random points by the death of either mover or of ssh."""
    unit = f"resilient-vm-fetch-acme.{ours.vm}.service"
    watcher = bench.another("c")
    deaths = {
        "receiver": (watcher, f"systemctl kill -s KILL {unit}"),
        # Patterns that do not match the words of their own shell.
        "sender": (bench.a, f"pkill -KILL -f 'resilient-v[m] forced acme/{ours.vm} '"),
        "ssh": (watcher, f"pkill -KILL -f '^ssh .*/{ours.vm} '"),
    }
    start = received(bench)
    snapshot, _opened = ours.open()
    ours.begin_fetch(snapshot["id"])
    for number, point in enumerate(sorted(chance.uniform(0.02, 0.95) for _each in range(_INTERRUPTIONS))):
        wait = _WAIT.format(received=_RECEIVED, reached=start + int(point * whole), unit=unit)
        killed = ""
        while not killed:
            while not watcher.sh(wait).out.strip():
                # Its retries were used up, or it was the unit that died.
                if ours.end_fetch() is not None:
                    raise RuntimeError(f"after {number} interruptions the copy was over before the one at {point:.0%}")
                ours.begin_fetch(snapshot["id"])
            hand, kill = deaths[chance.choice(sorted(deaths))]
            killed = hand.sh(_KILL.format(kill=kill)).out
    for _attempt in range(3):
        if (result := ours.end_fetch()) is not None:
            break
        ours.begin_fetch(snapshot["id"])
    else:
        raise RuntimeError(f"the interrupted copy did not end well: {ours.failure}")
    total = received(bench) - start
    watcher.close()
    ours.close()
    taken = Taken(snapshot, result, 0, 0)
    bench.check("c", ours.image(taken.id), wanted, "ours, interrupted")
    ours.forget(taken.id)
    return {"bytes": total}


# Prints a word when so much has come, and nothing when the copy ended before.
_WAIT = """\
for _try in {{1..100}}; do systemctl is-active -q {unit} && break; sleep 0.1; done
while [ "$(< {received})" -lt {reached} ]; do
  systemctl is-active -q {unit} || exit 0
  sleep 0.1
done
echo reached"""

# Between two attempts there is nobody to kill for some seconds.
_KILL = "for _try in {{1..100}}; do {kill} && echo killed && break; sleep 0.2; done"

# Writes of 4 KiB all over the disk, each with its fsync.
_WRITER = """\
read -r now rest < /proc/uptime
end=$((${{now%.*}} + {seconds}))
while [ "${{now%.*}}" -lt "$end" ]; do
  place=$(((RANDOM * 32768 + RANDOM) % {blocks}))
  dd if=/dev/urandom of=/dev/vda bs=4k count=1 seek=$place conv=notrunc,fsync 2> /dev/null
  read -r now rest < /proc/uptime
done"""


def guest_latency(bench: Bench, _repetition: int) -> dict[str, Figures]:
    guest = disk(bench)
    ours = Ours(bench, guest.name)
    seconds = max(3, 20 * bench.size_mib // 4096)

    def written() -> Figures:
        """An fsync is a write and a flush. The device tells: what the guest measures is its emulated processor too."""
        watch = ["python3", f"{REMOTE}/latency.py", guest.name]
        bench.a.run([*watch, "begin"])
        bench.world.in_guest(guest.name, _WRITER.format(seconds=seconds, blocks=guest.size_mib * MIB // 4096))
        seen = json.loads(bench.a.run([*watch, "end"]).out)
        flushes = sum(seen["flush"]["bins"])
        if flushes < 20:
            raise RuntimeError(f"the guest synced {flushes} times in {seconds} seconds; nothing can be said of that")

        def at(share: float) -> float:
            return sum(percentile(kind["boundaries"], kind["bins"], share) for kind in seen.values()) / 1e6

        return {"p99_ms": at(0.99), "median_ms": at(0.5), "syncs": flushes}

    alone = written()
    with narrow(bench, MBIT):
        snapshot, _opened = ours.open()
        ours.begin_fetch(snapshot["id"])
        during = written()
        unit = f"resilient-vm-fetch-acme.{guest.name}.service"
        # What was measured was measured beside a copy only if that still goes on.
        bench.another("c").sh(f"systemctl is-active {unit}; systemctl stop {unit}")
        if ours.end_fetch() is not None:
            raise RuntimeError("the copy was over before the guest's writes were")
        ours.close()
    bench.clean()
    return {"alone": alone, "during a backup": during}


CASES = [
    Case(
        "slow_link",
        f"a full copy over {MBIT} Mbit/s and {ROUND_TRIP_MS} ms",
        lambda bench: [noise(bench), text(bench)],
        slow_link,
        repetitions=3,
    ),
    Case(
        "resume",
        f"a full copy, interrupted {_INTERRUPTIONS} times: bytes received",
        lambda bench: [noise(bench)],
        resume,
        repetitions=1,
    ),
    Case(
        "guest",
        f"write and fsync in the guest during a copy over {MBIT} Mbit/s",
        lambda bench: [disk(bench)],
        guest_latency,
    ),
]
