# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about a takeover that is undone: by a word about the state as it is, where there is a way back."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._undo import Decision, decide

STATE = {"epoch": 2, "active": "b", "standby": "a", "phase": "failed_over", "uuid": "u", "changed": "then"}
OFF = {"exists": True, "uuid": "u", "state": "shut off"}


def asked(confirm: str = "", changed: dict[str, Any] | None = None, **hosts: dict[str, Any]) -> Decision:
    state = {**STATE, **(changed or {})}
    told = {
        name: {
            "answered": True,
            "state": {**STATE, "epoch": 1, "active": "a", "standby": "b"} if name == "a" else state,
            "version": "1.0.0 abc",
            "domain": OFF if name == "a" else {**OFF, "state": "running"},
            **hosts.get(name, {}),
        }
        for name in "abc"
    }
    plan = {"vm": "erp", "backup_storage": "c", "machines": ["a", "b", "c"], "confirm": confirm}
    return decide(plan, told, "1.0.0")


def test_it_wants_a_word_that_is_good_for_the_state_as_it_is() -> None:
    first = asked()
    assert first.action == "confirm" and "what was written since then is then only in images" in first.why
    assert asked(first.word).action == "undo"
    assert asked(f"other@b#1,{first.word}").action == "undo"
    assert asked(first.word, {"changed": "later"}).action == "confirm"
    assert asked(first.word, {"epoch": 4}).action == "confirm"


def test_one_that_was_cut_off_after_it_was_decided_is_started() -> None:
    back = {"phase": "reprotecting", "active": "a", "standby": "b", "epoch": 3}
    assert asked(changed=back).action == "start"
    with pytest.raises(ResilientVmError, match="in which there is no takeover to be undone"):
        asked(changed=back, a={"domain": {**OFF, "state": "running"}})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"a": {"answered": False, "msg": "a is off"}}, "a is off; a takeover is undone when all three machines"),
        ({"c": {"state": None}}, "erp has no state document on c"),
        ({"changed": {"phase": "protected"}}, "erp is in phase protected, in which there is no takeover to be undone"),
        ({"a": {"domain": {"exists": False}}}, "a no longer has the machine that erp was taken over from"),
        ({"a": {"domain": {**OFF, "uuid": "v"}}}, "a no longer has the machine that erp was taken over from"),
        ({"a": {"domain": {**OFF, "state": "running"}}}, "erp is running on a as well; shut it down there"),
        ({"a": {"state": {**STATE, "epoch": 3}}}, "a holds a newer state document of erp"),
        ({"b": {"version": None}}, "the mover on b is missing"),
    ],
)
def test_what_is_in_the_way_is_said_first(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ResilientVmError) as refusal:
        asked(**given)
    assert sentence in str(refusal.value)
