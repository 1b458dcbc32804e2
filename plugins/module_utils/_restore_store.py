# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that come to a host to be restored there, and images pinned while somebody reads them for a restore."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from ._digests import BLOCK_SIZE, differing_blocks
from ._errors import ResilientVmError
from ._files import fsync_directory, fsync_tree, moment, read_json, remove_tree
from ._layout import Layout
from ._manifest import Manifest
from ._store import Store, StoredImage, write_manifest

__all__ = ["RestoreStore", "moving_bytes", "pinned", "reading"]

# Not the hop's name, whose pins the next transfer clears away.
_PURPOSE = "restoring"
_RENEW_SECONDS = 30.0


class RestoreStore(Store):
    """``restores`` on a host: any image may come, of whatever day and epoch. It goes when it has been laid.

    It is built on a generation of this host, so that little travels. Nobody may have read that generation since it
    arrived, so every block of it is checked; what is wrong there comes from the backup storage.
    """

    doubts_base = True

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout, "restores")
        self.generations = Store(layout, "generations")
        # What was begun on nothing, or on the VM's own disks, goes on being used.
        self._base = None if self._begun_on_nothing() else self.generations.newest()

    def _begun_on_nothing(self) -> bool:
        folder = os.path.join(self.folder, "incoming")
        names = os.listdir(folder) if os.path.isdir(folder) else []
        records = [read_json(os.path.join(folder, name, "transfer.json")) for name in names]
        return any(record is not None and record.get("base") is None for record in records)

    @property
    def incoming(self) -> str:
        path = os.path.join(self.folder, "incoming")
        os.makedirs(path, 0o750, exist_ok=True)
        return path

    def epoch(self) -> int:
        """No image is too old to be restored, and none that comes here is run as the protected VM."""
        return 0

    def base(self) -> StoredImage | None:
        return self._base

    def publish(self, work: str, manifest: Manifest) -> StoredImage:
        """As in other stores, in whatever order. What an earlier restore left behind goes."""
        write_manifest(work, manifest)
        fsync_tree(work)
        for image_id in self._ids():
            remove_tree(self.path(image_id))
        os.rename(work, self.path(manifest.id))
        fsync_directory(self.folder)
        return self.read(manifest.id)


def moving_bytes(store: Store, image_id: str, base_id: str | None) -> int:
    """How much an image's transfer to a host with that generation would move at most, before compression."""
    image = store.read(image_id)
    base = store.read(base_id) if base_id else None
    total = 0
    for disk in image.manifest.disks if image.manifest is not None else []:
        before = base.manifest.disk(disk.target) if base is not None and base.manifest is not None else None
        with contextlib.ExitStack() as stack:
            old = stack.enter_context(base.digests(before)) if base is not None and before is not None else None
            new = stack.enter_context(image.digests(disk))
            total += sum(count for _first, count in differing_blocks(old, new)) * BLOCK_SIZE
    return total


@contextlib.contextmanager
def reading(store: Store, image: StoredImage | None) -> Iterator[None]:
    """Keep an image from being erased for as long as it is read; the pin of a reader that died runs out."""
    if image is None:
        yield
        return
    image_id = image.id
    pin = store.pin_reading(image_id, _PURPOSE)
    over = threading.Event()

    def renew() -> None:
        while not over.wait(_RENEW_SECONDS):
            store.pin_reading(image_id, _PURPOSE)

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        os.unlink(pin)


@contextlib.contextmanager
def pinned(store: Store, image_id: str) -> Iterator[StoredImage]:
    """An image of the backup storage, pinned. Under the lock, because who erases decides under it."""
    with contextlib.ExitStack() as stack:
        with moment(store.layout.lock, "a restore"):
            image = store.read(image_id)
            if image.manifest is None or not image.complete:
                raise ResilientVmError(
                    image.problem or f"image {image_id} of {store.layout.name} is damaged; name another restore point"
                )
            store.drop_pins()
            stack.enter_context(reading(store, image))
        yield image
