# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images on the backup storage, or generations on a host, held against their digests: a share a day, or all of them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ._digests import BLOCK_SIZE, DIGEST_SIZE, ZERO, wrong_blocks
from ._files import data_ranges, locked, moment, read_json, write_json
from ._layout import Layout
from ._mend import Held, holds, mend_block, mend_digests, mend_file, mend_manifest, root_is_right
from ._places import places
from ._round import Round, merged, todo
from ._store import MANIFEST, Store, StoredImage

__all__ = ["Verification", "Wish", "standing", "told"]

# 4 MiB of each image at a time: what images share is found within it.
_CHUNK = 64
_FOUND_BY = "verify"


@dataclass(frozen=True)
class Wish:
    """What image_verify was asked for. ``seconds``: after so long it stops where it is, to be asked again."""

    days: int = 14
    everything: bool = False
    rate: int = 0
    seconds: float = 20.0
    goal: Mapping[str, int] | None = None


@dataclass
class Verification:
    """One turn of verifying what lies in one folder of a VM."""

    store: Store
    wish: Wish
    now: datetime
    sleep: Callable[[float], None] = time.sleep
    read_bytes: int = 0
    shared_bytes: int = 0
    repaired: list[dict[str, Any]] = field(default_factory=list)

    @property
    def _layout(self) -> Layout:
        return self.store.layout

    @property
    def _mode(self) -> str:
        return "whole" if self.wish.everything else "share"

    @property
    def _record(self) -> str:
        return os.path.join(self._layout.verification, os.path.basename(self.store.folder) + ".json")

    # what there is to do

    def due(self) -> dict[str, tuple[int, int]]:
        """(first block, count) for each disk that this run has to read in every image. Reads no disk."""
        with self._open() as disks:
            return {
                target: todo(_blocks(copies), rounds, _held(copies), self._days, self.now)
                for target, (copies, rounds) in self._with_rounds(disks).items()
            }

    @property
    def _days(self) -> int:
        return 1 if self.wish.everything else self.wish.days

    def _with_rounds(self, disks: Mapping[str, list[Held]]) -> dict[str, tuple[list[Held], Round]]:
        known = (read_json(self._record) or {}).get(self._mode) or {}
        return {target: (copies, Round.of(known.get(target))) for target, copies in disks.items()}

    @contextlib.contextmanager
    def _open(self) -> Iterator[dict[str, list[Held]]]:
        """Every disk of every image whose digests can be believed, by target."""
        disks: dict[str, list[Held]] = {}
        with contextlib.ExitStack() as stack:
            for image in self.store.images():
                for disk in image.manifest.disks if image.manifest is not None else []:
                    if any(mark["disk"] == disk.digests for mark in image.damaged):
                        continue
                    raw = stack.enter_context(open(image.file(disk.file), "rb"))
                    digests = stack.enter_context(image.digests(disk))
                    disks.setdefault(disk.target, []).append(Held(image, disk, raw.fileno(), digests))
            yield dict(sorted(disks.items()))

    def plan(self) -> dict[str, Any]:
        """What a run would read, at most; of it, what images share is read once."""
        due, size = self.due(), 0
        with self._open() as disks:
            for target, (first, count) in due.items():
                for copy in disks.get(target, []):
                    size += sum(length for _at, length in _chunks(_held([copy]), first, first + count)) * BLOCK_SIZE
        goal = {target: first + count for target, (first, count) in due.items()}
        return {"running": False, "goal": goal, "read_bytes": size, "shared_bytes": 0, "repaired": []}

    # a turn

    def run(self) -> dict[str, Any]:
        """Go on until the goal is reached or the turn is over. What was done is on the disk at every instant."""
        os.makedirs(self._layout.verification, 0o750, exist_ok=True)
        until = time.monotonic() + self.wish.seconds
        with locked(os.path.join(self._layout.verification, "lock"), "verify"):
            goal = self.wish.goal
            if goal is None:
                self._check_files()
                goal = {target: first + count for target, (first, count) in self.due().items()}
            left = self._read_on(goal, until)
        return {
            "running": bool(left),
            "goal": left,
            "read_bytes": self.read_bytes,
            "shared_bytes": self.shared_bytes,
            "repaired": self.repaired,
        }

    def _check_files(self) -> None:
        """Manifests, definitions and digest files as a whole, and again every block that is marked."""
        for image in self.store.images():
            if image.problem and mend_manifest(image.path):
                self._clear(image.id, MANIFEST, 0, "its checksum")
        images = [image for image in self.store.images() if image.manifest is not None]
        for image in images:
            self._check_definition(image, images)
        for image in images:
            self._check_digests(image, images)
        with self._open() as disks:
            for image in self.store.images():
                for mark in image.damaged:
                    copies = disks.get(mark["disk"], [])
                    block = mark["offset_bytes"] // BLOCK_SIZE
                    for held in [held for held in copies if held.image.id == image.id and block < held.digests.blocks]:
                        self._check_block(held, block, copies)

    def _check_definition(self, image: StoredImage, images: Sequence[StoredImage]) -> None:
        for entry in image.manifest.definition if image.manifest is not None else []:
            right = holds(image.file(entry.name), entry.sha256)
            if self._marked(image, entry.name, 0, right) and (source := mend_file(image, entry, images)):
                self._clear(image.id, entry.name, 0, source)

    def _check_digests(self, image: StoredImage, images: Sequence[StoredImage]) -> None:
        for disk in image.manifest.disks if image.manifest is not None else []:
            right = root_is_right(image, disk)
            if self._marked(image, disk.digests, 0, right) and mend_digests(image, disk, images):
                self._clear(image.id, disk.digests, 0, "the disk's own bytes")

    def _check_block(self, held: Held, block: int, copies: Sequence[Held]) -> None:
        """A block that was found wrong now or earlier: looked at once more, and mended if anybody has the right one."""
        offset, right = block * BLOCK_SIZE, held.right(block)
        if self._marked(held.image, held.disk.target, offset, right) and (source := mend_block(held, block, copies)):
            self._clear(held.image.id, held.disk.target, offset, source)

    def _marked(self, image: StoredImage, name: str, offset: int, right: bool) -> bool:
        """Whether it is wrong and marked so, which comes before anything is tried. A mark on what is right goes."""
        known = any((mark["disk"], mark["offset_bytes"]) == (name, offset) for mark in image.damaged)
        if right:
            if known:
                self._clear(image.id, name, offset, "an earlier run, or another device")
            return False
        with moment(self._layout.lock, _FOUND_BY):
            there = os.path.isdir(image.path)
            if there:
                self.store.mark_damaged(image.id, name, offset, _FOUND_BY, self._right_at(image, name))
        return there

    def _clear(self, image_id: str, name: str, offset: int, source: str) -> None:
        with moment(self._layout.lock, _FOUND_BY):
            self.store.clear_mark(image_id, name, offset)
        self.repaired.append({"image": image_id, "disk": name, "offset_bytes": offset, "from": source})

    def _right_at(self, image: StoredImage, target: str) -> str:
        """When this was last known to be right: at the start of the last whole round, else when it was published."""
        published = image.manifest.published if image.manifest is not None else ""
        document = read_json(self._record) or {}
        rounds = [Round.of((document.get(mode) or {}).get(target)) for mode in ("share", "whole")]
        return max([published, *(each.proven for each in rounds if each.proven)])

    # blocks

    def _read_on(self, goal: Mapping[str, int], until: float) -> dict[str, int]:
        """Read up to the goal; what of it is left because the time was over first."""
        left = dict(goal)
        with self._open() as disks:
            for target, (copies, state) in self._with_rounds(disks).items():
                if target in left:
                    if self._over_before(target, copies, state.begun(self.now), left[target], until):
                        return left
                    del left[target]
        return {}

    def _over_before(self, target: str, copies: Sequence[Held], rounds: Round, stop: int, until: float) -> bool:
        blocks = _blocks(copies)
        stop, first = min(stop, blocks), rounds.next_block if rounds.next_block < blocks else 0
        for at, count in _chunks(_held(copies), first, stop):
            if time.monotonic() >= until and at > first:
                return True
            self._paced(copies, at, count)
            if at + count < stop:
                self._save(target, rounds.at(at + count, blocks))
        self._save(target, rounds.at(stop, blocks))
        return False

    def _save(self, target: str, rounds: Round) -> None:
        document = read_json(self._record) or {}
        document.setdefault(self._mode, {})[target] = rounds.as_dict()
        write_json(self._record, document)

    def _paced(self, copies: Sequence[Held], first: int, count: int) -> None:
        begun, before = time.monotonic(), self.read_bytes
        self._check_chunk(copies, first, count)
        if self.wish.rate:
            left = (self.read_bytes - before) / self.wish.rate - (time.monotonic() - begun)
            if left > 0:
                self.sleep(left)

    def _check_chunk(self, copies: Sequence[Held], first: int, count: int) -> None:
        right: set[tuple[int, bytes]] = set()
        for held in copies:
            blocks = range(first, min(first + count, held.digests.blocks))
            if not blocks:
                continue
            digests = held.digests.read(first, len(blocks))
            wanted = {b: digests[(b - first) * DIGEST_SIZE : (b - first + 1) * DIGEST_SIZE] for b in blocks}
            where = places(held.raw, first * BLOCK_SIZE, len(blocks) * BLOCK_SIZE, BLOCK_SIZE)
            # The same place on the device, held to be the same: read a moment ago for another image.
            known = {b for b in blocks if b in where and (where[b], wanted[b]) in right}
            empty = {b for b in blocks if wanted[b] == ZERO} - _with_data(held, first, len(blocks))
            self.shared_bytes += len(known) * BLOCK_SIZE
            for begin, length in merged((b, 1) for b in blocks if b not in known and b not in empty):
                wrong = self._wrong(held, begin, length)
                for block in range(begin, begin + length):
                    if block in where and block not in wrong:
                        right.add((where[block], wanted[block]))
                for block in sorted(wrong):
                    self._check_block(held, block, copies)

    def _wrong(self, held: Held, first: int, count: int) -> set[int]:
        offset, length = first * BLOCK_SIZE, count * BLOCK_SIZE
        os.posix_fadvise(held.raw, offset, length, os.POSIX_FADV_DONTNEED)
        try:
            data = os.pread(held.raw, length, offset)
        except OSError:
            # Somewhere in it the device gives nothing; block by block it shows where.
            return {block for block in range(first, first + count) if not held.right(block)}
        self.read_bytes += len(data)
        os.posix_fadvise(held.raw, offset, length, os.POSIX_FADV_DONTNEED)
        return {first + index for index in wrong_blocks(data, held.digests.read(first, count))}


def standing(store: Store) -> tuple[list[dict[str, Any]], list[str]]:
    """Damage that stands in a store: every mark with its image, and a sentence for each image that can't be used."""
    images = store.images()
    marks = [{"image": image.id, **mark} for image in images for mark in image.damaged]
    return marks, [image.problem for image in images if image.problem]


def _blocks(copies: Sequence[Held]) -> int:
    return max(held.digests.blocks for held in copies)


def _held(copies: Sequence[Held]) -> list[tuple[int, int]]:
    """(first, count) of the blocks that any image may hold data in, by its digests or by its bytes."""
    ranges = [each for held in copies for each in held.digests.held()]
    for held in copies:
        for begin, end in data_ranges(held.raw, held.disk.size_bytes):
            ranges.append((begin // BLOCK_SIZE, -(-end // BLOCK_SIZE) - begin // BLOCK_SIZE))
    return merged(ranges)


def _chunks(held: Sequence[tuple[int, int]], first: int, stop: int) -> Iterator[tuple[int, int]]:
    for begin, count in held:
        at, end = max(begin, first), min(begin + count, stop)
        while at < end:
            yield at, min(_CHUNK, end - at)
            at += _CHUNK


def _with_data(held: Held, first: int, count: int) -> set[int]:
    """Blocks of a range of which the file holds any byte; the rest of it are holes."""
    found: set[int] = set()
    position, end = first * BLOCK_SIZE, min((first + count) * BLOCK_SIZE, held.disk.size_bytes)
    while position < end:
        try:
            begin = os.lseek(held.raw, position, os.SEEK_DATA)
        except OSError:
            break  # no data up to the end of the file
        stop = min(os.lseek(held.raw, begin, os.SEEK_HOLE), end)
        found.update(range(begin // BLOCK_SIZE, -(-stop // BLOCK_SIZE)))
        position = max(stop, position + 1)
    return found


def told(
    store: Store, repaired: Sequence[Mapping[str, Any]], damaged: Sequence[Mapping[str, Any]], problems: Sequence[str]
) -> dict[str, list[str]]:
    """The same in sentences, for people."""
    kind = "generation" if store.folder.endswith("generations") else "image"

    def place(entry: Mapping[str, Any]) -> str:
        where = f"{entry['disk']} at byte {entry['offset_bytes']}"
        return f"{kind} {entry['image']} of {store.layout.name}: {where}"

    return {
        "told": [f"{place(entry)} was damaged and is right again, from {entry['from']}" for entry in repaired],
        "wrong": [
            f"{place(mark)} is damaged, found {mark['found']} by {mark['found_by']}, "
            f"right until {mark.get('right_at') or 'nobody knows when'}, "
            "and nobody has the right bytes; it is not used any more"
            for mark in damaged
        ]
        + list(problems),
    }
