# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts and a backup storage around a takeover from the standby host alone."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from unit.claim_fakes import PLAN, STATE, claims, holds

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import (
    _alone,
    _ask_storage,
    _change,
    _claim,
    _claimed,
    _journal,
    _laid_plan,
    _promote,
)
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._alone import Alone
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._claim import Claim
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._clock import iso, now
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._look import GATEWAY, Target
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._state import State

COMMAND = "resilient-vm takeover acme/erp"


class Killed(BaseException):
    """The command is gone, whatever it was about to do."""


@dataclass
class World:
    """Hosts a and b and backup storage c, each a folder. C's answers are the real ones, over a line of text."""

    place: Path
    patch: pytest.MonkeyPatch
    # Who reaches a, or the guest: "b:a c:erp".
    sees: set[str] = field(default_factory=set)
    silent: bool = False
    running: bool = False
    starts: int = 0
    kill_at: int = 0
    steps: int = 0
    said: list[str] = field(default_factory=list)
    plan: dict[str, Any] = field(default_factory=lambda: dict(PLAN))

    def __post_init__(self) -> None:
        for layout in (self.b, self.c):
            Path(layout.directory).mkdir(parents=True)
            for path in (layout.lock, layout.asked):
                Path(path).touch()
            os.utime(layout.asked, (0, 0))
            holds(layout, STATE)
        Path(self.c.plan).write_text(json.dumps(_laid_plan.laid(PLAN)))
        held = {"current": {"id": "g", "instant": iso(now()), "epoch": 1, "complete": True, "damaged": []}}
        set_to = self.patch.setattr
        set_to(_alone, "look", lambda targets, *_more: self.looked("b", targets))
        set_to(_claimed, "look", lambda targets, *_more: self.looked("c", targets))
        set_to(_alone, "standbys_of", lambda *_given: {"acme/erp": {"answered": True, "unfit": [], **held}})
        set_to(_alone._host, "domains_of", lambda *_given: {"acme/erp": self.domain})
        set_to(_alone, "way_out", lambda: [Target(GATEWAY, "192.0.2.1", 53)])
        set_to(_alone.Itself, "ask", self.step(_alone.Itself.ask))
        set_to(_alone, "take_over", self.take_over)
        set_to(_alone, "intend", self.step(_promote.intend))
        set_to(_alone, "withdraw", self.step(_promote.withdraw))
        set_to(_change, "follow", self.step(_change.follow))

    @property
    def b(self) -> Layout:
        return Layout("acme", "erp", str(self.place / "b"))

    @property
    def c(self) -> Layout:
        return Layout("acme", "erp", str(self.place / "c"))

    @property
    def domain(self) -> dict[str, Any]:
        return {"exists": True, "state": "running" if self.running else "shut off"}

    def looked(self, machine: str, targets: list[Any]) -> dict[str, str]:
        up = {"b"} | ({"c"} if not self.silent else {"its gateway"})
        up |= {seen.partition(":")[2] for seen in self.sees if seen.startswith(machine)}
        return {target.name: "port 22 answers" if target.name in up else "" for target in targets}

    def step(self, effect: Callable[..., Any]) -> Callable[..., Any]:
        """The command may be killed before it and after it."""

        def done(*given: Any, **more: Any) -> Any:
            self.mark()
            result = effect(*given, **more)
            self.mark()
            return result

        return done

    def mark(self) -> None:
        self.steps += 1
        if self.steps == self.kill_at:
            raise Killed

    def take_over(self, layout: Layout, given: Mapping[str, Any], dry: bool) -> dict[str, Any]:
        """What the module's room does, with a machine that starts."""
        assert not dry
        decided = State.from_json(given["document"], "document")
        _change.follow(layout, decided, given["who"], now())
        state = _change.held(layout)
        assert (state.active, state.epoch) == (given["host"], given["epoch"]), "started where it must not run"
        self.mark()
        self.starts += not self.running
        self.running = True
        self.mark()
        _promote.withdraw(layout, given["epoch"])
        return {
            "generation": "g",
            "data_time": "t",
            "guest": "answers",
            "port": "not asked",
            "remarks": [],
            "seconds": {"start": 0.1},
        }

    def ask(self, claim: Claim) -> dict[str, Any]:
        self.mark()
        if self.silent:
            raise _ask_storage.Unreachable("backup storage c can't be reached (no route to it)")
        answer = claims(self.c, "b").answer(_claim.parse(_claim.line(claim).encode()))
        self.mark()
        return dict(json.loads(json.dumps(answer)))

    def type(self, confirm: str = "", **plan: Any) -> None:
        storage = type("Door", (), {"ask": staticmethod(self.ask)})()
        options = {"despite_findings": False, "takeover_point": None, "without_backup_storage": False}
        given = {**_laid_plan.laid(self.plan), **options, **plan}

        def run(*_words: Any, **_more: Any) -> Completed:
            return Completed(0, "running" if self.running else "shut off", "")

        Alone(self.b, "b", "1+x protocol 3", "mary", given, storage, run, self.said.append).go(confirm, COMMAND)

    def word(self, **plan: Any) -> str:
        with pytest.raises(ResilientVmError) as refused:
            self.type(**plan)
        found = re.search(rf"{COMMAND}.* --confirm (\S+)\n", _alone.as_typed(str(refused.value)))
        assert found, str(refused.value)
        return found.group(1)

    def journal(self) -> list[str]:
        return [entry["what"] for entry in _journal.read(self.c.journal)]
