# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about who is made a standby again, and when not."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._reprotect import Decision, decide

PLAN: dict[str, Any] = {
    "vm": "erp",
    "backup_storage": "c",
    "machines": ["a", "b", "c"],
    "machine_settings": {name: {"reserve_bytes": 1 << 30} for name in "abc"},
}
STATE = {"epoch": 2, "active": "b", "standby": "a", "phase": "failed_over", "uuid": "u", "changed": "then"}
NEWEST = {"id": "20260115T020000Z", "bytes_allocated": 9, "disks": [{"target": "vda", "size_bytes": 512, "more": 1}]}


def asked(phase: str = "failed_over", has_image: bool = True, **hosts: dict[str, Any]) -> Decision:
    told = {
        name: {
            "answered": True,
            "state": {**STATE, "phase": phase} if name == "c" else {**STATE, "epoch": 1},
            "version": "1.0.0 abc",
            "domain": {"exists": True, "state": "running" if name == "b" else "shut off"},
            **hosts.get(name, {}),
        }
        for name in "abc"
    }
    return decide(PLAN, told, {"c": {"newest": NEWEST if has_image else None}}, "1.0.0")


@pytest.mark.parametrize("phase", ["failed_over", "reprotecting"])
def test_the_host_that_it_left_is_made_ready(phase: str) -> None:
    decision = asked(phase)
    assert (decision.action, decision.standby, decision.epoch) == ("prepare", "a", 2)
    assert decision.begun == (phase == "reprotecting")
    assert (decision.image_id, decision.disks) == (NEWEST["id"], [{"target": "vda", "size_bytes": 512}])


def test_where_somebody_stands_by_there_is_nothing_to_do() -> None:
    assert asked("protected").action == "nothing"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"a": {"answered": False, "msg": "a can't be reached"}}, "a can't be reached; nothing stands by before all"),
        ({"b": {"answered": False}}, "machine b gave no answer"),
        ({"c": {"state": None}}, "erp has no state document on c"),
        ({"a": {"state": None}}, "erp has no state document on a"),
        ({"a": {"state": {**STATE, "epoch": 3}}}, "a holds epoch 3 of erp, and the backup storage epoch 2"),
        ({"a": {"version": "0.9.0 abc"}}, "the mover on a is 0.9.0 abc, not this collection's"),
        ({"a": {"domain": {"exists": True, "state": "running"}}}, "erp is running on a, and lives on b since then"),
        ({"phase": "split_brain"}, "erp is in phase split_brain, from which there is no reprotect"),
        ({"has_image": False}, "c has no whole image of erp that a could be given"),
    ],
)
def test_what_is_in_the_way_is_said_first(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ResilientVmError) as refusal:
        asked(**given)
    assert sentence in str(refusal.value)


def test_what_c_was_not_told_of_is_for_daily_also_right_after_a_night() -> None:
    """Which has the generations, and knows that the image of that night is what it was taken over from."""
    before = {**STATE, "epoch": 1, "active": "a", "standby": "b", "phase": "protected"}
    night = {**NEWEST, "epoch": 1}
    hosts = {
        name: {
            "answered": True,
            "state": {**before, "unwitnessed": None},
            "domain": {"exists": True, "state": "shut off"},
        }
        for name in "abc"
    }
    hosts["b"]["state"] = {**STATE, "unwitnessed": "2026-01-15T02:03:00Z"}
    with pytest.raises(ResilientVmError) as refusal:
        decide({**PLAN, "max_clock_skew_seconds": 300}, hosts, {"c": {"newest": night, "images": [night]}}, "1.0.0")
    assert str(refusal.value).endswith("and has still to be told; run the daily playbook, which does it")
