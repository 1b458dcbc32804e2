# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine end to end in one process: a sender and a receiver over real pipes and real files."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _wire
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._digests import (
    BLOCK_SIZE,
    RootDigest,
    block_count,
    block_digest,
)
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._offers import StoredSource
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._receiver import Receiver
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._regions import Extent, Region, block_regions
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._sender import Plan, Sender
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store

KIB = 1024


class Disk:
    """A live disk held in memory; ``changed`` is what its dirty bitmap says, or None without one."""

    def __init__(self, target: str, content: bytes, changed: set[int] | None = None) -> None:
        self.target = target
        self.content = content
        self.size_bytes = len(content)
        self.changed = changed
        self.reads = 0

    def _extents(self) -> Iterator[Extent]:
        for block in range(block_count(self.size_bytes)):
            data = self.read(block, 1)
            self.reads -= 1
            changed = self.changed is not None and block in self.changed
            yield Extent(block * BLOCK_SIZE, len(data), not any(data), changed)

    def regions(self, how: str) -> Iterator[Region]:
        for region in block_regions(self._extents(), self.size_bytes):
            if how == "bitmap":
                yield region
            else:
                yield region._replace(changed=how == "digests" or not region.zero)

    def read(self, first: int, count: int) -> bytes:
        self.reads += 1
        return self.content[first * BLOCK_SIZE : (first + count) * BLOCK_SIZE]

    def ask(self, first: int, count: int) -> tuple[int, int]:
        return first, count

    def answer(self, asked: tuple[int, int]) -> bytes:
        return self.read(*asked)

    def digests(self, _first: int, _count: int) -> bytes | None:
        return None

    def close(self) -> None:
        """Nothing is open."""


class Snapshot:
    """What is offered of a VM at an instant."""

    def __init__(self, image_id: str, disks: list[Disk], base: str | None, epoch: int = 1) -> None:
        self.id, self.disks, self.base, self.epoch = image_id, disks, base, epoch

    def offer(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "instant": f"{self.id[:4]}-{self.id[4:6]}-{self.id[6:8]}T02:00:00Z",
            "domain": "erp",
            "uuid": "0b7a",
            "epoch": self.epoch,
            "consistency": "crash",
            "checkpoint": None,
            "disks": [
                {"target": disk.target, "size_bytes": disk.size_bytes, "checkpoint": None} for disk in self.disks
            ],
        }

    def plan(self, request: dict[str, Any]) -> tuple[Plan, Disk]:
        disk = next(disk for disk in self.disks if disk.target == request["target"])
        if request["base"] is None:
            return Plan("allocation", "resumed", "first"), disk
        if disk.changed is None or request["distrust"] or request["base"]["id"] != self.base:
            return Plan("digests", "all", request["distrust"] or "no bitmap"), disk
        return Plan("bitmap", "resumed"), disk

    def definition(self) -> Iterator[tuple[str, bytes]]:
        yield "domain.xml", b"<domain/>"

    def still_valid(self) -> None:
        """Nothing changes it."""


Cut = ConnectionAbortedError


def transfer(source: Any, store: Store, cut_after: int | None = None, **options: Any) -> dict[str, Any]:
    """Move an image between two threads. ``cut_after``: break the link after so many data frames."""
    down, up = os.pipe(), os.pipe()
    there = _wire.Wire(up[0], down[1], "receiver")
    here = _wire.Wire(down[0], up[1], "sender")
    failed: list[BaseException] = []

    def send() -> None:
        try:
            Sender(there, source, lambda **_facts: None).run()
        except BaseException as error:  # noqa: BLE001 - handed to the test below
            if isinstance(error, ResilientVmError) and not isinstance(error, _wire.LinkBrokenError):
                there.abort(error)
            failed.append(error)
        finally:
            there.close()

    thread = threading.Thread(target=send)
    thread.start()
    frames = 0

    def alive(_facts: dict[str, Any]) -> None:
        nonlocal frames
        frames += 1
        if cut_after is not None and frames > cut_after:
            raise Cut

    try:
        result = Receiver(here, store, alive, options.pop("expected", None), **options, full_copies=True).run()
        here.send_document(_wire.DONE, result)
        result["wire_bytes"] = here.bytes_received + here.bytes_sent
        return result
    finally:
        here.close()
        thread.join()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return make_layout(tmp_path)


def make_layout(root: Path, folder: str = "images") -> Layout:
    layout = Layout("acme", "erp", str(root))
    for path in (layout.directory, layout.incoming, os.path.join(layout.directory, folder), layout.pins):
        os.makedirs(path, exist_ok=True)
    return layout


def blocks(count: int, seed: int = 0, empty: float = 0.3) -> bytes:
    chance = random.Random(seed)
    return b"".join(
        bytes(BLOCK_SIZE) if chance.random() < empty else chance.randbytes(64) * (BLOCK_SIZE // 64)
        for _block in range(count)
    )


def change(content: bytes, places: set[int], seed: int = 1) -> bytes:
    chance, mutable = random.Random(seed), bytearray(content)
    for place in sorted(places):
        begin, end = place * BLOCK_SIZE, min((place + 1) * BLOCK_SIZE, len(content))
        mutable[begin:end] = bytes(end - begin) if chance.random() < 0.2 else chance.randbytes(end - begin)
    return bytes(mutable)


def raw(store: Store, image_id: str, target: str = "vda") -> bytes:
    return Path(store.read(image_id).file(target + ".raw")).read_bytes()


def root_of(content: bytes) -> str:
    root = RootDigest(len(content))
    for index in range(block_count(len(content))):
        root.add(index, block_digest(content[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE]))
    return root.hexdigest()


def check_image(store: Store, image_id: str, content: bytes, target: str = "vda") -> None:
    image = store.read(image_id)
    assert image.complete
    assert image.manifest is not None
    disk = image.manifest.disk(target)
    assert disk is not None
    assert raw(store, image_id, target) == content
    assert disk.root_digest == root_of(content)
    with image.digests(disk) as digests:
        assert digests.root() == disk.root_digest


IDS = [f"202601{day:02d}T020000Z" for day in range(1, 30)]


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


def test_flipped_block_of_the_base_is_found_marked_and_mended(layout: Layout) -> None:
    content = blocks(28, empty=0)
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
    module = "ansible_collections.edgecloud.resilient_vm.plugins.module_utils._incoming._boot_id"
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
        [f"{name}.{kind}" for name in second for kind in ("raw", "digests")] + ["domain.xml", "manifest.json"]
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
