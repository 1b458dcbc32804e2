# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about how a copy is waited for and what is shown meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.action import image_transfer
from ansible_collections.edgecloud.resilient_vm.plugins.plugin_utils._remote import RemoteAction

STILL = {
    "reachable": True,
    "running": True,
    "token": "t1",
    "attached": False,
    "progress": {"image_id": "20260114T020000Z"},
}
DONE = {"reachable": True, "changed": True, "image_id": "20260114T020000Z", "published": True}
SILENT = {"reachable": False, "failed": True, "msg": "machine c can't be reached"}


class Turns:
    """Answers the module's turns one after the other, and keeps what each was asked and what was shown."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self.shown: list[tuple[str, bool]] = []
        monkeypatch.setattr(RemoteAction, "run", lambda action, _tmp, _vars: self.turn(action))
        monkeypatch.setattr(image_transfer, "Display", lambda: SimpleNamespace(display=self.display))
        monkeypatch.setattr(image_transfer.time, "sleep", lambda _seconds: None)

    def turn(self, action: Any) -> dict[str, Any]:
        self.asked.append(dict(action._task.args))
        return dict(self.answers.pop(0))

    def display(self, text: str, stderr: bool) -> None:
        self.shown.append((text, stderr))

    def run(self) -> dict[str, Any]:
        action = image_transfer.ActionModule.__new__(image_transfer.ActionModule)
        action._task = SimpleNamespace(args={"hop": "fetch", "vm": "erp"})
        return action.run(None, {"inventory_hostname": "erp"})


def test_a_short_copy_is_one_turn_and_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(monkeypatch, DONE)
    assert turns.run() == DONE
    assert turns.shown == []
    assert "token" not in turns.asked[0]


def test_a_long_copy_is_followed_by_its_token_and_shown_beside_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(monkeypatch, STILL, STILL, DONE)
    assert turns.run() == DONE
    assert [turn.get("token") for turn in turns.asked] == [None, "t1", "t1"]
    assert turns.shown == [("erp: image 20260114T020000Z", True)] * 2


def test_a_machine_out_of_sight_for_a_while_does_not_end_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(monkeypatch, STILL, SILENT, SILENT, DONE)
    assert turns.run() == DONE


def test_a_machine_that_never_answers_is_a_failure_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Turns(monkeypatch, SILENT).run() == SILENT


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Turns(monkeypatch, STILL, *[SILENT] * 21).run() == SILENT


def test_a_failed_copy_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = {"reachable": True, "failed": True, "msg": "no space"}
    assert Turns(monkeypatch, STILL, failed).run() == failed
