# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a transfer tells of itself while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import read_json
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._progress import Progress, transfer_file

MIB = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Telling:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.clock = Clock()
        self.progress = Progress(layout, "fetch", {"image_id": "20260114T020000Z"}, self.clock)

    def after(self, seconds: float, **facts: Any) -> bool:
        self.clock.now += seconds
        return self.progress(**facts)

    def document(self) -> dict[str, Any]:
        document = read_json(transfer_file(self.layout, "fetch", "progress"))
        assert document is not None
        return dict(document)


@pytest.fixture
def telling(tmp_path: Path) -> Telling:
    layout = Layout("acme", "erp", str(tmp_path))
    Path(layout.transfer).mkdir(parents=True)
    return Telling(layout)


def test_it_writes_at_most_once_a_second_and_forgets_nothing(telling: Telling) -> None:
    assert telling.after(0, disk="vda", done_bytes=0, total_bytes=100 * MIB)
    assert not telling.after(0.4, done_bytes=5 * MIB)
    assert not telling.after(0.4, bytes_sent=7)
    assert telling.after(0.4)
    document = telling.document()
    assert (document["disk"], document["done_bytes"], document["bytes_sent"]) == ("vda", 5 * MIB, 7)
    assert document["image_id"] == "20260114T020000Z"


def test_the_rate_is_that_of_the_last_seconds(telling: Telling) -> None:
    telling.after(0, disk="vda", done_bytes=0, total_bytes=1000 * MIB)
    telling.after(60, done_bytes=600 * MIB)
    for second in range(1, 11):
        telling.after(1, done_bytes=(600 + second) * MIB)
    document = telling.document()
    assert document["bytes_per_second"] == MIB
    assert document["seconds_left"] == 390


def test_another_disk_begins_anew(telling: Telling) -> None:
    telling.after(0, disk="vda", done_bytes=0, total_bytes=100 * MIB)
    telling.after(2, done_bytes=50 * MIB)
    telling.after(2, disk="vdb", done_bytes=0, total_bytes=10 * MIB)
    assert "bytes_per_second" not in telling.document()


def test_what_it_waits_for_is_told_until_it_moves(telling: Telling) -> None:
    telling.after(0, waiting="for its window")
    assert telling.document()["waiting"] == "for its window"
    telling.after(2, done_bytes=1, total_bytes=2)
    assert "waiting" not in telling.document()


def test_what_another_machine_tells_beside_is_not_repeated(telling: Telling) -> None:
    telling.after(0, disk="vda", image_id="other", secret="x")
    assert telling.document()["image_id"] == "20260114T020000Z"
    assert "secret" not in telling.document()
