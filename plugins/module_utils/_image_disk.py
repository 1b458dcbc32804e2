# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk of an image in a store, each block checked as it is read."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ._digests import BLOCK_SIZE, DigestFile, block_count, differing_blocks, wrong_blocks
from ._errors import ResilientVmError
from ._frames import Buffer
from ._manifest import Disk
from ._regions import Region
from ._store import Store, StoredImage

__all__ = ["ImageDisk"]


class ImageDisk:
    """One disk of an image in a store. Every block read is checked against its digest before it is handed on."""

    def __init__(self, store: Store, image: StoredImage, disk: Disk, base: StoredImage | None) -> None:
        self.target = disk.target
        self.size_bytes = disk.size_bytes
        self._store = store
        self._image = image
        self._digests = image.digests(disk)
        self._base: DigestFile | None = None
        base_disk = base.manifest.disk(disk.target) if base is not None and base.manifest is not None else None
        if base is not None and base_disk is not None:
            self._base = base.digests(base_disk)
        self._descriptor = os.open(image.file(disk.file), os.O_RDONLY)

    def close(self) -> None:
        os.close(self._descriptor)
        self._digests.close()
        if self._base is not None:
            self._base.close()

    def regions(self, how: str) -> Iterator[Region]:
        """Regions as SnapshotDisk gives them, found without reading any disk: two digest files are compared.

        ``digests`` without a base here means everything is looked at, ``allocation`` all that is not zero.
        """
        blocks = block_count(self.size_bytes)
        if how == "digests" and self._base is None:
            yield Region(0, blocks, True, False)
            return
        position = 0
        for first, count in differing_blocks(self._base if how == "digests" else None, self._digests):
            if first > position:
                yield Region(position, first - position, False, False)
            yield Region(first, count, True, False)
            position = first + count
        if position < blocks:
            yield Region(position, blocks - position, False, False)

    def digests(self, first: int, count: int) -> bytes | None:
        return self._digests.read(first, count)

    def ask(self, first: int, count: int) -> tuple[int, int]:
        """Have the kernel begin to read count blocks."""
        os.posix_fadvise(self._descriptor, first * BLOCK_SIZE, count * BLOCK_SIZE, os.POSIX_FADV_WILLNEED)
        return first, count

    def answer(self, asked: tuple[int, int]) -> Buffer:
        """The bytes asked for. Marks the image and raises ResilientVmError at the first block that is wrong."""
        first, count = asked
        offset = first * BLOCK_SIZE
        data = os.pread(self._descriptor, min(count * BLOCK_SIZE, self.size_bytes - offset), offset)
        wanted = self._digests.read(first, count)
        for index in wrong_blocks(data, wanted):
            offset = (first + index) * BLOCK_SIZE
            self._store.mark_damaged(self._image.id, self.target, offset, "refresh")
            raise ResilientVmError(
                f"image {self._image.id} of {self._store.layout.name} is damaged on the backup "
                f"storage: disk {self.target} "
                f"at byte {offset}; it is marked and used no more: check that machine's disks and take a new image",
                image=self._image.id,
                disk=self.target,
                offset_bytes=offset,
            )
        return data

    def done(self, _asked: tuple[int, int]) -> None:
        """Each answer has its own bytes."""
