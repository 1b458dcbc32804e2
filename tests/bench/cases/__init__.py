# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured. A case measures every contestant once; repeated, their runs are interleaved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..machines import Bench, Guest

__all__ = ["Case", "Figures", "each"]

# What one contestant took: seconds, bytes and the like, by name.
Figures = dict[str, float]


@dataclass(frozen=True)
class Case:
    """``prepare`` brings everything to the same start; ``measure`` is then called once a repetition.

    ``repetitions`` is the most that make sense for a case that is long by its nature. Which guests must be there is
    asked of ``guests``; those in ``stopped`` stay off. ``why``: what was chosen by these figures, and why.
    """

    name: str
    title: str
    guests: Callable[[Bench], Sequence[Guest]]
    measure: Callable[[Bench, int], dict[str, Figures]]
    prepare: Callable[[Bench], None] | None = None
    repetitions: int = 100
    stopped: bool = False
    why: str = ""


def each(bench: Bench, contestants: Mapping[str, Callable[[], Figures]], repetition: int) -> dict[str, Figures]:
    """Measure every contestant, each in the first place in turn, and none while the disks still write what the one
    before it left to them (a copy of 2 GiB took four times as long then)."""
    names, shift = list(contestants), repetition % len(contestants)
    found = {}
    for name in [*names[shift:], *names[:shift]]:
        bench.settle()
        found[name] = contestants[name]()
    return found
