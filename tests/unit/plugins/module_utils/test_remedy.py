# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about damage that only the other machine can mend: what is written, whoever sends what."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from unit.engine_fakes import IDS, Disk, Snapshot, blocks, change, make_layout, transfer

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _frames, _remedy
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._digests import BLOCK_SIZE
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._wire import Wire

TUESDAY = blocks(60) + b"tail" * 100
CHANGED = {3, 4, 50}
WEDNESDAY = change(TUESDAY, CHANGED, seed=3)


def make_store(path: Path, folder: str) -> Store:
    store = Store(make_layout(path, folder), folder)
    transfer(Snapshot(IDS[1], [Disk("vda", WEDNESDAY)], None), store)
    return store


@pytest.fixture
def c(tmp_path: Path) -> Store:
    return make_store(tmp_path / "c", "images")


@pytest.fixture
def b(tmp_path: Path) -> Store:
    return make_store(tmp_path / "b", "generations")


def spoil(store: Store, name: str, offset: int, mark: str, mark_offset: int = 0) -> None:
    path = Path(store.path(IDS[1]), name)
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)
    store.mark_damaged(IDS[1], mark, mark_offset, "verify")


def files_in(store: Store) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path(store.folder).rglob("*")) if path.is_file()}


def wires() -> tuple[Wire, Wire]:
    down, up = os.pipe(), os.pipe()
    return Wire(up[0], down[1], "b"), Wire(down[0], up[1], "the backup storage")


def mend(c: Store, b: Store) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The whole conversation; what was mended on the backup storage, and on the host."""
    here, there = wires()

    def serve() -> None:
        _remedy.answer(there, b)
        there.send_document(_frames.DONE, {"repaired": _remedy.ask(there, b)})

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        mended = _remedy.ask(here, c)
        _remedy.answer(here, c)
        return mended, _remedy.repaired_there(here)
    finally:
        thread.join()
        here.close()
        there.close()


@pytest.mark.parametrize("seed", range(6))
def test_damage_of_either_is_mended_from_the_other_to_what_it_was(c: Store, b: Store, seed: int) -> None:
    """Any block of a disk, its short last one too; several at once, on both machines."""
    chance = random.Random(seed)
    before = files_in(c), files_in(b)
    places = chance.sample(range(61), 8)
    for place in places[:4]:
        spoil(c, "vda.raw", place * BLOCK_SIZE, "vda", place * BLOCK_SIZE)
    for place in places[4:]:
        spoil(b, "vda.raw", place * BLOCK_SIZE, "vda", place * BLOCK_SIZE)
    mended, mended_there = mend(c, b)
    assert {entry["offset_bytes"] for entry in mended} == {place * BLOCK_SIZE for place in places[:4]}
    assert {entry["offset_bytes"] for entry in mended_there} == {place * BLOCK_SIZE for place in places[4:]}
    assert {entry["from"] for entry in mended} == {f"{IDS[1]} on b"}
    assert {entry["from"] for entry in mended_there} == {f"{IDS[1]} on the backup storage"}
    assert (files_in(c), files_in(b)) == before


def test_another_image_will_do_and_a_file_of_the_definition_too(tmp_path: Path, b: Store) -> None:
    c = Store(make_layout(tmp_path / "c"))
    transfer(Snapshot(IDS[0], [Disk("vda", TUESDAY)], None), c)
    before = files_in(b)
    spoil(b, "vda.raw", 10 * BLOCK_SIZE, "vda", 10 * BLOCK_SIZE)
    spoil(b, "domain.xml", 2, "domain.xml")
    assert {entry["from"] for entry in mend(c, b)[1]} == {f"{IDS[0]} on the backup storage"}
    assert files_in(b) == before


def test_what_the_other_has_not_or_has_wrong_too_stays_marked(tmp_path: Path, b: Store) -> None:
    c = Store(make_layout(tmp_path / "c"))
    transfer(Snapshot(IDS[0], [Disk("vda", TUESDAY)], None), c)
    path = Path(c.path(IDS[0]), "vda.raw")
    with open(path, "r+b") as stream:
        stream.seek(20 * BLOCK_SIZE)
        stream.write(b"wrong here as well")
    for place in (50, 20):
        spoil(b, "vda.raw", place * BLOCK_SIZE, "vda", place * BLOCK_SIZE)
    damaged = files_in(b)
    assert mend(c, b) == ([], [])
    assert files_in(b) == damaged


def test_where_one_image_has_it_wrong_another_gives_it(tmp_path: Path, b: Store) -> None:
    c = Store(make_layout(tmp_path / "c"))
    for day in (0, 1):
        transfer(Snapshot(IDS[day], [Disk("vda", WEDNESDAY)], None), c)
    with open(Path(c.path(IDS[0]), "vda.raw"), "r+b") as stream:
        stream.write(b"not known yet")
    spoil(b, "vda.raw", 0, "vda")
    assert [entry["from"] for entry in mend(c, b)[1]] == [f"{IDS[1]} on the backup storage"]


def test_digests_that_are_damaged_themselves_prove_nothing(c: Store, b: Store) -> None:
    spoil(c, "vda.raw", 0, "vda")
    spoil(c, "vda.digests", 0, "vda.digests")
    assert _remedy.wanted(c) == []
    spoil(b, "vda.raw", 0, "vda")
    damaged = files_in(b)
    assert mend(c, b) == ([], [])
    assert files_in(b) == damaged


@pytest.mark.parametrize("name", ["vda", "domain.xml"])
def test_a_liar_gets_nothing_written(c: Store, name: str) -> None:
    spoil(c, "vda.raw" if name == "vda" else name, 3, name)
    damaged, (here, there) = files_in(c), wires()
    there.send(_frames.FILE, IDS[1].encode() + b"x" * BLOCK_SIZE)
    there.send(_frames.FILE, b"")
    there.send(_frames.END)
    assert _remedy.ask(here, c) == []
    assert files_in(c) == damaged
    there.send(_frames.FILE, b"", block=1)
    with pytest.raises(ResilientVmError, match="does not speak this mover's protocol"):
        _remedy.ask(here, c)


@pytest.mark.parametrize(
    "wants",
    [
        "everything",
        [7],
        [{"image": IDS[1], "disk": "../../../etc/shadow", "offset_bytes": 0}],
        [{"image": IDS[1], "disk": "vda", "offset_bytes": -1, "digest": "0" * 64}],
        [{"image": IDS[1], "disk": "vda", "offset_bytes": 0, "digest": ""}],
        [{"image": "", "disk": "", "offset_bytes": 0, "digest": "0" * 64}] * 4097,
    ],
)
def test_who_does_not_name_a_digest_is_told_nothing(c: Store, wants: Any) -> None:
    here, there = wires()
    there.send_document(_frames.OFFER, {"wanted": wants})
    with pytest.raises(ResilientVmError, match="does not speak this mover's protocol"):
        _remedy.answer(here, c)


def test_a_digest_of_another_place_or_file_finds_nothing(c: Store) -> None:
    there, here = wires()
    right = [want for want in _wants(c) if want.disk == "vda"]
    asked = [
        {"image": IDS[1], "disk": "vda", "offset_bytes": 10 * BLOCK_SIZE, "digest": right[0].digest},
        {"image": IDS[1], "disk": "vda.raw", "offset_bytes": 0, "digest": right[0].digest},
        {"image": IDS[1], "disk": "vda", "offset_bytes": 1 << 40, "digest": right[0].digest},
    ]
    there.send_document(_frames.OFFER, {"wanted": asked})
    _remedy.answer(here, c)
    assert there.receive().type == _frames.END


def _wants(store: Store) -> list[_remedy.Want]:
    store.mark_damaged(IDS[1], "vda", 3 * BLOCK_SIZE, "verify")
    return _remedy.wanted(store)
