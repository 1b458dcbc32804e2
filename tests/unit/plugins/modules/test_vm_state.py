# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about vm_state as a module: a step on the backup storage, followed by a host."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _journal
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._state import State
from ansible_collections.edgecloud.resilient_vm.plugins.modules import vm_state

Run = Callable[..., dict[str, Any]]
FIRST = State("acme", "erp", "erp", "u", 1, "a", "b", "protected", "2026-01-01T00:00:00Z", "site")


@pytest.fixture
def args(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "acme/erp").mkdir(parents=True)
    (tmp_path / "acme/erp/state.json").write_text(json.dumps(FIRST.as_dict()))
    return {"root": str(tmp_path), "customer": "acme", "vm": "erp", "who": "mary"}


def test_a_step_is_planned_taken_and_not_taken_twice(run_module: Run, args: dict[str, Any]) -> None:
    step = {**args, "transition": "fail_over", "epoch": 1, "why": "a burnt down", "now": "2026-01-14T02:00:00Z"}
    planned = run_module(vm_state, step, check_mode=True, diff=True)
    done = run_module(vm_state, step, diff=True)
    assert planned == done
    assert done["changed"] is True
    assert [done["diff"][side]["active"] for side in ("before", "after")] == ["a", "b"]
    assert done["state"]["why"] == "a burnt down"
    refused = run_module(vm_state, step)
    assert "somebody else was faster" in refused["msg"]


def test_a_host_follows_once(run_module: Run, args: dict[str, Any], tmp_path: Path) -> None:
    moved = {**FIRST.as_dict(), "epoch": 2, "active": "b", "standby": "a", "phase": "failed_over"}
    answers = [run_module(vm_state, {**args, "document": moved}) for _time in range(2)]
    assert [answer["changed"] for answer in answers] == [True, False]
    assert answers[1]["state"] == moved
    assert [entry["what"] for entry in _journal.read(str(tmp_path / "acme/erp/journal.jsonl"))] == ["follow"]
    refused = run_module(vm_state, {**args, "document": FIRST.as_dict()})
    assert "is told of epoch 1 with a active" in refused["msg"]
