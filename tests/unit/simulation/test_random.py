# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about one VM in random worlds: whatever happens, the invariants hold, and it comes to rest.

A world that failed is tried again by its number: ``simulate(number)``.
"""

from __future__ import annotations

import pytest
from unit.simulation.chaos import simulate

BATCH = 100


@pytest.mark.parametrize("number", range(25))
def test_in_a_few_worlds(number: int) -> None:
    simulate(number)


@pytest.mark.soak
@pytest.mark.parametrize("batch", range(1, 41))
def test_in_thousands_of_worlds(batch: int) -> None:
    for number in range(batch * BATCH, (batch + 1) * BATCH):
        simulate(number, steps=200)
