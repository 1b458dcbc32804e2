# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Percentiles of what was only counted between bounds. Pure."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["percentile"]


def percentile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float:
    """The bound under which that share of all lies; ``counts`` has one more entry, for what lies above all bounds."""
    if len(counts) != len(bounds) + 1:
        raise ValueError(f"{len(counts)} counts do not fit {len(bounds)} bounds")
    wanted, seen = share * sum(counts), 0
    for bound, count in zip(bounds, counts, strict=False):
        seen += count
        if seen >= wanted:
            return bound
    raise ValueError("more lies above all bounds than may")
