# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about a takeover from the standby host alone, with no backup storage either."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from unit.alone_fakes import COMMAND, Killed, World
from unit.claim_fakes import STATE

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import (
    _alone,
    _change,
    _journal,
)
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


WITHOUT = {"without_backup_storage": True}


def test_without_the_storage_it_says_how_to_go_on_and_decides_by_itself_where_that_is_wanted(world: World) -> None:
    world.silent = True
    with pytest.raises(ResilientVmError) as refused:
        world.type()
    said = _alone.as_typed(str(refused.value))
    assert "run it again with --without-backup-storage: b decides by itself" in said
    with pytest.raises(ResilientVmError) as refused:
        world.type(**WITHOUT)
    assert f"  {COMMAND} --without-backup-storage --confirm erp@a#1-" in _alone.as_typed(str(refused.value))
    world.type(world.word(**WITHOUT), **WITHOUT)
    own = _change.held(world.b)
    assert world.running and (own.epoch, own.phase, bool(own.unwitnessed)) == (2, "failed_over", True)
    assert not world.journal() and _change.held(world.c) == STATE
    kept = _journal.read(world.b.journal)
    assert [(entry["what"], entry["who"]) for entry in kept] == [
        ("fail_over", "mary@b"),
        ("finish_failover", "mary@b"),
        ("follow", "mary@b"),
    ][: len(kept)]
    world.type(**WITHOUT)
    assert world.starts == 1 and "erp runs on b since it was taken over at" in world.said[-1]
    world.silent = False
    with pytest.raises(
        ResilientVmError, match=r"c is told that b took erp over by itself .* only by the failover or the"
    ):
        world.type()


def test_killed_between_any_two_steps_without_the_storage_it_goes_on(tmp_path: Path) -> None:
    marks = set()
    for kill_at in itertools.count(1):
        with pytest.MonkeyPatch.context() as patch:
            world = World(tmp_path / str(kill_at), patch, silent=True)
            word = world.word(**WITHOUT)
            world.steps, world.kill_at = 0, kill_at
            try:
                world.type(word, **WITHOUT)
            except Killed:
                marks.add((_change.held(world.b).phase, world.running))
            else:
                break
            world.kill_at = 0
            try:
                world.type(**WITHOUT)
            except ResilientVmError:
                assert _change.held(world.b) == STATE, "decided, and yet another word is asked for"
                world.type(world.word(**WITHOUT), **WITHOUT)
            assert world.running and world.starts == 1
            assert [entry["what"] for entry in _journal.read(world.b.journal)] == ["fail_over", "finish_failover"]
    assert {("protected", False), ("failing_over", False), ("failing_over", True), ("failed_over", True)} >= marks
    assert ("failing_over", True) in marks
