# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about a planned change of hosts: what it does in each phase, and when it doesn't."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._switch import Decision, decide
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._transitions import PHASES, named

PLAN: dict[str, Any] = {
    "vm": "erp",
    "backup_storage": "c",
    "machines": ["a", "b", "c"],
    "despite_findings": False,
    "switch_to": "b",
}
STATE = {"epoch": 1, "active": "a", "standby": "b", "phase": "protected", "uuid": "u"}
CURRENT = {"complete": True, "damaged": [], "epoch": 1}


def asked(
    to: str | None = "b", phase: str = "protected", standby: dict[str, Any] | None = None, **hosts: dict[str, Any]
) -> Decision:
    told = {
        name: {
            "answered": True,
            "state": {**STATE, "phase": phase},
            "version": "1.0.0 abc",
            "domain": {"exists": True, "state": "running" if name == "a" else "shut off"},
            **hosts.get(name, {}),
        }
        for name in "abc"
    }
    held = {"current": CURRENT, "unfit": [], **(standby or {})}
    return decide({**PLAN, "switch_to": to}, told, {"a": {}, "b": held}, "1.0.0")


@pytest.mark.parametrize(
    ("epoch", "current", "runs", "starts"),
    [
        (4, None, False, False),
        (4, 1, False, False),
        (4, 2, False, True),
        (4, 3, False, True),
        (4, None, True, True),
    ],
)
def test_it_starts_nothing_that_no_planned_change_has_brought_there(
    epoch: int, current: int | None, runs: bool, starts: bool
) -> None:
    """A takeover was undone, and that was cut off: what lies there is of the time when it last stood by, or nothing."""
    host = {"answered": True, "state": {**STATE, "epoch": epoch, "phase": "reprotecting"}, "version": "1.0.0 abc"}
    there = {**host, "domain": {"exists": True, "state": "running" if runs else "shut off"}}
    held = {"current": current and {**CURRENT, "epoch": current}}
    refused = pytest.raises(ResilientVmError, match="where failover_undo was cut off, run that again")
    with contextlib.nullcontext() if starts else refused:
        decision = decide({**PLAN, "switch_to": "a"}, {"a": there, "b": host, "c": host}, {"a": held}, "1.0.0")
        assert decision.action == "start"


@pytest.mark.parametrize(
    ("to", "phase", "action"),
    [
        ("b", "protected", "switch"),
        ("a", "protected", "nothing"),
        ("a", "failed_over", "nothing"),
        ("b", "switching", "resume"),
        ("a", "switching", "give_up"),
    ],
)
def test_what_it_does_depends_on_where_it_lives_and_on_what_was_begun(to: str, phase: str, action: str) -> None:
    assert asked(to, phase).action == action


@given(to=st.sampled_from(["a", "b", "c", None]), phase=st.sampled_from(sorted(PHASES)))
def test_it_never_begins_a_step_that_the_table_has_not(to: str | None, phase: str) -> None:
    try:
        decision = asked(to, phase)
    except ResilientVmError:
        return
    if decision.action == "switch":
        assert phase in named("begin_switch").before
    if decision.action == "resume":
        assert phase in named("switch").before
    if decision.action == "give_up":
        assert phase in named("give_up_switch").before


@pytest.mark.parametrize(
    ("given_", "sentence"),
    [
        ({"to": None}, "resilient_vm_switch_to is not set for erp; set it to b, or to a, where it lives"),
        ({"to": "c"}, "resilient_vm_switch_to names c for erp"),
        ({"phase": "failed_over"}, "run the reprotect playbook first, so that somebody stands by"),
        ({"phase": "restoring"}, "bring that to its end first"),
        ({"b": {"answered": False, "msg": "b is off"}}, "b is off; a planned change of hosts needs all three machines"),
        ({"c": {"state": None}}, "erp has no state document on c"),
        ({"b": {"state": {**STATE, "epoch": 2, "active": "b"}}}, "b holds epoch 2 of erp with b active"),
        ({"a": {"version": None}}, "the mover on a is missing"),
        ({"a": {"domain": {"exists": False, "state": None}}}, "erp is not there on a; start it there first"),
        ({"a": {"domain": {"exists": True, "state": "paused"}}}, "erp is paused on a; start it there first"),
        (
            {"to": "a", "a": {"domain": {"exists": True, "state": "shut off"}}},
            "erp lives on a already, and is shut off",
        ),
        ({"b": {"domain": {"exists": True, "state": "running"}}}, "erp runs on b, which only stands by for it"),
        ({"standby": {"current": None}}, "b holds no whole generation of erp; run the daily playbook first"),
        ({"standby": {"unfit": ["no bridge"]}}, "b could not start erp: no bridge"),
    ],
)
def test_what_is_in_the_way_is_said_first(given_: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ResilientVmError) as refusal:
        asked(**given_)
    assert sentence in str(refusal.value)


def test_one_that_its_host_can_not_start_moves_as_well() -> None:
    assert asked("b", a={"domain": {"exists": True, "state": "shut off"}}).action == "switch"


def test_giving_up_needs_nothing_of_the_other_host() -> None:
    assert asked("a", "switching", {"unfit": ["no bridge"], "current": None}).action == "give_up"
