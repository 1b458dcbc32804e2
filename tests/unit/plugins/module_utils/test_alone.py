# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about a takeover from the standby host alone: its words, its order, and a kill between any two steps."""

from __future__ import annotations

import itertools
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from unit.alone_fakes import Killed, World
from unit.claim_fakes import PLAN, STATE

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import (
    _alone,
    _ask_storage,
    _change,
    _journal,
    _laid_plan,
    _mover,
)
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._ask_storage import Storage
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._claim import Claim
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._registry import Entry, Place


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_it_asks_for_the_word_and_with_it_takes_over(world: World) -> None:
    word = world.word()
    assert not world.running and _change.held(world.c) == STATE
    world.type(word)
    assert world.running and world.journal() == ["fail_over", "finish_failover"]
    told = "\n".join(world.said)
    assert "erp runs on b (epoch 2), taken over from a" in told
    assert "not taken, since only the control node can: DNS" in told and "secret" not in told
    kept = [_journal.read(layout.journal)[-1] for layout in (world.b, world.c)]
    assert [entry["who"] for entry in kept] == ["mary@b", "mary@b"]
    assert kept[0]["evidence"] == kept[1]["evidence"]["report"]
    assert kept[0]["evidence"]["evidence"]["control"] == "not there: b looked in its place"
    assert not os.path.exists(world.b.intent)


def test_the_demand_is_the_playbooks_with_the_command_to_type_here(world: World) -> None:
    with pytest.raises(ResilientVmError) as refused:
        world.type()
    lines = _alone.as_typed(str(refused.value)).splitlines()
    assert lines[0].startswith("nobody sees a, but only somebody who knows can say that it is off. See that a is off")
    assert re.fullmatch(r"  resilient-vm takeover acme/erp --confirm erp@a#1-[0-9a-f]{8}", lines[1])
    assert lines[2].startswith("That starts erp on b from g: what was written since ")


def test_a_fence_agent_is_out_of_reach_and_the_word_counts(world: World) -> None:
    world.plan["machine_settings"] = {
        **PLAN["machine_settings"],
        "a": {**PLAN["machine_settings"]["a"], "fence_agent": "fence_ipmilan"},
    }
    with pytest.raises(
        ResilientVmError, match=r"its fence agent can't say that it is off .*it can't be asked from here"
    ):
        world.type()
    world.type(world.word())
    assert world.running


REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"sees": {"b:a"}}, "erp is not taken over: a can be reached; shut erp down there"),
    ({"sees": {"c:a"}}, "c still reach a: only the way to it from here is cut"),
    ({"sees": {"c:erp"}}, "erp runs on a; shut it down there first"),
    ({"silent": True}, "backup storage c can't be reached"),
]


@pytest.mark.parametrize(("changes", "why"), REFUSALS)
def test_what_is_seen_stops_it(world: World, changes: dict[str, Any], why: str) -> None:
    world.plan["guest_address"] = "192.0.2.80:443"
    Path(world.c.plan).write_text(json.dumps(_laid_plan.laid(world.plan)))
    word = world.word()
    for name, value in changes.items():
        setattr(world, name, value)
    for given in ("", word):
        with pytest.raises(ResilientVmError, match=why):
            world.type(given)
    assert not world.running and not world.journal() and not os.path.exists(world.b.intent)


def test_a_claim_that_is_refused_leaves_nothing_behind_and_makes_every_word_void(world: World) -> None:
    word = world.word()
    os.utime(world.c.asked)
    with pytest.raises(ResilientVmError, match="so it is up"):
        world.type(word)
    assert not os.path.exists(world.b.intent) and _change.held(world.c) == STATE
    os.utime(world.c.asked, (0, 0))
    with pytest.raises(ResilientVmError, match="not the last one that was asked for"):
        world.type(word)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"active": "a", "standby": "d"}, "erp lives on a since epoch 1 .*, and b does not stand by for it"),
        ({"active": "b", "standby": "a"}, "b is the active host of erp already, where it is shut off; start it with"),
    ],
)
def test_another_host_is_not_the_one_to_take_it(world: World, state: dict[str, Any], why: str) -> None:
    seen = {**STATE.as_dict(), **state}
    answer = {"state": seen, "version": "1+x protocol 3", "seen": {}}
    world.patch.setattr(World, "ask", lambda _self, _claim: answer)
    with pytest.raises(ResilientVmError, match=why):
        world.type()


def test_where_it_runs_already_nothing_is_done(world: World) -> None:
    world.type(world.word())
    world.type()
    assert "erp runs on b since it was taken over at" in world.said[-1]
    assert world.starts == 1 and world.journal() == ["fail_over", "finish_failover"]


def test_killed_between_any_two_steps_it_goes_on(tmp_path: Path) -> None:
    """And never starts twice, is never decided twice, and is never started undecided."""
    marks = []
    for kill_at in itertools.count(1):
        with pytest.MonkeyPatch.context() as patch:
            world = World(tmp_path / str(kill_at), patch)
            word = world.word()
            world.steps, world.kill_at = 0, kill_at
            try:
                world.type(word)
            except Killed:
                marks.append((_change.held(world.c).phase, world.running))
            else:
                break
            world.kill_at = 0
            try:
                world.type()
            except ResilientVmError:
                assert _change.held(world.c) == STATE, "decided, and yet another word is asked for"
                world.type(world.word())
            assert world.running and world.starts == 1
            assert world.journal() == ["fail_over", "finish_failover"]
            assert _change.held(world.b) == _change.held(world.c)
            assert not os.path.exists(world.b.intent)
    assert set(marks) == {
        ("protected", False),
        ("failing_over", False),
        ("failing_over", True),
        ("failed_over", True),
    }


@pytest.mark.parametrize(
    ("sentence", "typed"),
    [
        ("run it again with -e resilient_vm_max_data_loss_hours=34 to go on", "--max-data-loss-hours 34 to go on"),
        ("or run it again with -e resilient_vm_despite_findings=true", "again with --despite-findings"),
        ("run failover without resilient_vm_confirm, and it names", "run takeover without --confirm, and it names"),
        (
            "erp is in phase failed_over, from which there is no failover",
            "phase failed_over, from which there is no tak",
        ),
    ],
)
def test_settings_are_said_as_options_that_there_are(sentence: str, typed: str) -> None:
    said = _alone.as_typed(sentence)
    assert typed in said
    known = _alone._parser().format_help()
    assert all(option in known for option in re.findall(r"--[a-z-]+", said))


def _storage(done: Completed) -> Storage:
    entry = Entry("u", "acme", "erp", "b", "/state.json", "rvm-acme", False, False, ())
    return Storage(entry, Place("c", "192.0.2.13", 22), lambda *_words, **_more: done)


@pytest.mark.parametrize(
    ("done", "why"),
    [
        (
            Completed(255, "", "ssh: No route to host\n"),
            "backup storage c can't be reached, and it has to decide; bring it back, or mend what cuts b off (ssh: No",
        ),
        (Completed(1, "", "x\nresilient-vm: this key may only ask"), "c takes no claims: resilient-vm: this key may"),
        (Completed(0, '{"refused": "a asked"}', ""), "c refuses: a asked"),
        (Completed(0, "no json", ""), "c takes no claims"),
    ],
)
def test_what_the_storage_does_not_answer_is_said(done: Completed, why: str) -> None:
    with pytest.raises(ResilientVmError, match=re.escape(why)):
        _storage(done).ask(Claim("look"))


def test_the_plan_that_is_laid_holds_no_secret_and_is_read_back(world: World) -> None:
    found = _laid_plan.read(world.c)
    assert "secret" not in json.dumps(found) and found["addresses"] == PLAN["addresses"]
    Path(world.c.plan).write_text('{"schema": 1}')
    with pytest.raises(ResilientVmError, match=r"plan\.json is not of this version; run the site playbook"):
        _laid_plan.read(world.c)
    Path(world.c.plan).unlink()
    with pytest.raises(ResilientVmError, match=r"plan\.json is missing; run the site playbook"):
        _laid_plan.read(world.c)


@pytest.mark.parametrize("words", [[], ["acme/erp", "more"], ["acme/erp", "--confirm"], ["acme/erp", "--force"]])
def test_what_can_not_be_understood_ends_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _alone.main(words, Layout, "b", "1")  # type: ignore[arg-type]
    assert ended.value.code == 2


def test_it_is_for_root(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ask_storage.os, "geteuid", lambda: 1000)
    with pytest.raises(ResilientVmError, match="run it as root"):
        _alone.main(["acme/erp"], lambda _name: world.b, "b", "1")
    assert "takeover" in _mover._COMMANDS
