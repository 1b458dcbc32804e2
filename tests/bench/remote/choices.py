# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast a machine does what the engine could do in several ways; prints JSON: way -> figures.

Usage: choices.py hashes|blocks|threads|levels|reads [CUSTOMER VM]; reads wants an open snapshot of that VM.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nbd
import zstandard

sys.path.insert(0, "/usr/local/lib/resilient-vm")

from fill import Content
from resilient_vm_mover._layout import Layout

KIB, MIB = 1 << 10, 1 << 20
BLOCK = 64 * KIB
HASHED = 128 * MIB
PACKED_MIB = 32
READ = 512 * MIB


def rate(count: int, work: Callable[[], Any]) -> dict[str, float]:
    began = time.monotonic()
    work()
    return {"mb_per_second": count / 1e6 / (time.monotonic() - began)}


def hashed(algorithm: str, data: memoryview, block: int) -> None:
    make = getattr(hashlib, algorithm)
    for at in range(0, len(data), block):
        make(data[at : at + block]).digest()


def hashes() -> dict[str, Any]:
    data = memoryview(os.urandom(HASHED))
    algorithms = ("sha256", "sha512", "blake2b", "blake2s", "sha3_256")
    return {name: rate(HASHED, partial(hashed, name, data, BLOCK)) for name in algorithms}


def blocks() -> dict[str, Any]:
    data = memoryview(os.urandom(HASHED))
    found = {}
    for size in (4 * KIB, 16 * KIB, BLOCK, 256 * KIB, MIB):
        found[f"blocks of {size // KIB} KiB"] = {
            **rate(HASHED, partial(hashed, "sha256", data, size)),
            "mib_of_digests_for_a_tib": 32 * (1 << 40) / size / MIB,
        }
    return found


def threads() -> dict[str, Any]:
    data = memoryview(os.urandom(HASHED))

    def all_at_once(count: int) -> None:
        part = HASHED // count
        several = [
            threading.Thread(target=hashed, args=("sha256", data[at : at + part], BLOCK))
            for at in range(0, HASHED, part)
        ]
        for one in several:
            one.start()
        for one in several:
            one.join()

    return {f"{count} threads": rate(HASHED, partial(all_at_once, count)) for count in (1, 2, 4)}


def levels() -> dict[str, Any]:
    content = Content(1)
    pieces = [content.text() for _piece in range(PACKED_MIB)]
    found = {}
    for level in (-5, 1, 3, 6, 9):
        packer = zstandard.ZstdCompressor(level=level)
        packed: list[bytes] = []
        figures = rate(PACKED_MIB * MIB, partial(packed.extend, map(packer.compress, pieces)))
        found[f"level {level}"] = {**figures, "share_of_text_left": sum(map(len, packed)) / (PACKED_MIB * MIB)}
    return found


def reads(customer: str, vm: str) -> dict[str, Any]:
    entry = json.loads(Path(Layout(customer, vm).snapshot).read_text())["disks"][0]
    ways = [(64, 1), (64, 8), (256, 8), (1024, 1), (1024, 4), (1024, 8), (1024, 16), (4096, 4)]
    # Once for nothing: the first pays for what no cache holds yet.
    read(entry, MIB, 8)
    shuffled = random.sample(ways, len(ways))
    found = {way: read(entry, way[0] * KIB, way[1]) for way in shuffled}
    return {f"{size} KiB, {ahead} at once": found[size, ahead] for size, ahead in ways}


def read(entry: dict[str, Any], size: int, ahead: int) -> dict[str, float]:
    handle = nbd.NBD()
    handle.add_meta_context("base:allocation")
    handle.set_export_name(entry["export"])
    if hasattr(handle, "set_pread_initialize"):
        handle.set_pread_initialize(False)
    handle.connect_unix(entry["socket"])
    places = allocated(handle, entry["size_bytes"], size)[: READ // size]

    def all_of_them() -> None:
        spare = [nbd.Buffer(size) for _buffer in range(ahead)]
        under_way: deque[tuple[int, Any]] = deque()

        def answer() -> None:
            cookie, buffer = under_way.popleft()
            while not handle.aio_command_completed(cookie):
                handle.poll(-1)
            buffer.to_bytearray()
            spare.append(buffer)

        for place in places:
            if not spare:
                answer()
            buffer = spare.pop()
            under_way.append((handle.aio_pread(buffer, place), buffer))
        while under_way:
            answer()

    figures = rate(len(places) * size, all_of_them)
    handle.shutdown()
    return figures


def allocated(handle: Any, disk_bytes: int, size: int) -> list[int]:
    """Where whole pieces of that size hold data."""
    found: list[int] = []
    extents: list[int] = []

    def hear(_context: str, _offset: int, entries: list[int], _error: object) -> int:
        extents.extend(entries)
        return 0

    position = 0
    while position < disk_bytes:
        extents.clear()
        handle.block_status(min(disk_bytes - position, 1 << 30), position, hear)
        for length, flags in zip(extents[::2], extents[1::2], strict=True):
            end = min(position + length, disk_bytes)
            if not flags & nbd.STATE_ZERO:
                found.extend(range(-(-position // size) * size, end - size + 1, size))
            position = end
    return found


WAYS: dict[str, Callable[..., dict[str, Any]]] = {
    "hashes": hashes,
    "blocks": blocks,
    "threads": threads,
    "levels": levels,
    "reads": reads,
}
print(json.dumps(WAYS[sys.argv[1]](*sys.argv[2:])))
