# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Full copies from A to C."""

from __future__ import annotations

from ..machines import Bench, Guest
from ..ours import Ours
from ..peers import PeerCopy, Peers
from . import Case, Figures, each

__all__ = ["CASES", "disk", "twin"]


def disk(bench: Bench) -> Guest:
    """The disk most cases copy: half of it holds data."""
    return Guest("disk", bench.size_mib, bench.size_mib // 2)


def twin(bench: Bench) -> Guest:
    """The same disk for virtnbdbackup, which wants checkpoints of its own."""
    return Guest("twin", bench.size_mib, twin_of="disk", boots=False)


def measure(bench: Bench, repetition: int) -> dict[str, Figures]:
    guest = disk(bench)
    ours, peers, other = Ours(bench, guest.name), Peers(bench, guest), Peers(bench, twin(bench))
    wanted = bench.digest("a", guest.disk)

    def by_ours() -> Figures:
        # Right before, as the peers' are: memory that was just given back is written to in a fraction of the time.
        ours.forget("*")
        taken = ours.take(keep=False)
        bench.check("c", ours.image(taken.id), wanted, "ours")
        return {"seconds": taken.seconds, "open_seconds": taken.open_seconds, "bytes_sent": taken.result["bytes_sent"]}

    def checked(name: str, copy: PeerCopy) -> Figures:
        bench.check("c", copy.path, wanted, name)
        return copy.figures

    def by_virtnbdbackup() -> Figures:
        copy = other.virtnbdbackup("full")
        bench.check("c", other.restored(), wanted, "virtnbdbackup")
        return copy.figures

    contestants = {
        "ours": by_ours,
        "nbdcopy": lambda: checked("nbdcopy", peers.through_nbd("nbdcopy")),
        "qemu-img convert": lambda: checked("qemu-img convert", peers.through_nbd("qemu-img")),
        "rsync": lambda: checked("rsync", peers.rsync(anew=True)),
        "virtnbdbackup": by_virtnbdbackup,
        "ssh stream": lambda: checked("ssh stream", peers.ssh_stream()),
    }
    figures = each(bench, contestants, repetition)
    return {**figures, "cp --reflink": checked("cp --reflink", peers.reflink())}


CASES = [
    Case(
        "full",
        "a full copy from A to C over ssh, all blocks checked",
        lambda bench: [disk(bench), twin(bench)],
        measure,
    )
]
