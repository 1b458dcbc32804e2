# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pin by hand keeps one image, says why, runs out by itself, and goes when it is told to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from unit.engine_fakes import IDS, Disk, Snapshot, blocks, make_layout, transfer

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._pin import Wish, pin
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._prune import Wish as PruneWish
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._prune import prune
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store

NOW = _clock.parse("2026-01-04T12:00:00Z")
WISH = Wish("2026-01-01", reason="before the migration")
LAID = {"reason": "before the migration", "until": None}
GONE = Wish(IDS[0], present=False)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(make_layout(tmp_path))
    for image_id in IDS[:4]:
        transfer(Snapshot(image_id, [Disk("vda", blocks(3))], None), made)
    return made


def erased(store: Store) -> list[str]:
    return [verdict.image.id for verdict in prune(store.layout, PruneWish(1, 1), dry=True) if verdict.erase]


def test_a_pinned_image_stays_until_the_pin_goes(store: Store) -> None:
    assert pin(store, WISH, NOW, dry=False) == (IDS[0], None, LAID)
    assert erased(store) == IDS[1:3]
    assert store.read(IDS[0]).pinned_by == ["before the migration"]
    assert pin(store, GONE, NOW, dry=False) == (IDS[0], LAID, None)
    assert erased(store) == IDS[:3]
    assert os.listdir(store.layout.pins) == []


def test_a_second_time_changes_nothing_and_another_reason_takes_its_place(store: Store) -> None:
    pin(store, WISH, NOW, dry=False)
    before = {path: path.stat().st_mtime_ns for path in Path(store.layout.pins).iterdir()}
    assert pin(store, WISH, NOW, dry=False)[1:] == (LAID, LAID)
    assert {path: path.stat().st_mtime_ns for path in Path(store.layout.pins).iterdir()} == before
    later = Wish("-3d", reason="the auditors", until="2100-01-01T00:00:00+01:00")
    assert pin(store, later, NOW, dry=False)[2] == {"reason": "the auditors", "until": "2099-12-31T23:00:00Z"}
    assert store.read(IDS[0]).pinned_by == ["the auditors"]
    assert pin(store, later, NOW, dry=False)[1] == {"reason": "the auditors", "until": "2099-12-31T23:00:00Z"}


def test_a_dry_run_says_the_same_and_lays_nothing(store: Store) -> None:
    assert pin(store, WISH, NOW, dry=True) == (IDS[0], None, LAID)
    assert os.listdir(store.layout.pins) == []
    assert pin(store, GONE, NOW, dry=True) == (IDS[0], None, None)


def test_a_pin_that_ran_out_keeps_nothing(store: Store) -> None:
    long_ago = _clock.parse("2001-01-01T00:00:00Z")
    pin(store, Wish(IDS[0], reason="short", until="2001-01-02T00:00:00Z"), long_ago, dry=False)
    assert erased(store) == IDS[:3]


def test_a_damaged_image_is_not_pinned_but_a_pin_on_it_goes(store: Store) -> None:
    pin(store, WISH, NOW, dry=False)
    store.mark_damaged(IDS[0], "vda", 65536, "verify")
    with pytest.raises(ResilientVmError, match="its disk vda is damaged at byte 65536"):
        pin(store, Wish(IDS[0], reason="once more"), NOW, dry=False)
    assert pin(store, GONE, NOW, dry=False)[2] is None


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Wish(IDS[0]), "a pin on an image of acme/erp needs a reason; set resilient_vm_pin_reason"),
        (Wish(IDS[0], reason="x", until="2026-01-04T11:59:59Z"), "is over, it is 2026-01-04T12:00:00Z now"),
        (Wish(IDS[0], reason="x", until="summer"), "resilient_vm_pin_until 'summer' is not an ISO 8601 time"),
        (Wish("2025-12-31", reason="x"), "no image of acme/erp of 2025-12-31 is kept any more"),
        (Wish("2026-02-01", reason="x"), "2026-02-01 is in the future"),
        (Wish("yesterday", reason="x"), "restore point 'yesterday' of acme/erp is none"),
    ],
)
def test_bad_input_is_one_sentence_and_lays_nothing(store: Store, wish: Wish, words: str) -> None:
    with pytest.raises(ResilientVmError) as caught:
        pin(store, wish, NOW, dry=False)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert os.listdir(store.layout.pins) == []
