# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine end to end in one process: a sender and a receiver over real pipes and real files."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.engine_fakes import IDS, KIB, Cut, Disk, Snapshot, blocks, change, check_image, make_layout, raw, transfer

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._digests import (
    BLOCK_SIZE,
)
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._stored_source import StoredSource


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return make_layout(tmp_path)


def test_first_image_sends_only_what_is_allocated(layout: Layout) -> None:
    content = blocks(100) + b"tail" * 100
    store = Store(layout)
    result = transfer(Snapshot(IDS[0], [Disk("vda", content)], None), store)
    check_image(store, IDS[0], content)
    disk = result["disks"][0]
    assert disk["found_by"] == "allocation"
    allocated = sum(1 for at in range(100) if any(content[at * BLOCK_SIZE : (at + 1) * BLOCK_SIZE]))
    assert disk["changed_bytes"] == allocated * BLOCK_SIZE + 400
    assert os.listdir(layout.incoming) == []


def test_everything_is_on_the_disk_before_the_image_has_its_name(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may come at any time: what has the name of an image must be one."""
    steps: list[tuple[str, str]] = []
    sync, rename = os.fsync, os.rename

    def synced(descriptor: int) -> None:
        steps.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    def renamed(old: str, new: str) -> None:
        steps.append(("rename", new))
        rename(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    store = Store(layout)
    transfer(Snapshot(IDS[0], [Disk("vda", blocks(20))], None), store)
    published = steps.index(("rename", store.path(IDS[0])))
    files = {name for name in os.listdir(store.path(IDS[0])) if not name.startswith(".")}
    assert {"vda.raw", "vda.digests", "manifest.json", "manifest.sha256", "domain.xml"} <= files
    work = os.path.join(store.incoming, IDS[0])
    assert {("sync", os.path.join(work, name)) for name in files} | {("sync", work)} <= set(steps[:published])
    assert ("sync", store.folder) in steps[published:]


@pytest.mark.parametrize("bitmap", [True, False])
def test_one_changed_block_travels_alone(layout: Layout, bitmap: bool) -> None:
    content = blocks(300)
    store = Store(layout)
    transfer(Snapshot(IDS[0], [Disk("vda", content)], None), store)
    newer = change(content, {17}, seed=3)
    result = transfer(Snapshot(IDS[1], [Disk("vda", newer, {17} if bitmap else None)], IDS[0]), store)
    check_image(store, IDS[0], content)
    check_image(store, IDS[1], newer)
    assert result["disks"][0]["changed_bytes"] == BLOCK_SIZE
    assert result["wire_bytes"] < BLOCK_SIZE + 64 * KIB
    assert result["disks"][0]["found_by"] == ("bitmap" if bitmap else "digests")


def test_of_a_known_block_sixteen_bytes_travel(layout: Layout) -> None:
    content = blocks(300, empty=0)
    store = Store(layout)
    transfer(Snapshot(IDS[0], [Disk("vda", content)], None), store)
    by_bitmap = transfer(Snapshot(IDS[1], [Disk("vda", content, set())], IDS[0]), store, reread_share=300)
    by_digests = transfer(Snapshot(IDS[2], [Disk("vda", content)], IDS[1]), store)
    told = by_digests["wire_bytes"] - by_bitmap["wire_bytes"]
    assert 300 * 16 - 300 < told < 300 * 16 + 300


def test_bitmap_that_lies_is_found_by_the_rotating_reread(layout: Layout) -> None:
    content = blocks(28, empty=0)
    store = Store(layout)
    transfer(Snapshot(IDS[0], [Disk("vda", content)], None), store)
    newer = change(content, {20}, seed=5)  # behind the bitmap's back
    found_on = None
    for day in range(1, 15):
        result = transfer(Snapshot(IDS[day], [Disk("vda", newer, set())], IDS[day - 1]), store)
        if result["bitmap_mismatches"]:
            found_on = day
            break
        assert raw(store, IDS[day]) == content
    assert found_on == 11  # two blocks a day; block 20 comes on the eleventh
    check_image(store, IDS[11], newer)
    assert "re-read" in result["disks"][0]["reason"]


def test_a_hole_behind_the_bitmaps_back_is_found(layout: Layout) -> None:
    content = blocks(28, empty=0)
    store = Store(layout)
    transfer(Snapshot(IDS[0], [Disk("vda", content)], None), store)
    newer = bytes(BLOCK_SIZE) + content[BLOCK_SIZE:]
    result = transfer(Snapshot(IDS[1], [Disk("vda", newer, set())], IDS[0]), store)
    assert result["bitmap_mismatches"] == 1
    check_image(store, IDS[1], newer)


def test_a_share_of_one_rereads_the_whole_disk_wherever_the_round_was(layout: Layout) -> None:
    content = blocks(28, empty=0)
    store = Store(layout)
    transfer(Snapshot(IDS[0], [Disk("vda", content)], None), store)
    transfer(Snapshot(IDS[1], [Disk("vda", content, set())], IDS[0]), store)
    newer = change(content, {0, 20}, seed=5)  # behind the bitmap's back, before and after where the round is
    result = transfer(Snapshot(IDS[2], [Disk("vda", newer, set())], IDS[1]), store, reread_share=1)
    assert [block["offset_bytes"] // BLOCK_SIZE for block in result["missed"]] == [0, 20]
    check_image(store, IDS[2], newer)
    result = transfer(Snapshot(IDS[3], [Disk("vda", newer, {5})], IDS[2]), store, reread_share=1)
    assert (result["missed"], result["disks"][0]["reread_bytes"]) == ([], 27 * BLOCK_SIZE)
    manifest = store.read(IDS[3]).manifest
    assert manifest is not None
    assert manifest.disks[0].proven.full_round == IDS[3]


def test_full_round_of_the_reread_is_recorded(layout: Layout) -> None:
    content = blocks(28, empty=0)
    store = Store(layout)
    transfer(Snapshot(IDS[0], [Disk("vda", content)], None), store)
    for day in range(1, 15):
        transfer(Snapshot(IDS[day], [Disk("vda", content, set())], IDS[day - 1]), store)
    manifest = store.read(IDS[14]).manifest
    assert manifest is not None
    assert manifest.disks[0].proven.full_round == IDS[1]
    assert manifest.disks[0].proven.next_block == 0


@pytest.mark.parametrize("content", [blocks(28, empty=0), bytes(40 * BLOCK_SIZE)], ids=["data", "hole"])
def test_flipped_block_of_the_base_is_found_marked_and_mended(layout: Layout, content: bytes) -> None:
    store = Store(layout)
    transfer(Snapshot(IDS[0], [Disk("vda", content)], None), store)
    with open(store.read(IDS[0]).file("vda.raw"), "r+b") as stream:
        stream.seek(BLOCK_SIZE + 77)
        stream.write(b"flip")
    result = transfer(Snapshot(IDS[1], [Disk("vda", content, set())], IDS[0]), store)
    assert result["damaged"] == [{"image": IDS[0], "disk": "vda", "offset_bytes": BLOCK_SIZE}]
    assert store.read(IDS[0]).damaged
    check_image(store, IDS[1], content)


@pytest.mark.parametrize("cut", [1, 3, 9])
@pytest.mark.parametrize("bitmap", [True, False])
def test_interrupted_transfer_sends_nothing_twice(layout: Layout, cut: int, bitmap: bool) -> None:
    content = blocks(400, empty=0)
    store = Store(layout)
    transfer(Snapshot(IDS[0], [Disk("vda", content)], None), store)
    places = set(range(0, 400, 3))
    newer = change(content, places, seed=9)
    with pytest.raises(Cut):
        transfer(Snapshot(IDS[1], [Disk("vda", newer, places if bitmap else None)], IDS[0]), store, cut_after=cut)
    assert [image.id for image in store.images()] == [IDS[0]]
    # The next night: another snapshot, other changes on top.
    newest = change(newer, {5, 6, 7}, seed=11)
    dirty = places | {5, 6, 7}
    result = transfer(Snapshot(IDS[2], [Disk("vda", newest, dirty if bitmap else None)], IDS[0]), store)
    check_image(store, IDS[2], newest)
    assert result["disks"][0]["resumed_bytes"] > 0
    assert os.listdir(layout.incoming) == []


def test_what_a_power_cut_left_is_checked_block_by_block(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    content = blocks(200, empty=0)
    store = Store(layout)
    transfer(Snapshot(IDS[0], [Disk("vda", content)], None), store)
    newer = change(content, set(range(50)), seed=9)
    with pytest.raises(Cut):
        transfer(Snapshot(IDS[1], [Disk("vda", newer)], IDS[0]), store, cut_after=1)
    work = Path(layout.incoming, IDS[1])
    with open(work / "vda.raw", "r+b") as stream:  # data of a block whose digest never got to the disk
        stream.seek(150 * BLOCK_SIZE)
        stream.write(b"torn")
    module = "ansible_collections.edgecloud.resilient_vm.plugins.module_utils._incoming.boot_id"
    monkeypatch.setattr(module, lambda: "another boot")
    transfer(Snapshot(IDS[1], [Disk("vda", newer)], IDS[0]), store)
    check_image(store, IDS[1], newer)


def test_disk_grown_shrunk_added_and_removed(layout: Layout) -> None:
    store = Store(layout)
    first = {"vda": blocks(50, 1) + b"x" * 1000, "vdb": blocks(20, 2), "vdc": blocks(30, 3)}
    transfer(Snapshot(IDS[0], [Disk(name, data) for name, data in first.items()], None), store)
    second = {"vda": first["vda"] + b"y" * 200_000, "vdb": first["vdb"][: 7 * BLOCK_SIZE + 100], "vdd": blocks(9, 4)}
    transfer(Snapshot(IDS[1], [Disk(name, data) for name, data in second.items()], IDS[0]), store)
    for name, data in second.items():
        check_image(store, IDS[1], data, name)
    assert sorted(os.listdir(store.path(IDS[1]))) == sorted(
        [f"{name}.{kind}" for name in second for kind in ("raw", "digests")]
        + ["domain.xml", "manifest.json", "manifest.sha256"]
    )


def test_older_epoch_and_older_id_are_not_published(layout: Layout) -> None:
    store = Store(layout)
    transfer(Snapshot(IDS[3], [Disk("vda", blocks(3))], None, epoch=2), store)
    with pytest.raises(ResilientVmError, match="no longer the active host"):
        transfer(Snapshot(IDS[4], [Disk("vda", blocks(3))], None, epoch=1), store)
    with pytest.raises(ResilientVmError, match="check the clock"):
        transfer(Snapshot(IDS[2], [Disk("vda", blocks(3))], None, epoch=2), store)
    assert [image.id for image in store.images()] == [IDS[3]]


def test_standby_is_brought_up_by_two_digest_files(tmp_path: Path) -> None:
    storage = Store(make_layout(tmp_path / "c"))
    standby = Store(make_layout(tmp_path / "b", "generations"), "generations")
    content = blocks(300)
    transfer(Snapshot(IDS[0], [Disk("vda", content)], None), storage)
    transfer(StoredSource(storage, IDS[0]), standby)
    check_image(standby, IDS[0], content)
    newer = change(content, {4, 250}, seed=2)
    transfer(Snapshot(IDS[1], [Disk("vda", newer)], IDS[0]), storage)
    result = transfer(StoredSource(storage, IDS[1]), standby)
    check_image(standby, IDS[1], newer)
    assert result["disks"][0]["bytes_read"] <= 2 * BLOCK_SIZE
    assert result["wire_bytes"] < 2 * BLOCK_SIZE + 64 * KIB


def test_standby_with_an_unknown_generation_sends_its_digests(tmp_path: Path) -> None:
    storage = Store(make_layout(tmp_path / "c"))
    standby = Store(make_layout(tmp_path / "b", "generations"), "generations")
    content = blocks(300)
    transfer(Snapshot(IDS[0], [Disk("vda", content)], None), storage)
    transfer(StoredSource(storage, IDS[0]), standby)
    newer = change(content, {4, 250}, seed=2)
    transfer(Snapshot(IDS[1], [Disk("vda", newer)], IDS[0]), storage)
    storage.erase(IDS[0])
    result = transfer(StoredSource(storage, IDS[1]), standby)
    check_image(standby, IDS[1], newer)
    assert result["disks"][0]["changed_bytes"] == 2 * BLOCK_SIZE


def test_damaged_block_is_never_copied_to_the_standby(tmp_path: Path) -> None:
    storage = Store(make_layout(tmp_path / "c"))
    standby = Store(make_layout(tmp_path / "b", "generations"), "generations")
    transfer(Snapshot(IDS[0], [Disk("vda", blocks(30, empty=0))], None), storage)
    with open(storage.read(IDS[0]).file("vda.raw"), "r+b") as stream:
        stream.seek(9 * BLOCK_SIZE)
        stream.write(b"flip")
    with pytest.raises(ResilientVmError, match=f"image {IDS[0]} of acme/erp is damaged"):
        transfer(StoredSource(storage, IDS[0]), standby)
    assert standby.images() == []
    with pytest.raises(ResilientVmError, match="marked damaged"):
        StoredSource(storage, IDS[0])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_history_of_changes_cuts_and_lost_bitmaps_ends_with_right_images(
    tmp_path: Path, data: st.DataObject
) -> None:
    root = tmp_path / str(random.Random().random())
    storage = Store(make_layout(root / "c"))
    standby = Store(make_layout(root / "b", "generations"), "generations")
    size = data.draw(st.integers(1, 40), "blocks")
    content = blocks(size, data.draw(st.integers(0, 99), "seed"))[: size * BLOCK_SIZE - data.draw(st.integers(0, 9000))]
    dirty: set[int] = set()
    base = None
    for image_id in IDS[: data.draw(st.integers(1, 5), "days")]:
        places = data.draw(st.sets(st.integers(0, size - 1)), "changes")
        content = change(content, places, seed=len(places))
        dirty |= places
        bitmap = data.draw(st.booleans(), "bitmap")
        snapshot = Snapshot(image_id, [Disk("vda", content, set(dirty) if bitmap else None)], base)
        if data.draw(st.booleans(), "cut"):
            try:
                transfer(snapshot, storage, cut_after=data.draw(st.integers(0, 3)))
            except Cut:
                continue
        else:
            transfer(snapshot, storage)
        base, dirty = image_id, set()
        check_image(storage, image_id, content)
        transfer(StoredSource(storage, image_id), standby)
        check_image(standby, image_id, content)


@pytest.mark.parametrize(
    "lie",
    [
        {"disks": [{"target": "../../images/20260101T020000Z/vda", "size_bytes": BLOCK_SIZE}]},
        {"disks": [{"target": "vda", "size_bytes": -1}]},
        {"disks": [{"target": "vda", "size_bytes": BLOCK_SIZE}] * 2},
        {"disks": [{"target": "vda"}]},
        {"disks": []},
        {"uuid": "/etc/cron.d"},
        {"id": "../20260101T020000Z"},
        {"epoch": "1"},
    ],
)
def test_a_sender_names_nothing_outside_of_its_own_image(tmp_path: Path, lie: dict[str, Any]) -> None:
    """As somebody who has taken the active host over: what is stored stays as it is."""
    store = Store(make_layout(tmp_path))
    content = blocks(4)
    transfer(Snapshot(IDS[0], [Disk("vda", content)], None), store)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}

    class Liar(Snapshot):
        def offer(self) -> dict[str, Any]:
            return {**super().offer(), **lie}

    with pytest.raises(ResilientVmError, match="the image that"):
        transfer(Liar(IDS[1], [Disk("vda", content)], None), store)
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before
