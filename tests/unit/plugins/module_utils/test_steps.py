# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what an owner wants done beside a change of hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _step_record, _steps
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout

DNS = {"server": "192.0.2.53", "record": "erp.acme.example.", "type": "A", "ttl": 60}
ROUTE: dict[str, Any] = {"name": "route", "command": ["move-route", "erp"], "when": "before_start", "seconds": 5}
NAME: dict[str, Any] = {
    "name": "name",
    "nsupdate": {**DNS, "value": {"a": "192.0.2.80", "b": "198.51.100.80"}, "key_file": "/etc/acme.key"},
    "host": "backup_storage",
    "verify": {"command": ["dig", "erp"], "host": "control"},
    "undo": {"tasks": "/etc/undo.yml"},
}
PLAN: dict[str, Any] = {"vm": "erp", "backup_storage": "c", "takeover_steps": [ROUTE, NAME], "guest_checks": None}
BEGUN: dict[str, Any] = {"move": "failover", "steps": []}


def names(recorded: dict[str, Any], moment: str = "", plan: dict[str, Any] | None = None) -> list[str]:
    return [step["name"] for step in _steps.left(plan or PLAN, recorded, "b", "a", 2, moment)]


def test_steps_are_taken_in_their_order_each_at_its_moment() -> None:
    assert _steps.problems([ROUTE, NAME], "erp") == []
    assert names(BEGUN) == ["route", "name"]
    assert names(BEGUN, "before_start") == ["route"]
    assert names(BEGUN, "running") == ["name"]
    assert names(BEGUN, "running", {**PLAN, "guest_checks": "checks.yml"}) == ["name", "guest checks"]


def test_each_is_done_on_its_machine_and_verified() -> None:
    route, name = _steps.left(PLAN, BEGUN, "b", "a", 2)
    assert route["actions"] == [
        {"what": "step", "machine": "b", "seconds": 5, "argv": ["move-route", "erp"], "stdin": "", "tasks": ""}
    ]
    assert route["environment"]["RESILIENT_VM_ACTIVE_HOST"] == "b"
    update, verify = name["actions"]
    assert (update["machine"], update["argv"]) == ("c", ["nsupdate", "-k", "/etc/acme.key"])
    assert update["stdin"].splitlines() == [
        "server 192.0.2.53",
        "update delete erp.acme.example. A",
        "update add erp.acme.example. 60 A 198.51.100.80",
        "send",
    ]
    assert (verify["what"], verify["machine"], verify["argv"]) == ("verify", "localhost", ["dig", "erp"])


def test_a_rerun_takes_what_has_not_succeeded_and_what_was_changed() -> None:
    marks = {step["name"]: step["mark"] for step in _steps.left(PLAN, BEGUN, "b", "a", 2)}
    told = [{"name": name, "mark": mark, "passed": name == "route"} for name, mark in marks.items()]
    assert names({**BEGUN, "steps": told}) == ["name"]
    changed = {**PLAN, "takeover_steps": [{**ROUTE, "command": ["other"]}, NAME]}
    assert names({**BEGUN, "steps": told}, plan=changed) == ["route", "name"]
    assert names({"move": "", "steps": []}) == [], "no move of this epoch took any"


def test_what_was_done_last_is_undone_first() -> None:
    plan = {**PLAN, "takeover_steps": [{**ROUTE, "undo": {"command": ["back"]}}, NAME]}
    assert names({"move": "failover_undo", "steps": []}, plan=plan) == ["undo name", "undo route"]
    assert names({"move": "failover_undo", "steps": []}) == ["undo name"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"command": ["x"]}, "step 1 in resilient_vm_takeover_steps of erp has no name of its own"),
    ({"name": "x"}, "has nothing to do; write exactly one of command, nsupdate, tasks"),
    ({"name": "x", "command": ["x"], "tasks": "y"}, "has command and tasks; write exactly one of"),
    ({"name": "x", "command": "touch x"}, "has no list of texts as its command"),
    ({"name": "x", "command": ["x"], "host": "standby"}, "host: standby; it takes active or backup_storage or control"),
    ({"name": "x", "command": ["x"], "when": "later"}, "when: later; it takes before_start or running"),
    ({"name": "x", "command": ["x"], "seconds": "soon"}, "seconds: soon; it takes a whole number"),
    ({"name": "x", "command": ["x"], "undu": {}}, "has undu, which is none of"),
    ({"name": "x", "tasks": ""}, "names no file of tasks"),
    ({"name": "x", "tasks": "moved.yml"}, "names no file of tasks; write its absolute path on the control node"),
    ({"name": "x", "tasks": "/m.yml", "host": "control"}, "has host beside tasks, which run on the control node"),
    ({"name": "x", "tasks": "/m.yml", "seconds": 5}, "has seconds beside tasks, which run on the control node"),
    ({"name": "x", "tasks": "/m.yml", "when": "before_start"}, "has tasks before the start, where a machine that"),
    (
        {"name": "x", "command": ["x"], "when": "before_start", "verify": {"tasks": "/v.yml"}},
        "has tasks before the start",
    ),
    ({"name": "x", "command": ["x"], "verify": {"when": "running"}}, "verify of step x"),
    ({"name": "x", "command": ["x"], "undo": "back.sh"}, "undo of step x in resilient_vm_takeover_steps of erp is no"),
    ({"name": "x", "nsupdate": DNS}, "lacks value"),
    ({"name": "x", "nsupdate": "erp"}, "is no mapping"),
    ({"name": "x", "nsupdate": {**DNS, "value": "1\nsend"}}, "which is no word of one line"),
    ({"name": "x", "nsupdate": {**DNS, "value": "1", "record": "a b"}}, "which is no word of one line"),
]


@pytest.mark.parametrize(("step", "why"), WRONG)
def test_a_step_that_can_not_be_taken_is_told_at_once(step: dict[str, Any], why: str) -> None:
    assert why in "\n".join(_steps.problems([step], "erp"))


def test_two_steps_of_one_name_are_told_apart_by_nobody() -> None:
    assert len(_steps.problems([ROUTE, ROUTE], "erp")) == 2


def test_what_came_of_steps_is_kept_for_one_epoch(tmp_path: Path) -> None:
    layout = Layout("acme", "erp", str(tmp_path))
    Path(layout.directory).mkdir(parents=True)
    Path(layout.lock).touch()
    step = {"name": "route", "mark": "1", "passed": False, "seconds": 0.1, "said": "no"}
    nothing: dict[str, Any] = {"move": "", "steps": []}
    assert _step_record.keep(layout, 2, "failover", None, dry=True) == (nothing, BEGUN)
    assert _step_record.read(layout, 2) == nothing
    assert _step_record.keep(layout, 2, "failover", None) == (nothing, BEGUN)
    assert _step_record.keep(layout, 2, "switchover", None) == (BEGUN, BEGUN)
    assert _step_record.keep(layout, 2, None, step)[1]["steps"] == [step]
    assert _step_record.keep(layout, 2, None, {**step, "passed": True})[1]["steps"] == [{**step, "passed": True}]
    assert _step_record.read(layout, 3) == nothing
    assert _step_record.keep(layout, 3, "switchover", None)[0] == nothing
