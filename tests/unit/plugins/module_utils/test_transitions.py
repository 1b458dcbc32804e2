# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the table of transitions."""

from __future__ import annotations

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _transitions
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._transitions import CLOSED, PHASES, TABLE


def test_names_are_unique_and_phases_are_known() -> None:
    assert len({step.name for step in TABLE}) == len(TABLE)
    for step in TABLE:
        assert {*step.before, step.after} <= set(PHASES)
    assert set(CLOSED) < set(PHASES)


def test_every_change_of_the_active_host_is_a_new_epoch() -> None:
    assert all(step.new_epoch for step in TABLE if step.swaps)


def test_every_phase_can_be_reached_and_left() -> None:
    assert {step.after for step in TABLE} == set(PHASES)
    for phase in PHASES:
        assert [step for step in TABLE if phase in step.before and step.after != phase]


def test_from_every_phase_there_is_a_way_back_to_protected() -> None:
    home = {"protected"}
    for _round in PHASES:
        home |= {phase for step in TABLE if step.after in home for phase in step.before}
    assert home == set(PHASES)


def test_a_failover_leaves_the_old_host_without_a_word_before_the_new_one_starts() -> None:
    begun = _transitions.named("fail_over")
    assert begun.swaps
    assert not _transitions.named("finish_failover").swaps


def test_an_unknown_step_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ResilientVmError, match="there is no transition 'rollback'; it is one of protect, "):
        _transitions.named("rollback")
