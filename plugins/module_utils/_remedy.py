# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Damage that stands on a machine, mended with what the machine at the other end has: the conversation of both.

Only what a digest proves is written, whoever it comes from; and who doesn't name a digest is told nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ._digests import BLOCK_SIZE, block_digest
from ._files import as_owner_of, moment, write_atomic
from ._frames import DONE, END, FILE, MAX_PAYLOAD, OFFER
from ._manifest import Disk
from ._mend import Held, write_block
from ._store import Store, StoredImage, file_sha256
from ._wire import Wire

__all__ = ["Want", "answer", "ask", "repaired_there", "wanted"]

# 256 MiB of blocks; who has more damage than that asks again, and looks for another disk.
_MOST = 4096
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ID_LENGTH = len("20260114T020000Z")


@dataclass(frozen=True)
class Want:
    """A block of a disk, or a whole file of a definition, that is damaged in an image; what it has to be."""

    image: str
    disk: str
    offset_bytes: int
    digest: str


def wanted(store: Store) -> list[Want]:
    """Damage that is marked in a store and whose right digest is known and can be believed."""
    found = []
    for image in store.images():
        for mark in image.damaged:
            digest = _right_digest(image, mark["disk"], mark["offset_bytes"])
            if digest:
                found.append(Want(image.id, mark["disk"], mark["offset_bytes"], digest))
    return found[:_MOST]


def _right_digest(image: StoredImage, name: str, offset: int) -> str:
    manifest = image.manifest
    if manifest is None:
        return ""
    disk = manifest.disk(name)
    if disk is not None and not _doubted(image, disk):
        with image.digests(disk) as digests:
            block = offset // BLOCK_SIZE
            return digests.read(block, 1).hex() if block < digests.blocks else ""
    return next((entry.sha256 for entry in manifest.definition if entry.name == name), "")


def _doubted(image: StoredImage, disk: Disk) -> bool:
    return any(mark["disk"] == disk.digests for mark in image.damaged)


@contextlib.contextmanager
def _open(image: StoredImage, disk: Disk) -> Iterator[Held]:
    with open(image.file(disk.file), "rb") as raw, image.digests(disk) as digests:
        yield Held(image, disk, raw.fileno(), digests)


def ask(wire: Wire, store: Store) -> list[dict[str, Any]]:
    """Have the other end's bytes for what is damaged here, and write them where they belong; what is right again."""
    wants = wanted(store)
    wire.send_document(OFFER, {"wanted": [asdict(want) for want in wants]})
    repaired: list[dict[str, Any]] = []
    while True:
        frame = wire.receive()
        if frame.type == END:
            return repaired
        if frame.type != FILE or frame.block >= len(wants):
            wire.stranger()
        want, payload = wants[frame.block], bytes(frame.payload)
        if _take(store, want, payload[_ID_LENGTH:]):
            source = payload[:_ID_LENGTH].decode("ascii", "replace")
            where = {"image": want.image, "disk": want.disk, "offset_bytes": want.offset_bytes}
            repaired.append({**where, "from": f"{source} on {wire.peer}"})


def answer(wire: Wire, store: Store) -> None:
    """Send the other end what it asks for, as far as it is here and right."""
    wants, images = wire.expect(OFFER).document().get("wanted"), store.images()
    if not isinstance(wants, list) or len(wants) > _MOST:
        wire.stranger()
    for number, want in enumerate(wants):
        if not isinstance(want, dict) or not _sound(want):
            wire.stranger()
        found = _find(images, Want(**want))
        if found:
            wire.send(FILE, found, block=number)
    wire.send(END)
    wire.flush()


def _sound(want: dict[str, Any]) -> bool:
    kinds = {name: type(value) for name, value in want.items()}
    return (
        kinds == {"image": str, "disk": str, "offset_bytes": int, "digest": str}
        and want["offset_bytes"] >= 0
        and _DIGEST.fullmatch(want["digest"]) is not None
    )


def _find(images: Sequence[StoredImage], want: Want) -> bytes:
    """The id of an image that has it, and its bytes; nothing when none has."""
    for image in images:
        # Erased, or unreadable there: another may do.
        with contextlib.suppress(OSError):
            data = _read(image, want)
            if data:
                return image.id.encode() + data
    return b""


def _read(image: StoredImage, want: Want) -> bytes:
    disk = image.manifest.disk(want.disk) if image.manifest is not None else None
    if disk is None:
        return _read_file(image, want)
    block = want.offset_bytes // BLOCK_SIZE
    if _doubted(image, disk):
        return b""
    with _open(image, disk) as held:
        if block >= held.digests.blocks or held.digests.read(block, 1).hex() != want.digest:
            return b""
        data = held.read(block)
        return data if block_digest(data).hex() == want.digest else b""


def _read_file(image: StoredImage, want: Want) -> bytes:
    definition = image.manifest.definition if image.manifest is not None else ()
    for entry in definition:
        path = image.file(entry.name)
        if (entry.name, entry.sha256) != (want.disk, want.digest) or os.path.getsize(path) > MAX_PAYLOAD - _ID_LENGTH:
            continue
        with open(path, "rb") as stream:
            data = stream.read()
        if hashlib.sha256(data).hexdigest() == want.digest:
            return data
    return b""


def _take(store: Store, want: Want, data: bytes) -> bool:
    """Write it if it is what it has to be; whether it is right now, read again from the device."""
    image = store.read(want.image)
    if image.manifest is None or not _write(image, want, data):
        return False
    with moment(store.layout.lock, "verify"):
        if not os.path.isdir(image.path):
            return False
        store.clear_mark(want.image, want.disk, want.offset_bytes)
    return True


def _write(image: StoredImage, want: Want, data: bytes) -> bool:
    disk = image.manifest.disk(want.disk) if image.manifest is not None else None
    if disk is not None:
        with _open(image, disk) as held:
            return write_block(held, want.offset_bytes // BLOCK_SIZE, data)
    if hashlib.sha256(data).hexdigest() != want.digest:
        return False
    with as_owner_of(image.path):
        write_atomic(image.file(want.disk), data)
    return file_sha256(image.file(want.disk)) == want.digest


def repaired_there(wire: Wire) -> list[dict[str, Any]]:
    """What the other end has mended, by its last word."""
    names = ("image", "disk", "offset_bytes", "from")
    entries = wire.expect(DONE).document().get("repaired")
    return [{name: entry.get(name) for name in names} for entry in entries or [] if isinstance(entry, dict)]
