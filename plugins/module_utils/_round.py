# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far the verification of a store is, and what a run of it has to read. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from . import _clock
from ._digests import reread_slice
from ._errors import ResilientVmError

__all__ = ["Round", "merged", "todo"]

_EARLY = timedelta(hours=6)
Ranges = Sequence["tuple[int, int]"]


@dataclass(frozen=True)
class Round:
    """One disk's way from its first block to its last, over all images at once.

    ``started`` is when the running round began, ``proven`` when the last one that came to the end had begun: what
    was there then and has not been reported was right at that time or later.
    """

    next_block: int = 0
    started: str | None = None
    proven: str | None = None

    @classmethod
    def of(cls, document: Any) -> Round:
        """From what lies on the disk; whatever can't be is a round that begins."""
        known = document if isinstance(document, dict) else {}
        block = known.get("next_block")
        times = (known.get(name) for name in ("started", "proven"))
        return cls(block if isinstance(block, int) and block >= 0 else 0, *map(_time, times))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def begun(self, now: datetime) -> Round:
        return self if self.started else Round(0, _clock.iso(now), self.proven)

    def at(self, block: int, blocks: int) -> Round:
        """Having read everything before that block."""
        if block < blocks:
            return Round(block, self.started, self.proven)
        return Round(0, None, self.started)


def _time(value: Any) -> str | None:
    try:
        return _clock.iso(_clock.parse(value)) if isinstance(value, str) else None
    except ResilientVmError:
        return None


def merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """(first, count) ranges that may overlap, as ascending ones that don't."""
    joined: list[tuple[int, int]] = []
    for first, count in sorted(ranges):
        if joined and first <= sum(joined[-1]):
            begin, length = joined[-1]
            joined[-1] = (begin, max(length, first + count - begin))
        else:
            joined.append((first, count))
    return joined


def todo(blocks: int, state: Round, held: Ranges, days: int, now: datetime) -> tuple[int, int]:
    """(first block, count) of what one day has to read so that the round ends within its days.

    Days on which nothing ran are made up for by those that are left.
    """
    begun = state.begun(now)
    first = begun.next_block if begun.next_block < blocks else 0
    # A run that comes a little earlier than the day before's is one of another day all the same.
    gone = (now - _clock.parse(begun.started or _clock.iso(now)) + _EARLY).days
    ahead = [(max(begin, first), begin + count) for begin, count in held if begin + count > first]
    left = [(begin, end - begin) for begin, end in ahead]
    return reread_slice(blocks, first, max(1, days - max(gone, 0)), left)
