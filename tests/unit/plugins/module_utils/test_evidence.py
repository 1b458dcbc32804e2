# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the decision of an unplanned takeover, over its whole truth table."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._evidence import (
    ACTIONS,
    POWER,
    Evidence,
    decide,
)

DOWN = Evidence(
    vm="erp",
    active="a",
    standby="b",
    backup_storage="c",
    vm_answers=False,
    seen_by_control=False,
    seen_by_standby=False,
    seen_by_backup_storage=False,
    standby_sees_backup_storage=True,
    fencing=False,
    power="unknown",
    confirmed=False,
)
BOTH = (False, True)
WORLD = [
    replace(
        DOWN,
        vm_answers=answers,
        seen_by_control=control,
        seen_by_standby=standby,
        seen_by_backup_storage=storage,
        standby_sees_backup_storage=link,
        fencing=fencing,
        power=power,
        confirmed=confirmed,
    )
    for answers, control, standby, storage, link, fencing, power, confirmed in product(
        BOTH, BOTH, (*BOTH, None), (*BOTH, None), BOTH, BOTH, POWER, BOTH
    )
]


@pytest.mark.parametrize(
    ("changes", "action", "why"),
    [
        ({}, "confirm", "nobody sees a, but only somebody who knows can say that it is off"),
        ({"confirmed": True}, "take", "the operator confirmed that it is off"),
        ({"fencing": True}, "fence", "it is powered off to be sure"),
        ({"fencing": True, "power": "off"}, "take", "nobody sees a, and it is off (c: off)"),
        (
            {"fencing": True, "power": "failed"},
            "confirm",
            "its fence agent can't say that it is off (c: x), but only som",
        ),
        ({"fencing": True, "power": "failed", "confirmed": True}, "take", "and the operator confirmed that it is off"),
        (
            {"fencing": True, "power": "on", "confirmed": True},
            "refuse",
            "a could not be powered off (c: on); switch it",
        ),
        ({"vm_answers": True, "confirmed": True}, "refuse", "erp runs on a; shut it down there first"),
        ({"seen_by_control": True, "confirmed": True}, "refuse", "a can be reached"),
        ({"seen_by_backup_storage": True, "confirmed": True}, "refuse", "c still reach a: only the way to it"),
        ({"seen_by_standby": True, "confirmed": True}, "refuse", "b still reach a: only the way to it from here is cu"),
        ({"standby_sees_backup_storage": False, "confirmed": True}, "refuse", "it may be b that is cut off"),
        ({"seen_by_standby": None, "confirmed": True}, "refuse", "standby host b can't be reached"),
        ({"seen_by_backup_storage": None, "confirmed": True}, "refuse", "backup storage c can't be reached"),
    ],
)
def test_each_row(changes: dict[str, object], action: str, why: str) -> None:
    said = {"off": "c: off", "on": "c: on", "failed": "c: x"}.get(str(changes.get("power")), "")
    decision = decide(replace(DOWN, fenced=said, **changes))  # type: ignore[arg-type]
    assert decision.action == action
    assert why in decision.why


def test_whatever_is_seen_there_is_one_answer_in_one_sentence() -> None:
    for seen in WORLD:
        decision = decide(seen)
        assert decision.action in ACTIONS
        assert decision.why and "\n" not in decision.why


def test_it_is_taken_only_from_a_host_that_is_proven_off_or_that_nobody_sees() -> None:
    taken = [seen for seen in WORLD if decide(seen).action == "take"]
    assert taken
    for seen in taken:
        assert seen.standby_sees_backup_storage
        assert None not in (seen.seen_by_standby, seen.seen_by_backup_storage)
        assert not any((seen.vm_answers, seen.seen_by_control, seen.seen_by_standby, seen.seen_by_backup_storage))
        if seen.power != "off":
            assert seen.confirmed and seen.power != "on"
            assert seen.power == "failed" or not seen.fencing


def test_a_word_counts_only_where_no_fence_agent_could_say() -> None:
    for seen in WORLD:
        if (seen.fencing and seen.power == "unknown") or seen.power in ("on", "off"):
            assert decide(seen) == decide(replace(seen, confirmed=not seen.confirmed))


def test_a_host_that_is_seen_is_never_taken_over_whatever_its_fence_agent_says() -> None:
    for seen in WORLD:
        for name in ("vm_answers", "seen_by_control", "seen_by_standby", "seen_by_backup_storage"):
            assert decide(replace(seen, **{name: True})).action != "take"
