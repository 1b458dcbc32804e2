# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about a takeover that stays: the backup storage decides, and nobody else has to be there."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._commit import Decision, decide
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError

STATE = {"epoch": 2, "active": "b", "standby": "a", "phase": "failed_over", "uuid": "u", "changed": "then"}
OLDER = {**STATE, "epoch": 1, "active": "a", "standby": "b", "phase": "protected"}
ALONE = {**STATE, "unwitnessed": "2026-01-14T02:00:00Z"}
SILENT = {"answered": False, "msg": "it is off"}


def asked(changed: dict[str, Any] | None = None, **hosts: dict[str, Any]) -> Decision:
    told = {
        name: {"answered": True, "state": {**STATE, **(changed or {})}, "version": "1.0.0 abc", **hosts.get(name, {})}
        for name in "abc"
    }
    plan = {"vm": "erp", "backup_storage": "c", "machines": ["a", "b", "c"], "max_clock_skew_seconds": 60}
    return decide(plan, told, "1.0.0")


def test_it_stays_whoever_is_down_but_the_backup_storage() -> None:
    assert (asked().action, asked().followers) == ("commit", ["a", "b"])
    assert (asked(a=SILENT).action, asked(a=SILENT).followers) == ("commit", ["b"])
    assert (asked(a=SILENT, b=SILENT).action, asked(a=SILENT, b=SILENT).followers) == ("commit", [])


@pytest.mark.parametrize("phase", ["reprotecting", "protected"])
def test_where_there_is_no_way_back_nothing_is_done(phase: str) -> None:
    assert asked({"phase": phase}).action == "nothing"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"c": SILENT}, "it is off; it keeps which host erp lives on"),
        ({"c": {"state": None}}, "erp has no state document on c"),
        ({"c": {"version": "0.9.0 abc"}}, "the mover on c is 0.9.0 abc, not this collection's"),
        ({"changed": {"phase": "failing_over"}}, "erp is in phase failing_over, in which there is no takeover to be"),
        ({"a": {"state": {**STATE, "epoch": 3}}}, "a holds a newer state document of erp"),
        ({"b": {"state": ALONE}, "a": {"state": OLDER}, "c": {"state": OLDER}}, "b took erp over by itself at 2026"),
    ],
)
def test_what_is_in_the_way_is_said_first(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ResilientVmError) as refusal:
        asked(**given)
    assert sentence in str(refusal.value)
