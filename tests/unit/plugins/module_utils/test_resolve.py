# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about machines that disagree: whose disks count is said once, by a person, at a newer epoch than any known."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _resolve
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._state import State, followed, stepped
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._transitions import PHASES, named

NOW = datetime(2026, 1, 15, 2, tzinfo=timezone.utc)
OFF = {"exists": True, "uuid": "u", "state": "shut off"}
PLAN = {
    "vm": "erp",
    "domain": "erp-prod",
    "production": "a",
    "standby": "b",
    "backup_storage": "c",
    "machines": ["a", "b", "c"],
}


def state(epoch: int = 1, active: str = "a", phase: str = "protected") -> State:
    standby = "b" if active == "a" else "a"
    return State("acme", "erp", "erp-prod", "u", epoch, active, standby, phase, "then", "site", None, None)


def told(states: dict[str, State], **changed: dict[str, Any]) -> dict[str, dict[str, Any]]:
    fact = {"answered": True, "version": "1.0.0 abc", "domain": OFF}
    return {name: {**fact, "state": each.as_dict(), **changed.get(name, {})} for name, each in states.items()}


def decide(to: str | None, states: dict[str, State], **changed: dict[str, Any]) -> _resolve.Decision:
    return _resolve.decide({**PLAN, "resolve_to": to}, told(states, **changed), "1.0.0")


def carried_out(decision: _resolve.Decision, states: dict[str, State]) -> dict[str, State]:
    """What the documents are after the playbook, by the product's own rules for them."""
    after = dict(states)
    if decision.newer is not None:
        after["c"] = followed(after["c"], State.from_json(decision.newer, "a document"))
    epoch = decision.epoch
    for step in decision.steps:
        after["c"] = stepped(after["c"], named(step), epoch, NOW, "resolve")
    for host in (decision.standby, decision.active):
        after[host] = followed(after[host], after["c"])
    return after


ANY = some.builds(
    state, some.integers(1, 4), some.sampled_from("ab"), some.sampled_from(sorted({*PHASES} - {"unprotected"}))
)


@given(some.fixed_dictionaries(dict.fromkeys("abc", ANY)), some.sampled_from("ab"))
def test_whatever_they_say_afterwards_they_agree_at_an_epoch_that_nobody_knew(
    states: dict[str, State], to: str
) -> None:
    decision = decide(to, states)
    if decision.action == "nothing":
        assert len({(each.epoch, each.active) for each in states.values()}) == 1
        assert states["c"].phase != "split_brain"
        return
    after = carried_out(decision, states)
    known = {(each.epoch, each.active, each.phase) for each in after.values()}
    assert known == {(max(each.epoch for each in states.values()) + 1, to, "failed_over")}
    # Said once more, nothing is left to be done.
    assert decide(to, after).action == "nothing"


def test_where_they_agree_nothing_is_done_and_that_is_told() -> None:
    decision = decide("b", {name: state() for name in "abc"})
    assert (decision.action, decision.active, decision.steps) == ("nothing", "a", [])
    assert "agree that a is the active host of erp (epoch 1, phase protected)" in decision.why


def test_a_run_that_was_cut_off_after_its_first_step_goes_on() -> None:
    decision = decide("a", {**{name: state() for name in "ab"}, "c": state(phase="split_brain")})
    assert (decision.action, decision.steps) == ("resolve", ["resolve_here"])


@pytest.mark.parametrize(
    ("to", "changed", "sentence"),
    [
        (None, {}, "resilient_vm_resolve_to is not set; name the host whose disks of erp count: a or b"),
        ("c", {}, "resilient_vm_resolve_to is c; name the host"),
        ("a", {"b": {"answered": False, "msg": "b is off"}}, "b is off; what counts is resolved when all three"),
        ("a", {"b": {"domain": {**OFF, "state": "running"}}}, "erp is running on b, whose disks shall not count; shut"),
        (
            "a",
            {"a": {"domain": {"exists": False}}},
            "domain erp-prod is not on a, so that nothing of erp counts there; nam",
        ),
        (
            "a",
            {"a": {"domain": {**OFF, "disks": [{"target": "vda", "path": "/x", "size_bytes": None}]}}},
            "disk vda of erp can't be read on a (/x), so that it could not run there; bring it back, or name b",
        ),
        ("a", {"b": {"version": "0.9.0 old"}}, "the mover on b is 0.9.0 old"),
        ("a", {"c": {"state": None}}, "erp has no state document on c"),
        ("a", {"b": {"state": state(phase="unprotected").as_dict()}}, "erp is not protected by b any more"),
        ("a", {"b": {"state": {**state().as_dict(), "standby": "d"}}}, "b knows erp on a and d, and the inventory"),
    ],
)
def test_what_is_in_the_way_is_one_sentence(to: str | None, changed: dict[str, Any], sentence: str) -> None:
    states = {"a": state(), "b": state(2, "b"), "c": state()}
    with pytest.raises(ResilientVmError) as refusal:
        decide(to, states, **changed)
    assert sentence in str(refusal.value) and len(refusal.value.facts["problems"]) == 1


def test_it_may_run_where_its_disks_count() -> None:
    states = {"a": state(), "b": state(2, "b"), "c": state()}
    assert decide("a", states, a={"domain": {**OFF, "state": "running"}}).steps == ["find_split_brain", "resolve_there"]
