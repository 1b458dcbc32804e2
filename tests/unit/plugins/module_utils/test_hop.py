# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about a transfer's end: whatever ended it, the reason is there to be read."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from unit.engine_fakes import IDS, make_layout

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _hop
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import read_json, write_json
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._progress import transfer_file

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = make_layout(tmp_path)
    os.makedirs(layout.transfer, exist_ok=True)
    write_json(transfer_file(layout, "fetch", "request"), {"image_id": IDS[0], "token": "t"})
    return layout


def kept(layout: Layout) -> int:
    """Bytes that the transfer keeps on the disk for its result."""
    return sum(entry.stat().st_blocks * 512 for entry in os.scandir(layout.transfer) if entry.name.endswith(".room"))


def test_a_full_disk_does_not_keep_the_reason_from_being_told(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_arguments: Any) -> dict[str, Any]:
        assert kept(layout) >= 1 << 20
        raise FULL

    def write(path: str, value: Any) -> None:
        # Nothing is free on the disk but what the transfer gives back.
        if kept(layout):
            raise FULL
        write_json(path, value)

    monkeypatch.setattr(_hop, "_once", fill)
    monkeypatch.setattr(_hop, "write_json", write)
    assert _hop.transfer(layout, "fetch", "1") == 1
    result = read_json(transfer_file(layout, "fetch", "result"))
    assert (result["token"], result["published"]) == ("t", False)
    assert "No space left" in result["error"]
    assert f"at {layout.directory} on the backup storage; free space" in result["error"]
    assert sorted(os.listdir(layout.transfer)) == ["fetch.request.json", "fetch.result.json"]


def test_a_result_takes_the_room_away_and_what_a_kill_left_of_it_is_no_obstacle(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(layout.transfer, "fetch.room").write_bytes(b"left")
    monkeypatch.setattr(_hop, "_once", lambda *_arguments: {"image_id": IDS[0], "published": True})
    assert _hop.transfer(layout, "fetch", "1") == 0
    assert read_json(transfer_file(layout, "fetch", "result"))["published"] is True
    assert kept(layout) == 0


def test_not_even_an_error_nobody_thought_of_is_told_as_a_kill(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_arguments: Any) -> dict[str, Any]:
        raise KeyError("target")

    monkeypatch.setattr(_hop, "_once", breaks)
    assert _hop.transfer(layout, "fetch", "1") == 1
    result = read_json(transfer_file(layout, "fetch", "result"))
    assert "an error of this collection (KeyError: 'target'); run again, and report it" in result["error"]
