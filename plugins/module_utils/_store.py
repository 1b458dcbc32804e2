# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The images of a VM on the backup storage, and its generations on a host: list, publish, pin, mark, erase."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from . import _clock
from ._digests import DigestFile
from ._errors import ResilientVmError
from ._files import (
    as_owner_of,
    fsync_directory,
    fsync_tree,
    json_text,
    read_json,
    remove_tree,
    unreadable,
    write_json,
    write_unsynced,
)
from ._layout import Layout
from ._manifest import IMAGE_ID, Disk, Manifest
from ._state import State

__all__ = ["MANIFEST", "MANIFEST_SUM", "Pin", "Store", "StoredImage", "file_sha256", "write_manifest"]

MANIFEST = "manifest.json"
# As sha256sum writes it and checks it. Images of an earlier version have none.
MANIFEST_SUM = "manifest.sha256"
_DAMAGED = "damaged.json"


@dataclass(frozen=True)
class Pin:
    """Keeps an image from being erased until an instant; a reader renews its own while it reads."""

    image: str
    purpose: str
    until: datetime | None
    reading: bool


@dataclass(frozen=True)
class StoredImage:
    """An image as found in a store. ``problem`` is a sentence when its manifest cannot be used."""

    id: str
    path: str
    manifest: Manifest | None
    problem: str = ""
    damaged: list[dict[str, Any]] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether everything is there and nothing is known to be wrong with it."""
        return self.manifest is not None and not self.damaged

    @property
    def reading(self) -> bool:
        return any(pin.reading for pin in self.pins)

    @property
    def pinned_by(self) -> list[str]:
        return [pin.purpose for pin in self.pins if not pin.reading]

    def file(self, name: str) -> str:
        return os.path.join(self.path, name)

    def summary(self) -> dict[str, Any]:
        """What modules return of an image: its manifest, its standing in the store, and its space there in bytes.

        Space is what its files would take alone; blocks shared with other images are counted in each.
        """
        manifest: dict[str, Any] = self.manifest.as_dict() if self.manifest is not None else {"id": self.id}
        names = [name for disk in manifest.get("disks", []) for name in (disk["file"], disk["digests"])]
        return {
            **manifest,
            "complete": self.complete,
            "problem": self.problem,
            "damaged": self.damaged,
            "pinned_by": self.pinned_by,
            "reading": self.reading,
            "bytes_allocated": sum(os.stat(self.file(name)).st_blocks * 512 for name in names),
            "bytes_sent": sum(disk["bytes_sent"] for disk in manifest.get("disks", [])),
        }

    def digests(self, disk: Disk) -> DigestFile:
        return DigestFile(self.file(disk.digests), disk.size_bytes)


class Store:
    """One folder of images: ``images`` on the backup storage, ``generations`` on a host."""

    # Whether every block of the base is read and checked before an image is built on it.
    doubts_base = False

    def __init__(self, layout: Layout, folder: str = "images") -> None:
        self.layout = layout
        self.folder = os.path.join(layout.directory, folder)

    @property
    def incoming(self) -> str:
        """Where an image is built before it is published here."""
        return self.layout.incoming

    def base(self) -> StoredImage | None:
        """What the next image is built on."""
        return self.newest()

    def path(self, image_id: str) -> str:
        if not IMAGE_ID.fullmatch(image_id):
            raise ResilientVmError(f"{image_id!r} is not an image id like 20260114T020000Z")
        return os.path.join(self.folder, image_id)

    def _ids(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.folder) if IMAGE_ID.fullmatch(name))
        except FileNotFoundError:
            return []

    def read(self, image_id: str) -> StoredImage:
        """One image with what is known of it. A manifest that cannot be used is told in ``problem``."""
        return self._read(image_id, list(self.pins()))

    def _read(self, image_id: str, pins: list[Pin]) -> StoredImage:
        path = self.path(image_id)
        manifest, problem = None, ""
        where = os.path.join(path, MANIFEST)
        try:
            document = read_json(where)
            if document is None:
                raise ResilientVmError(f"{where} is missing; restore the file or erase the image", path=where)
            manifest = Manifest.from_dict(document, where, self.layout.customer, self.layout.vm)
            self._check_files(path, manifest)
            _check_sum(path)
        except ResilientVmError as error:
            manifest, problem = None, str(error)
        damaged: list[dict[str, Any]] = []
        try:
            damaged = _marks(os.path.join(path, _DAMAGED))
        except ResilientVmError as error:
            manifest, problem = None, str(error)
        return StoredImage(image_id, path, manifest, problem, damaged, [pin for pin in pins if pin.image == image_id])

    @staticmethod
    def _check_files(path: str, manifest: Manifest) -> None:
        if manifest.id != os.path.basename(path):
            raise ResilientVmError(
                f"{path} holds the manifest of image {manifest.id}; give the folder that name or erase it",
                path=path,
            )
        for disk in manifest.disks:
            file = os.path.join(path, disk.file)
            try:
                size = os.stat(file).st_size
            except FileNotFoundError:
                size = -1
            except OSError as error:
                raise unreadable(file, error) from error
            if size != disk.size_bytes or not os.path.exists(os.path.join(path, disk.digests)):
                raise ResilientVmError(
                    f"{file} is missing or has not the {disk.size_bytes} bytes its manifest names; erase this image",
                    path=file,
                )

    def images(self) -> list[StoredImage]:
        """All published images, oldest first: by (epoch, id); those without a usable manifest come first."""
        pins = list(self.pins())
        found = [self._read(image_id, pins) for image_id in self._ids()]
        return sorted(found, key=lambda image: (image.manifest.epoch if image.manifest else 0, image.id))

    def newest(self) -> StoredImage | None:
        """The newest complete image, highest (epoch, id), or None."""
        complete = [image for image in self.images() if image.complete]
        return complete[-1] if complete else None

    def epoch(self) -> int:
        """The highest epoch known here, of an image or of the state document: nothing older is published any more."""
        known = [image.manifest.epoch for image in self.images() if image.manifest]
        document = read_json(self.layout.state)
        if document is not None:
            known.append(State.from_json(document, self.layout.state).epoch)
        return max(known, default=0)

    def publish(self, work: str, manifest: Manifest) -> StoredImage:
        """Turn a finished working directory into an image: fsync everything, then one rename.

        The caller holds the VM's lock. Raises ResilientVmError when an image of this id is there or a newer epoch is.
        """
        images = self.images()
        epoch = self.epoch()
        if manifest.epoch < epoch:
            raise ResilientVmError(
                f"image {manifest.id} of {self.layout.name} has epoch {manifest.epoch} and epoch {epoch} "
                "is here already: "
                f"{manifest.source_host} is no longer the active host; its copy is not taken",
                path=self.folder,
            )
        last = max((image.id for image in images), default="")
        if manifest.id <= last:
            raise ResilientVmError(
                f"image {manifest.id} of {self.layout.name} is not newer than {last}, which is here already; "
                "check the clock of the active host",
                path=self.folder,
            )
        write_manifest(work, manifest)
        fsync_tree(work)
        target = self.path(manifest.id)
        os.rename(work, target)
        fsync_directory(self.folder)
        fsync_directory(os.path.dirname(work))
        return self.read(manifest.id)

    def erase(self, image_id: str) -> None:
        """Erase one image; others never depend on it. The caller holds the VM's lock."""
        remove_tree(self.path(image_id))

    def finish_erasing(self) -> None:
        """Erase what a run that was cut off had begun to: nobody lists it any more. The caller holds the VM's lock."""
        for name in os.listdir(self.folder) if os.path.isdir(self.folder) else []:
            if name.startswith(".") and name.endswith(".erased"):
                remove_tree(os.path.join(self.folder, name))

    def mark_damaged(self, image_id: str, disk: str, offset_bytes: int, found_by: str, right_at: str = "") -> None:
        """Note a block that is not what its digest says; the image is not used as base or generation while it stands.

        ``disk`` may be the name of another file of the image. ``right_at``: when it was last known to be right.
        """
        where = os.path.join(self.path(image_id), _DAMAGED)
        marks = _marks(where)
        if not any(mark["disk"] == disk and mark["offset_bytes"] == offset_bytes for mark in marks):
            marks.append(
                {
                    "disk": disk,
                    "offset_bytes": offset_bytes,
                    "found_by": found_by,
                    "found": _clock.iso(_clock.now(None)),
                    **({"right_at": right_at} if right_at else {}),
                }
            )
            with as_owner_of(self.folder):
                write_json(where, marks)

    def clear_mark(self, image_id: str, disk: str, offset_bytes: int) -> None:
        """Take a mark away: the block has been read again and is what its digest says."""
        where = os.path.join(self.path(image_id), _DAMAGED)
        marks = _marks(where)
        left = [mark for mark in marks if (mark["disk"], mark["offset_bytes"]) != (disk, offset_bytes)]
        with as_owner_of(self.folder):
            if left:
                write_json(where, left)
            elif marks:
                os.unlink(where)
                fsync_directory(os.path.dirname(where))

    def pins(self) -> Iterator[Pin]:
        """Pins in force; expired ones of readers that died are passed over."""
        folder = self.layout.pins
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            return
        for name in names:
            if not name.endswith(".json"):
                continue
            document = _pin(os.path.join(folder, name))
            if document is None:
                continue
            until = document.get("until")
            if until is not None and until < time.time():
                continue
            yield Pin(
                document["image"],
                document["purpose"],
                None if until is None else _clock.now(None) + timedelta(seconds=until - time.time()),
                bool(document.get("reading")),
            )

    def drop_pins(self, purpose: str | None = None) -> None:
        """Erase pins that have run out, and those of readers for a purpose that only one at a time can have."""
        for name in os.listdir(self.layout.pins):
            path = os.path.join(self.layout.pins, name)
            document = (_pin(path) if name.endswith(".json") else None) or {}
            over = document.get("until") is not None and document["until"] < time.time()
            if over or (document.get("reading") and document.get("purpose") == purpose):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)

    def pin_reading(self, image_id: str, purpose: str, seconds: float = 120.0) -> str:
        """Pin an image while it is read; call again to renew. Returns the pin's file, to be unlinked at the end."""
        path = os.path.join(self.layout.pins, f"{image_id}.{purpose}.{os.getpid()}.json")
        write_json(
            path,
            {"image": image_id, "purpose": purpose, "until": time.time() + seconds, "reading": True},
            mode=0o660,
            owner=_owner_of(self.layout.pins),
        )
        return path


def _marks(where: str) -> list[dict[str, Any]]:
    """What is known to be damaged in an image."""
    marks = read_json(where) or []
    if not isinstance(marks, list) or not all(
        isinstance(mark, dict) and {"disk", "offset_bytes", "found_by", "found"} <= mark.keys() for mark in marks
    ):
        raise ResilientVmError(
            f"{where}, which says what is damaged here, is damaged; erase that file and run the verify playbook",
            path=where,
        )
    return marks


def _pin(path: str) -> dict[str, Any] | None:
    document = read_json(path)
    if document is None:
        return None
    until = document.get("until") if isinstance(document, dict) else None
    if (
        not isinstance(document, dict)
        or not {"image", "purpose"} <= document.keys()
        or not isinstance(until, (int, float, type(None)))
    ):
        raise ResilientVmError(f"{path} is no pin; erase it, and pin the image again if it was pinned", path=path)
    return document


def write_manifest(folder: str, manifest: Manifest) -> None:
    """The manifest of an image that is about to be synced and published, and its checksum."""
    path = os.path.join(folder, MANIFEST)
    write_unsynced(path, json_text(manifest.as_dict()))
    write_unsynced(os.path.join(folder, MANIFEST_SUM), f"{file_sha256(path)}  {MANIFEST}\n".encode())


def _check_sum(path: str) -> None:
    """A manifest that changed after it was published must lead nobody astray, however well it reads."""
    where = os.path.join(path, MANIFEST)
    try:
        with open(os.path.join(path, MANIFEST_SUM), encoding="ascii", errors="replace") as stream:
            wanted = stream.read()
    except FileNotFoundError:
        return
    except OSError as error:
        raise unreadable(where, error) from error
    if wanted != f"{file_sha256(where)}  {MANIFEST}\n":
        raise ResilientVmError(
            f"{where} is not what {MANIFEST_SUM} beside it says; run the verify playbook, which mends it if it can",
            path=where,
        )


def _owner_of(folder: str) -> tuple[int, int] | None:
    """Whose what root writes into a folder should be: the account's, which has to read it."""
    if os.geteuid() != 0:
        return None
    found = os.stat(folder)
    return found.st_uid, found.st_gid


def file_sha256(path: str) -> str:
    """SHA-256 of a (small) file, hexadecimal."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            for piece in iter(lambda: stream.read(1 << 20), b""):
                digest.update(piece)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error
    return digest.hexdigest()
