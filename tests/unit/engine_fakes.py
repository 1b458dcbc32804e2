# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sender and a receiver over real pipes and real files in one process, and disks held in memory."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _frames, _wire
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._digests import (
    BLOCK_SIZE,
    RootDigest,
    block_count,
    block_digest,
)
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._receiver import Receiver
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._regions import Extent, Region, block_regions
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._sender import Plan, Sender
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store

KIB = 1024
UUID = "0b7a1c2d-3e4f-4a5b-8c6d-7e8f9a0b1c2d"


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

    def ask(self, first: int, count: int) -> tuple[bytes, bytearray]:
        data = self.read(first, count)
        return data, bytearray(len(data))

    def answer(self, asked: tuple[bytes, bytearray]) -> bytearray:
        data, buffer = asked
        buffer[:] = data
        return buffer

    def done(self, asked: tuple[bytes, bytearray]) -> None:
        """The next read comes into the same place."""
        data, buffer = asked
        buffer[:] = b"?" * len(data)

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
            "uuid": UUID,
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
# Carries what it reads from one descriptor to another.
Carrier = Callable[[int, int], object]


def join(sender: _wire.Wire, receiver: _wire.Wire, held: Carrier | None = None) -> list[threading.Thread]:
    """One more stream between two wires, over pipes or what ``held`` does to it; the threads that serve it."""
    down, up = os.pipe(), os.pipe()
    arriving = down[0]
    threads = []
    if held is not None:
        arriving, leaving = os.pipe()
        threads.append(threading.Thread(target=held, args=(down[0], leaving), daemon=True))
    ends = ((sender, up[0], down[1], True), (receiver, arriving, up[1], False))
    threads += [threading.Thread(target=wire.lane, args=words, daemon=True) for wire, *words in ends]
    for thread in threads:
        thread.start()
    return threads


def transfer(
    source: Any,
    store: Store,
    cut_after: int | None = None,
    further: Callable[[_wire.Wire, _wire.Wire], object] = lambda _sender, _receiver: None,
    **options: Any,
) -> dict[str, Any]:
    """Move an image between two threads. ``cut_after``: break the link after so many data frames. ``further`` opens
    more streams between both ends."""
    down, up = os.pipe(), os.pipe()
    there = _wire.Wire(up[0], down[1], "receiver")
    here = _wire.Wire(down[0], up[1], "sender")
    failed: list[BaseException] = []
    further(there, here)

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
        here.send_document(_frames.DONE, result)
        result["wire_bytes"] = here.bytes_received + here.bytes_sent
        return result
    finally:
        here.close()
        thread.join()


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


def restoring(images: Layout, layout: Layout, name: str, **more: Any) -> dict[str, Any]:
    """What a module that makes a machine of the first image is asked for, on a host."""
    manifest = Store(images).read(IDS[0]).manifest
    assert manifest is not None
    names = ("target", "size_bytes", "root_digest")
    return {
        "root": layout.root,
        "customer": "acme",
        "vm": "erp",
        "image_id": IDS[0],
        "name": name,
        "disks": [{name: getattr(entry, name) for name in names} for entry in manifest.disks],
        "definition": [{"name": entry.name, "sha256": entry.sha256} for entry in manifest.definition],
        "reserve_bytes": 0,
        **more,
    }
