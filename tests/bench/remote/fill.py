# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills a stopped machine's qcow2 disk with data like a server's: text, noise, repetition and zeros, with gaps.

Usage: fill.py FILE MIB KIND SEED. MIB of data are spread evenly over the whole disk; KIND is mixed, noise or text.
"""

from __future__ import annotations

import random
import sys

import nbd

MIB = 1 << 20
# Files lie together: data and gaps come in runs of this many MiB.
RUN = 4
WORDS = ("request", "served", "session", "opened", "failed", "user", "order", "invoice", "customer", "cache", "retry")


class Content:
    """Pieces of 1 MiB, no two alike but for zeros."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        lines = []
        for number in range(40_000):
            words = " ".join(self._random.choices(WORDS, k=self._random.randint(3, 12)))
            lines.append(
                f"2026-01-{number % 28 + 1:02d}T02:{number % 60:02d}:17Z host{number % 7} app[{number}]: {words}"
            )
        self._text = "\n".join(lines).encode()

    def text(self) -> bytes:
        """Like a log; a fast compressor makes it some times smaller."""
        start = self._random.randrange(len(self._text) - MIB)
        return b"%020d" % self._random.getrandbits(60) + self._text[start + 20 : start + MIB]

    def noise(self) -> bytes:
        return self._random.randbytes(MIB)

    def same(self) -> bytes:
        """One half zeros that were written, one half a pattern."""
        return bytes(MIB) if self._random.random() < 0.5 else (b"%016d" % self._random.getrandbits(50)) * (MIB // 16)

    def piece(self, kind: str) -> bytes:
        chosen = self._random.choice(("text", "noise", "same")) if kind == "mixed" else kind
        return {"text": self.text, "noise": self.noise, "same": self.same}[chosen]()


def main() -> None:
    path, mebibytes, kind, seed = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    content = Content(seed)
    handle = nbd.NBD()
    handle.connect_systemd_socket_activation(["qemu-nbd", "-f", "qcow2", "--cache=writeback", path])
    size_mib = handle.get_size() // MIB
    runs = max(1, mebibytes // RUN)
    for number in range(runs):
        # Whole runs at even distances, the last possibly shorter than the space after it.
        first = number * size_mib // runs
        for index in range(min(RUN, mebibytes - number * RUN)):
            handle.pwrite(content.piece(kind), (first + index) * MIB)
    handle.flush()
    handle.shutdown()


if __name__ == "__main__":
    main()
