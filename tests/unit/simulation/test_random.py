# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about one VM in random worlds: whatever happens, the invariants hold, and it comes to rest."""

from __future__ import annotations

import pytest
from unit.simulation.chaos import simulate


@pytest.mark.parametrize("seed", range(40))
def test_in_a_few_worlds(seed: int) -> None:
    simulate(seed)
