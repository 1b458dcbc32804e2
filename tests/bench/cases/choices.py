# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine could do in several ways, each measured alone: what its constants were chosen by."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

from ..links import far
from ..machines import MIB, REMOTE, Bench
from ..ours import Ours
from . import Case, Figures, each
from .full import disk
from .slow import noise

__all__ = ["CASES"]

SENT = 512 * MIB
FAR_MS = 50
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "chacha20-poly1305@openssh.com")
KEX = ("sntrup761x25519-sha512@openssh.com", "curve25519-sha256")


def on_a(way: str) -> Callable[[Bench, int], dict[str, Figures]]:
    def measure(bench: Bench, _repetition: int) -> dict[str, Figures]:
        found: dict[str, Figures] = json.loads(bench.a.run(["/usr/bin/python3", f"{REMOTE}/choices.py", way]).out)
        return found

    return measure


def reads(bench: Bench, _repetition: int) -> dict[str, Figures]:
    ours = Ours(bench, disk(bench).name)
    ours.open()
    try:
        words = ["/usr/bin/python3", f"{REMOTE}/choices.py", "reads", "acme", ours.vm]
        found: dict[str, Figures] = json.loads(bench.a.run(words).out)
        return found
    finally:
        ours.close()


def ciphers(bench: Bench, repetition: int) -> dict[str, Figures]:
    def by(cipher: str) -> Figures:
        done = bench.c.sh(f"ssh -o Ciphers={cipher} a head -c {SENT} /dev/zero > /dev/null")
        return {"mb_per_second": SENT / 1e6 / done.seconds}

    return each(bench, {name: partial(by, name) for name in CIPHERS}, repetition)


def key_exchange(bench: Bench, repetition: int) -> dict[str, Figures]:
    def by(method: str) -> Figures:
        return {"seconds": bench.c.sh(f"ssh -o KexAlgorithms={method} a true").seconds}

    return each(bench, {name: partial(by, name) for name in KEX}, repetition)


def streams(bench: Bench, repetition: int) -> dict[str, Figures]:
    guest = noise(bench)

    def over(wish: str) -> Figures:
        ours = Ours(bench, guest.name, streams=wish)
        taken = ours.take(keep=False)
        bench.check("c", ours.image(taken.id), bench.digest("a", guest.disk), f"over {wish} streams")
        ours.forget(taken.id)
        return {"mb_per_second": guest.data_mib * MIB / 1e6 / taken.seconds, "streams": taken.result["streams"]}

    with far(bench, FAR_MS):
        return each(bench, {f"streams: {wish}": partial(over, wish) for wish in ("1", "2", "4", "auto")}, repetition)


CASES = [
    Case(
        "hashes",
        "digests of blocks of 64 KiB",
        lambda bench: [disk(bench)],
        on_a("hashes"),
        why="SHA-256: with the processors' own instructions the fastest of those that nobody can forge and every host "
        "has.",
    ),
    Case(
        "blocks",
        "sizes of a block, by SHA-256",
        lambda bench: [disk(bench)],
        on_a("blocks"),
        why="64 KiB: what QEMU's dirty bitmaps and qcow2's clusters tell apart. Smaller blocks find no smaller change "
        "by a bitmap and multiply the digests, larger ones send neighbours that did not change.",
    ),
    Case(
        "threads",
        "threads that make digests",
        lambda bench: [disk(bench)],
        on_a("threads"),
        why="One at either end, beside the one that receives: reading, packing, ssh and writing have threads "
        "and processes of their own, which take the other processors. Reading and hashing in turns took a "
        "tenth longer for a whole comparison, and with six pieces waiting for their digests that takes 2.6 "
        "s where two make it 2.8.",
    ),
    Case(
        "reads",
        "reading an open snapshot over its socket",
        lambda bench: [disk(bench)],
        reads,
        why="1 MiB, eight at once. Scattered changes are read by 64 KiB, of which eight at once bring four times what "
        "one does; of 1 MiB four would do as well (a whole comparison took 3.0 s with four and 3.1 with eight).",
    ),
    Case(
        "levels",
        "zstd's levels, on text",
        lambda bench: [disk(bench)],
        on_a("levels"),
        why="1, and 3 where the link takes less than a tenth of what is packed meanwhile. Faster ones are hardly "
        "faster, stronger ones take several times as long for little.",
    ),
    Case(
        "ciphers",
        "one ssh connection, by its cipher",
        lambda bench: [disk(bench)],
        ciphers,
        why="aes128-gcm first, where both hosts allow it: with AES instructions the fastest that is also authenticated "
        "in one go.",
    ),
    Case(
        "key exchange",
        "opening an ssh connection, by its key exchange",
        lambda bench: [disk(bench)],
        key_exchange,
        why="OpenSSH's own order. What a hybrid with a post-quantum method costs at the start of each copy is paid: "
        "whoever records a copy today must not read it when X25519 is broken.",
    ),
    Case(
        "streams",
        f"a copy of noise over a line of {FAR_MS} ms",
        lambda bench: [noise(bench)],
        streams,
        repetitions=3,
        why="auto: one, and three more beyond 5 ms once the first is seen to be held up by OpenSSH's window of 2 MiB. "
        "Each costs two processes of ssh, and the program that delays the line here is a limit of its own.",
    ),
]
