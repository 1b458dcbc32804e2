# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests are read with suspicion, and a store tells what it has, publishes, pins, marks and erases."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.engine_fakes import UUID

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _store
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._digests import DigestFile, RootDigest
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._manifest import Disk, Manifest
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store

SIZE = 200_000


def manifest(image_id: str, epoch: int = 1, vm: str = "erp") -> Manifest:
    disk = Disk("vda", SIZE, RootDigest(SIZE).hexdigest(), "allocation")
    return Manifest(image_id, "2026-01-14T02:00:00Z", "acme", vm, vm, UUID, epoch, "crash", "a", [disk], [])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    layout = Layout("acme", "erp", str(tmp_path))
    for path in (layout.images, layout.incoming, layout.pins):
        os.makedirs(path)
    return Store(layout)


def publish(store: Store, image_id: str, epoch: int = 1) -> Path:
    work = Path(store.layout.incoming, image_id)
    work.mkdir()
    with open(work / "vda.raw", "wb") as stream:
        stream.truncate(SIZE)
    DigestFile.create(str(work / "vda.digests"), SIZE)
    return Path(store.publish(str(work), manifest(image_id, epoch)).path)


IDS = [f"202601{day:02d}T020000Z" for day in range(1, 10)]


def test_newest_is_highest_by_epoch_then_id(store: Store) -> None:
    for image_id, epoch in ((IDS[0], 1), (IDS[1], 2), (IDS[2], 2)):
        publish(store, image_id, epoch)
    assert [image.id for image in store.images()] == IDS[:3]
    newest = store.newest()
    assert newest is not None
    assert newest.id == IDS[2]


BAD: list[tuple[Any, str]] = [
    ('{"schema": 1, "id"', "is damaged"),
    ("[]", "not a JSON object"),
    ({"schema": 2}, "has schema 2 and this version reads up to 1"),
    ({"vm": "web"}, "belongs to acme/web, not to acme/erp"),
    ({"disks": []}, "no disks"),
    ({"id": "../../etc"}, "is not a whole manifest"),
    ({"consistency": "sure"}, "consistency 'sure'"),
    ({"id": IDS[5]}, "holds the manifest of image"),
]


@pytest.mark.parametrize("change, sentence", BAD)
def test_a_bad_manifest_is_one_sentence_and_never_an_image(store: Store, change: Any, sentence: str) -> None:
    publish(store, IDS[0])
    path = publish(store, IDS[1]) / "manifest.json"
    text = change if isinstance(change, str) else json.dumps({**json.loads(path.read_text()), **change})
    path.write_text(text)
    image = store.read(IDS[1])
    assert not image.complete
    assert sentence in image.problem
    assert str(path.parent) in image.problem
    newest = store.newest()
    assert newest is not None
    assert newest.id == IDS[0]


def test_a_missing_or_short_disk_is_noticed(store: Store) -> None:
    path = publish(store, IDS[0])
    os.truncate(path / "vda.raw", SIZE - 1)
    assert "vda.raw is missing or has not the 200000 bytes" in store.read(IDS[0]).problem


def test_a_marked_image_is_not_complete_and_says_where(store: Store) -> None:
    publish(store, IDS[0])
    store.mark_damaged(IDS[0], "vda", 65536, "re-read")
    store.mark_damaged(IDS[0], "vda", 65536, "re-read")
    image = store.read(IDS[0])
    assert [(mark["disk"], mark["offset_bytes"]) for mark in image.damaged] == [("vda", 65536)]
    assert store.newest() is None


def test_an_erased_image_is_gone_and_leaves_nothing(store: Store) -> None:
    publish(store, IDS[0])
    publish(store, IDS[1])
    store.erase(IDS[0])
    assert os.listdir(store.folder) == [IDS[1]]


def test_a_readers_pin_holds_until_it_expires(store: Store) -> None:
    publish(store, IDS[0])
    pin = store.pin_reading(IDS[0], "refresh", seconds=60)
    assert store.read(IDS[0]).reading
    store.pin_reading(IDS[0], "refresh", seconds=-1)
    assert not store.read(IDS[0]).reading
    os.unlink(pin)


def test_pins_that_mean_nothing_any_more_are_erased_and_no_others(store: Store) -> None:
    publish(store, IDS[0])
    publish(store, IDS[1])
    left = {"image": IDS[0], "until": time.time() + 60, "reading": True}
    for name, pin in {
        "expired": {**left, "purpose": "restoring", "until": time.time() - 1},
        "killed": {**left, "purpose": "restore"},
        "other": {**left, "purpose": "refresh"},
        "asked for": {"image": IDS[1], "purpose": "restore", "until": None},
    }.items():
        Path(store.layout.pins, f"{name}.json").write_text(json.dumps(pin))
    store.drop_pins()
    assert sorted(os.listdir(store.layout.pins)) == ["asked for.json", "killed.json", "other.json"]
    store.drop_pins("restore")
    assert sorted(os.listdir(store.layout.pins)) == ["asked for.json", "other.json"]


def test_each_image_of_a_list_has_its_own_pins(store: Store) -> None:
    publish(store, IDS[0])
    publish(store, IDS[1])
    publish(store, IDS[2])
    store.pin_reading(IDS[1], "refresh")
    kept = {"image": IDS[2], "purpose": "before the upgrade", "until": None}
    Path(store.layout.pins, "kept.json").write_text(json.dumps(kept))
    assert [(image.reading, image.pinned_by) for image in store.images()] == [
        (False, []),
        (True, []),
        (False, ["before the upgrade"]),
    ]


@pytest.mark.parametrize("image_id", ["../x", "2026", "20260114T020000Z/..", ""])
def test_only_ids_name_images(store: Store, image_id: str) -> None:
    with pytest.raises(ResilientVmError, match="is not an image id"):
        store.path(image_id)


def test_a_manifest_reads_back_as_it_was_written() -> None:
    written = manifest(IDS[0])
    assert Manifest.from_dict(json.loads(json.dumps(written.as_dict())), "x", "acme", "erp") == written


def test_what_was_half_erased_is_erased_and_nothing_else(store: Store) -> None:
    publish(store, IDS[0])
    left = Path(store.folder, f".{IDS[1]}.erased")
    (left / "more").mkdir(parents=True)
    store.finish_erasing()
    assert os.listdir(store.folder) == [IDS[0]]
    Store(Layout("acme", "none", store.layout.root)).finish_erasing()


@pytest.mark.parametrize("text", ["[]", '{"image": "x"}', '{"image": "x", "purpose": "p", "until": "soon"}'])
def test_a_pin_that_is_none_is_named(store: Store, text: str) -> None:
    path = Path(store.layout.pins, "x.json")
    path.write_text(text)
    with pytest.raises(ResilientVmError, match=f"{path} is no pin; erase it"):
        store.images()


def test_a_mark_that_is_none_is_named_and_its_image_not_used(store: Store) -> None:
    folder = publish(store, IDS[0])
    (folder / "damaged.json").write_text('[{"disk": "vda"}]')
    image = store.read(IDS[0])
    assert not image.complete and image.manifest is None
    assert "which says what is damaged here, is damaged" in image.problem


def test_root_marks_nothing_through_a_link_of_the_account_s(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever the folder belongs to writes; as that account nobody gets into a folder of root's."""
    publish(store, IDS[0])
    acted: list[str] = []

    @contextlib.contextmanager
    def as_owner_of(path: str) -> Iterator[None]:
        acted.append(path)
        yield
        acted.append("root")

    write = _store.write_json
    monkeypatch.setattr(_store, "as_owner_of", as_owner_of)
    monkeypatch.setattr(_store, "write_json", lambda *given, **named: (acted.append("write"), write(*given, **named)))
    store.mark_damaged(IDS[0], "vda", 0, "verify")
    store.mark_damaged(IDS[0], "vda", 4096, "verify")
    store.clear_mark(IDS[0], "vda", 0)
    assert acted == [store.folder, "write", "root"] * 3
