# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image of a store, as its sender offers it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ._errors import ResilientVmError
from ._image_disk import ImageDisk
from ._manifest import Manifest
from ._sender import DiskSource, Plan
from ._store import Store

__all__ = ["StoredSource"]


class StoredSource:
    """An image of a store, sent to a host that becomes or stays its standby."""

    def __init__(self, store: Store, image_id: str) -> None:
        self._store = store
        self._image = store.read(image_id)
        manifest = self._image.manifest
        if manifest is None:
            raise ResilientVmError(self._image.problem)
        if self._image.damaged:
            raise ResilientVmError(
                f"image {image_id} of {store.layout.name} is marked damaged and never copied; take a new image"
            )
        self._manifest: Manifest = manifest

    def offer(self) -> dict[str, Any]:
        offer = self._manifest.as_dict()
        offer["disks"] = [
            {"target": disk.target, "size_bytes": disk.size_bytes, "checkpoint": disk.checkpoint}
            for disk in self._manifest.disks
        ]
        return offer

    def plan(self, request: dict[str, Any]) -> tuple[Plan, DiskSource]:
        disk = self._manifest.disk(request["target"])
        if disk is None:
            raise ResilientVmError(f"image {self._manifest.id} has no disk {request['target']}; run again")
        base = request["base"]
        if base is None:
            source: DiskSource = ImageDisk(self._store, self._image, disk, None)
            return Plan(
                "allocation", "resumed", "there is no earlier generation of this disk", disk.root_digest
            ), source
        held = self._base(request["target"], base)
        source = ImageDisk(self._store, self._image, disk, held)
        if held is None:
            reason = f"generation {base['id']} is not among the images here"
            return Plan("digests", "all", reason, disk.root_digest), source
        return Plan("digests", "resumed", "", disk.root_digest), source

    def _base(self, target: str, base: dict[str, Any]) -> Any | None:
        """The image the receiver builds on, where this store holds the very same content."""
        held = self._store.read(base["id"])
        disk = held.manifest.disk(target) if held.manifest is not None else None
        return held if disk is not None and disk.root_digest == base["root_digest"] else None

    def definition(self) -> Iterator[tuple[str, bytes]]:
        for entry in self._manifest.definition:
            with open(self._image.file(entry.name), "rb") as stream:
                yield entry.name, stream.read()

    def still_valid(self) -> None:
        """An image never changes; a block that is not what its digest says was refused when it was read."""
