# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about vm_drill_command: a command in a twin, through its agent, and what came of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from unit.libvirt_fakes import UUID, World, refused, said

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _guest
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._virsh import Virsh
from ansible_collections.edgecloud.resilient_vm.plugins.modules import vm_drill_command

Run = Callable[..., dict[str, Any]]


def agent(*statuses: dict[str, Any], monkeypatch: pytest.MonkeyPatch | None = None) -> World:
    """A libvirt whose guest's agent tells these statuses one after the other."""
    told, asked = list(statuses), []

    def answer(words: list[str]) -> Any:
        question = json.loads(words[2])
        asked.append(question)
        if question["execute"] == "guest-exec":
            assert question["arguments"] == {"path": "test", "arg": ["-d", "/srv"], "capture-output": True}
            return said('{"return": {"pid": 7}}')
        assert question["arguments"] == {"pid": 7}
        return said(json.dumps({"return": told.pop(0) if len(told) > 1 else told[0]}))

    world = World({"virsh list": said(f"{UUID} erp-drill\n"), "virsh qemu-agent-command": answer})
    if monkeypatch is not None:
        monkeypatch.setattr(vm_drill_command, "run", world)
    return world


def ended(**members: Any) -> dict[str, Any]:
    return {"exited": True, **members}


ARGUMENTS = {"name": "erp-drill", "argv": ["test", "-d", "/srv"]}


def test_what_it_printed_is_told(run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = base64.b64encode(b"yes\n").decode()
    agent({"exited": False}, ended(exitcode=0, **{"out-data": printed}), monkeypatch=monkeypatch)
    done = run_module(vm_drill_command, ARGUMENTS)
    assert (done["rc"], done["stdout"], done["stderr"]) == (0, "yes", "")


def test_a_command_that_fails_or_is_killed_fails_the_task(run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = base64.b64encode(b"no such folder\n").decode()
    agent(ended(exitcode=2, **{"err-data": wrong}), monkeypatch=monkeypatch)
    done = run_module(vm_drill_command, ARGUMENTS)
    assert done["failed"] and done["msg"] == "test -d /srv failed in the twin with 2: no such folder"
    agent(ended(signal=9), monkeypatch=monkeypatch)
    assert run_module(vm_drill_command, ARGUMENTS)["msg"] == "test -d /srv failed in the twin with -9: no message"


def test_without_a_twin_or_an_agent_it_says_so(run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    world = agent(ended(exitcode=0), monkeypatch=monkeypatch)
    assert (
        "no twin web-drill runs on this host" in run_module(vm_drill_command, {**ARGUMENTS, "name": "web-drill"})["msg"]
    )
    assert "argv is empty" in run_module(vm_drill_command, {**ARGUMENTS, "argv": []})["msg"]
    world.answers["virsh qemu-agent-command"] = refused("error: Guest agent is not responding")
    assert "Guest agent is not responding" in run_module(vm_drill_command, ARGUMENTS)["msg"]


def test_it_is_not_waited_for_for_ever() -> None:
    world, at = agent({"exited": False}), [0.0]
    with pytest.raises(ResilientVmError, match="has not ended in erp-drill within 5 seconds"):
        _guest.command(
            Virsh(world), "erp-drill", ARGUMENTS["argv"], 5, lambda: at[0], lambda s: at.append(at.pop() + s)
        )
