# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims, in scenarios, about what an administrator sees when things go wrong: line by line."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.simulation.scenario import FOLDER, Scenario, play, read

ALL = [scenario for path in sorted(FOLDER.glob("*.txt")) for scenario in read(path)]


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
def test_what_is_seen(scenario: Scenario, tmp_path: Path) -> None:
    assert play(scenario, tmp_path) == scenario.expected


def test_there_are_many_each_with_a_name_of_its_own() -> None:
    assert len({scenario.name for scenario in ALL}) == len(ALL) >= 40
