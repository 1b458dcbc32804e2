# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Damage anywhere in what is kept is found, mended where the right bytes are at hand, else marked and named."""

from __future__ import annotations

import builtins
import errno
import json
import os
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from unit.engine_fakes import IDS, Disk, Snapshot, blocks, change, make_layout, transfer

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock, _mend, _mended, _verify
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._digests import BLOCK_SIZE
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._places import places
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._verify import Verification, Wish, standing, told

TUESDAY = blocks(200) + b"tail" * 100
# Blocks of Wednesday that no other day has, and those of Tuesday that Wednesday has not.
CHANGED = {3, 4, 150}
WEDNESDAY = change(TUESDAY, CHANGED, seed=3)
NOW = "2026-01-05T04:00:00Z"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A backup storage with two days."""
    made = Store(make_layout(tmp_path / "root"))
    transfer(Snapshot(IDS[0], [Disk("vda", TUESDAY)], None), made)
    transfer(Snapshot(IDS[1], [Disk("vda", WEDNESDAY)], None), made)
    return made


def verify(store: Store, now: str = NOW, **wish: Any) -> dict[str, Any]:
    verification = Verification(store, Wish(**{"everything": True, **wish}), _clock.now(now))
    result = verification.run()
    damaged, problems = standing(store)
    return {**result, "damaged": damaged, **told(store, result["repaired"], damaged, problems)}


def flip(path: Path, offset: int, bits: int = 0xFF) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= bits
    with open(path, "r+b") as stream:
        stream.seek(offset)
        stream.write(data[offset : offset + 1])


def files_in(store: Store) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path(store.folder).rglob("*")) if path.is_file()}


def image(store: Store, day: int, name: str) -> Path:
    return Path(store.path(IDS[day]), name)


def test_what_is_right_stays_as_it_is(store: Store) -> None:
    before = files_in(store)
    result = verify(store)
    assert (result["damaged"], result["repaired"], result["wrong"], result["running"]) == ([], [], [], False)
    assert result["read_bytes"] + result["shared_bytes"] > len(TUESDAY)
    assert files_in(store) == before


@pytest.mark.parametrize("seed", range(12))
def test_a_bit_anywhere_is_found_and_mended_to_what_it_was(store: Store, seed: int) -> None:
    """In a block that another day has, a digest file, a manifest, its checksum or the definition."""
    chance, before = random.Random(seed), files_in(store)
    names = ("vda.raw", "vda.digests", "manifest.json", "manifest.sha256", "domain.xml")
    path = image(store, chance.randrange(2), names[seed % len(names)])
    offset = chance.randrange(path.stat().st_size)
    while path.name == "vda.raw" and offset // BLOCK_SIZE in CHANGED:
        offset = chance.randrange(path.stat().st_size)
    flip(path, offset, 1 << chance.randrange(8))
    result = verify(store)
    assert len(result["repaired"]) == 1, result
    assert result["repaired"][0]["image"] == path.parent.name
    assert (result["damaged"], result["wrong"]) == ([], [])
    assert files_in(store) == before
    assert verify(store)["repaired"] == []


def test_what_nobody_else_has_is_named_marked_and_never_used(store: Store) -> None:
    flip(image(store, 1, "vda.raw"), 150 * BLOCK_SIZE + 7)
    result = verify(store)
    assert [(mark["disk"], mark["offset_bytes"]) for mark in result["damaged"]] == [("vda", 150 * BLOCK_SIZE)]
    assert f"image {IDS[1]} of acme/erp: vda at byte {150 * BLOCK_SIZE} is damaged" in result["wrong"][0]
    newest = store.newest()
    assert newest is not None
    assert newest.id == IDS[0]
    # Somebody brings the block back: the mark goes.
    flip(image(store, 1, "vda.raw"), 150 * BLOCK_SIZE + 7)
    result = verify(store, everything=False, days=14)
    assert (result["damaged"], len(result["repaired"])) == ([], 1)
    assert not image(store, 1, "damaged.json").exists()


def test_a_mark_says_until_when_the_block_was_right(store: Store) -> None:
    verify(store, "2030-01-05T04:00:00Z")
    flip(image(store, 1, "vda.raw"), 3 * BLOCK_SIZE)
    result = verify(store, "2030-01-06T04:00:00Z")
    assert result["damaged"][0]["right_at"] == "2030-01-05T04:00:00Z"
    assert "right until 2030-01-05T04:00:00Z" in result["wrong"][0]


def test_a_digest_file_and_a_block_of_the_same_disk(store: Store) -> None:
    before = files_in(store)
    flip(image(store, 1, "vda.digests"), 3 * 32 + 5)
    flip(image(store, 1, "vda.raw"), 100 * BLOCK_SIZE + 5)
    assert len(verify(store)["repaired"]) == 2
    assert files_in(store) == before


def test_data_in_a_block_that_is_to_be_empty(store: Store) -> None:
    empty = next(b for b in range(200) if not any(TUESDAY[b * BLOCK_SIZE : (b + 1) * BLOCK_SIZE]) and b not in CHANGED)
    before = files_in(store)
    flip(image(store, 0, "vda.raw"), empty * BLOCK_SIZE + 1000)
    assert [entry["from"] for entry in verify(store)["repaired"]] == ["its digest"]
    assert files_in(store) == before


def test_a_device_that_does_not_keep_the_right_block(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark stays: what was written is read back before it counts."""
    flip(image(store, 1, "vda.raw"), 5 * BLOCK_SIZE + 100 * BLOCK_SIZE)
    monkeypatch.setattr("os.pwrite", lambda _descriptor, data, _offset: len(data))
    result = verify(store)
    assert (len(result["damaged"]), result["repaired"]) == (1, [])


def test_turns_and_kills_end_where_one_run_ends(store: Store) -> None:
    """A run of no time at all reads one piece; the next, which knows nothing of it, goes on there."""
    read, turns = 0, 0
    result = verify(store, seconds=0)
    while result["running"]:
        turns, read = turns + 1, read + result["read_bytes"]
        result = verify(store, seconds=0, goal=result["goal"] if turns % 2 else None)
    whole = verify(store)["read_bytes"]
    assert turns > 2
    assert read + result["read_bytes"] == whole


def test_the_days_cover_everything(store: Store) -> None:
    flip(image(store, 0, "vda.raw"), len(TUESDAY) - 1)
    found = [verify(store, f"2026-01-{day:02}T04:00:00Z", everything=False, days=7)["repaired"] for day in range(5, 12)]
    assert [len(entries) for entries in found] == [0, 0, 0, 0, 0, 0, 1]


def test_a_rate_is_kept(store: Store) -> None:
    waited: list[float] = []
    verification = Verification(store, Wish(everything=True, rate=1 << 20), _clock.now(NOW), waited.append)
    verification.run()
    assert sum(waited) == pytest.approx(verification.read_bytes / (1 << 20), rel=0.2)


def test_check_mode_reads_and_writes_nothing(store: Store) -> None:
    before = files_in(store)
    plan = Verification(store, Wish(everything=True), _clock.now(NOW)).plan()
    assert plan["read_bytes"] >= verify(store)["read_bytes"]
    assert files_in(store) == before


def test_what_images_share_on_the_device_is_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only where both are held to be the same there."""
    with open(image(store, 0, "vda.raw"), "rb") as stream:
        real = places(stream.fileno(), 0, len(TUESDAY), BLOCK_SIZE)
    assert all(place > 0 for place in real.values())
    alone = verify(store)["read_bytes"]

    def same(_descriptor: int, offset: int, length: int, size: int) -> dict[int, int]:
        return {block: block * size for block in range(offset // size, (offset + length) // size)}

    monkeypatch.setattr(_verify, "places", same)
    together = verify(store)
    assert together["read_bytes"] < alone * 0.65
    assert together["shared_bytes"] > 0
    flip(image(store, 0, "vda.raw"), 60 * BLOCK_SIZE)
    assert len(verify(store)["repaired"]) == 1


def test_an_image_without_a_checksum_is_verified_by_its_root_digests(store: Store) -> None:
    """As those of earlier versions are."""
    os.unlink(image(store, 0, "manifest.sha256"))
    path = image(store, 0, "manifest.json")
    document = json.loads(path.read_text())
    document["disks"][0]["root_digest"] = "0" * 64
    path.write_text(json.dumps(document))
    assert [mark["disk"] for mark in verify(store)["damaged"]] == ["vda.digests"]


def test_a_manifest_beyond_mending_is_named_and_left(store: Store) -> None:
    for offset in (10, 40):
        flip(image(store, 0, "manifest.json"), offset)
    text = image(store, 0, "manifest.json").read_bytes()
    assert str(image(store, 0, "manifest.json")) in verify(store)["wrong"][0]
    assert image(store, 0, "manifest.json").read_bytes() == text


def test_a_disk_that_is_missing_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried on the manifest, which is what it was; the other image is verified all the same."""
    os.unlink(image(store, 0, "vda.raw"))
    monkeypatch.setattr(_mend, "_one_byte", lambda _data, _wanted: pytest.fail("the manifest is right"))
    result = verify(store)
    assert f"{image(store, 0, 'vda.raw')} is missing" in result["wrong"][0]
    assert result["read_bytes"] > 0


def test_what_was_mended_is_told_later(store: Store) -> None:
    """The last twenty of it, wherever it was mended."""
    at = _clock.now(NOW)
    for number in range(30):
        entry = {"image": IDS[0], "disk": "vda", "offset_bytes": number, "from": f"{IDS[1]} on b"}
        _mended.write_down(store.layout, "images", [entry], at + timedelta(minutes=number))
    _mended.write_down(store.layout, "images", [], at)
    entries = _mended.mended(store.layout)
    assert [entry["offset_bytes"] for entry in entries] == list(range(10, 30))
    (said,) = _mended.remarks(entries)
    assert said.startswith(
        f"mended by verify, last at 2026-01-05T04:29:00Z: image {IDS[0]}, vda at byte 29, from {IDS[1]} on b"
    )
    assert _mended.remarks([]) == []


@pytest.mark.parametrize("name", ["domain.xml", "vda.digests"])
def test_a_file_on_a_sector_that_cannot_be_read_is_mended(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = image(store, 0, name)
    before, rotten, opened = path.read_bytes(), path.stat().st_ino, builtins.open

    def reads(file: Any, *given: Any, **named: Any) -> Any:
        if str(file) == str(path) and path.stat().st_ino == rotten:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return opened(file, *given, **named)

    monkeypatch.setattr("builtins.open", reads)
    if name == "vda.digests":
        # What looks whether it is right opens it another way.
        os.truncate(path, 0)
    result = verify(store)
    assert [entry["disk"] for entry in result["repaired"]] == [name], result
    assert path.read_bytes() == before and result["damaged"] == []
