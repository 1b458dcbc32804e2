# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about an open snapshot as it is offered: whose word says that it was good, and why it could not be read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import write_json
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._snapshot_source import SnapshotSource

ID = "20260114T020000Z"
LATER = "20260114T030000Z"
LOST = ResilientVmError("the snapshot of disk vda can no longer be read")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout("acme", "erp", root=str(tmp_path / "root"), runtime=str(tmp_path / "run"))
    os.makedirs(os.path.dirname(layout.heartbeat))
    write_json(layout.snapshot, {"id": ID, "disks": [], "definition": []})
    return layout


def watching(layout: Layout, *words: dict[str, Any] | None) -> Callable[[float], None]:
    """Time, in which the watch says one word after the other: the first one now, one more with every pause."""
    left = list(words)

    def pause(_seconds: float) -> None:
        word = left.pop(0)
        if word is not None:
            write_json(layout.watch, {"checked": time.monotonic(), "valid": True, "reason": "", "id": ID, **word})

    pause(0)
    return pause


def test_only_a_word_given_after_the_last_read_counts(layout: Layout) -> None:
    source = SnapshotSource(layout, watching(layout, {"checked": 0.0}, {"checked": 1.0}, {}))
    list(source.definition())
    source.still_valid()
    # By which the watch knew that a word is waited for.
    assert os.path.exists(layout.heartbeat)


@pytest.mark.parametrize(
    ("word", "reason"),
    [({"valid": False, "reason": "its start wins"}, "its start wins"), ({"id": LATER}, f"{LATER} took its place")],
)
def test_a_snapshot_that_ended_is_no_image_and_says_why(layout: Layout, word: dict[str, Any], reason: str) -> None:
    source = SnapshotSource(layout, watching(layout, word))
    with pytest.raises(ResilientVmError, match=reason):
        source.still_valid()
    assert reason in str(source.explained(LOST))


def test_the_watch_may_find_out_after_the_reader(layout: Layout) -> None:
    source = SnapshotSource(layout, watching(layout, {"checked": 0.0}, None, {"valid": False, "reason": "it stopped"}))
    assert "it stopped" in str(source.explained(FileNotFoundError(2, "No such file or directory")))


def test_what_the_watch_cannot_explain_stays_what_it_is(layout: Layout) -> None:
    assert SnapshotSource(layout, watching(layout, {"checked": 0.0}, {})).explained(LOST) is LOST
    os.unlink(layout.watch)
    assert SnapshotSource(layout).explained(LOST) is LOST
