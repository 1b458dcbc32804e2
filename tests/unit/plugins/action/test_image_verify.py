# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about how the turns of a verification become one result."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.action import image_verify
from ansible_collections.edgecloud.resilient_vm.plugins.plugin_utils._remote import RemoteAction

MENDED = {"image": "20260114T020000Z", "disk": "vda", "offset_bytes": 0, "from": "20260113T020000Z"}


def turn(running: bool, **more: Any) -> dict[str, Any]:
    quiet = {"read_bytes": 4 << 20, "shared_bytes": 1 << 20, "repaired": [], "told": [], "changed": False}
    return {"running": running, "goal": {"vda": 9} if running else {}, **quiet, "damaged": [], "wrong": [], **more}


def run(monkeypatch: pytest.MonkeyPatch, *turns: dict[str, Any]) -> tuple[dict[str, Any], list[Any], list[str]]:
    answers, asked, shown = list(turns), [], []

    def answer(action: Any, _tmp: None, _vars: None) -> dict[str, Any]:
        asked.append(action._task.args.get("goal"))
        return answers.pop(0)

    def display(text: str, stderr: bool) -> None:
        assert stderr
        shown.append(text)

    monkeypatch.setattr(RemoteAction, "run", answer)
    monkeypatch.setattr(image_verify, "Display", lambda: SimpleNamespace(display=display))
    action = image_verify.ActionModule.__new__(image_verify.ActionModule)
    action._task = SimpleNamespace(args={"vm": "erp", "store": "images"})
    return action.run(None, {"inventory_hostname": "erp"}), asked, shown


def test_turns_are_added_up_and_the_last_one_says_what_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    first = turn(True, repaired=[MENDED], told=["mended"], changed=True, wrong=["is being mended"])
    result, asked, shown = run(monkeypatch, first, turn(True), turn(False, wrong=["is damaged"]))
    assert asked == [None, {"vda": 9}, {"vda": 9}]
    assert shown == ["erp: verifying images, 4.0 MiB read", "erp: verifying images, 8.0 MiB read"]
    assert (result["read_bytes"], result["shared_bytes"], result["changed"]) == (12 << 20, 3 << 20, True)
    assert (result["repaired"], result["told"], result["wrong"]) == ([MENDED], ["mended"], ["is damaged"])


def test_a_turn_that_fails_is_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = {"failed": True, "msg": "machine c can't be reached"}
    result, _asked, _shown = run(monkeypatch, turn(True), failed)
    assert result == failed
