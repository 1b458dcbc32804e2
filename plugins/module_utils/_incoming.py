# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The working directory in which a receiver builds an image: a clone of the newest one, or what an
interrupted transfer left, each block of it checked again before it counts."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from typing import Any

from ._digests import (
    BLOCK_SIZE,
    DIGEST_SIZE,
    INVALID,
    DigestFile,
    block_count,
    differing_blocks,
    wrong_blocks,
)
from ._errors import ResilientVmError
from ._files import (
    begin_writeback,
    clone_file,
    data_ranges,
    fsync_directory,
    read_json,
    remove_tree,
    write_json,
    zero_range,
)
from ._manifest import IMAGE_ID, Disk
from ._store import Store, StoredImage

__all__ = ["Incoming", "IncomingDisk", "boot_id", "write_record"]

_RECORD = "transfer.json"
# By itself the kernel begins after half a minute, or with a tenth of the memory: that would be waited for at the end.
_BEHIND_BYTES = 16 << 20
# Digests of scattered blocks are written a few bytes here and there.
_DIGESTS_STEP = 4096
_NO_REFLINK = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY)


class IncomingDisk:
    """One disk being built: its raw file and its digest file, written together.

    A block's digest is written before the block. So after a kill a block is what its digest says or it is found
    wrong when checked; after a power cut, when the two files may have been written in any order, every block is.
    """

    def __init__(
        self,
        folder: str,
        target: str,
        size_bytes: int,
        base: Disk | None,
        base_image: StoredImage | None,
    ):
        self.target = target
        self.size_bytes = size_bytes
        self.base = base
        self._base_image = base_image
        self.path = os.path.join(folder, target + ".raw")
        self.digests_path = os.path.join(folder, target + ".digests")
        self._descriptor = os.open(self.path, os.O_RDWR)
        self.digests = DigestFile(self.digests_path, size_bytes, writable=True)
        self.resumed = False
        self.resumed_bytes = 0
        self._behind = 0

    def close(self) -> None:
        os.close(self._descriptor)
        self.digests.close()

    def base_digests(self) -> DigestFile | None:
        """The base's digest file, newly opened, or None. A base that was resized still tells its common blocks."""
        if self.base is None or self._base_image is None:
            return None
        return self._base_image.digests(self.base)

    def read(self, first: int, count: int) -> bytes:
        offset = first * BLOCK_SIZE
        return os.pread(self._descriptor, min(count * BLOCK_SIZE, self.size_bytes - offset), offset)

    def write(self, first: int, digests: bytes | memoryview, data: bytes | memoryview) -> None:
        """Write checked blocks."""
        self.digests.write(first, bytes(digests))
        view, offset = memoryview(data), first * BLOCK_SIZE
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view, offset = view[written:], offset + written
        self._behind += len(data)
        if self._behind >= _BEHIND_BYTES:
            self.begin_writeback()

    def begin_writeback(self) -> None:
        """Have the kernel begin to write both files to the disk."""
        self._behind = 0
        # What fails now fails when it is waited for, which is where a copy ends for it.
        with contextlib.suppress(OSError):
            begin_writeback(self._descriptor)
            self.digests.begin_writeback()

    def sync(self) -> None:
        """Wait until both files are on the disk."""
        os.fsync(self._descriptor)
        self.digests.sync()

    def write_zeros(self, first: int, count: int) -> None:
        self.digests.clear(first, count)
        offset = first * BLOCK_SIZE
        zero_range(self._descriptor, offset, min(count * BLOCK_SIZE, self.size_bytes - offset))

    def is_empty(self, first: int, count: int) -> bool:
        """Whether a range of blocks is a hole, and zero by its digests."""
        begin, end = first * BLOCK_SIZE, min((first + count) * BLOCK_SIZE, self.size_bytes)
        try:
            if os.lseek(self._descriptor, begin, os.SEEK_DATA) < end:
                return False
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        return not any(self.digests.read(first, count))

    def invalidate(self, block: int) -> None:
        """Remember that a block does not hold what it should, so that it is asked for again."""
        self.digests.write(block, INVALID)

    def check_resumed(self, everything: bool) -> None:
        """Check what an interrupted transfer left: the blocks that differ from the base, or all of them."""
        self.resumed = True
        old = self.base_digests()
        try:
            received = list(differing_blocks(old, self.digests))
        finally:
            if old is not None:
                old.close()
        ranges = list(self._all_blocks()) if everything else received
        for first, count in ranges:
            self._check(first, count)
        self.resumed_bytes = sum(count for _first, count in received) * BLOCK_SIZE

    def _all_blocks(self) -> Iterator[tuple[int, int]]:
        """Blocks that hold data or have a digest: what else could be wrong is a hole where a hole belongs."""
        blocks: set[int] = set()
        for begin, end in data_ranges(self._descriptor, self.size_bytes):
            blocks.update(range(begin // BLOCK_SIZE // 16, -(-end // BLOCK_SIZE) // 16 + 1))
        for first, digests in self.digests.runs():
            blocks.update(range(first // 16, (first + len(digests) // DIGEST_SIZE) // 16 + 1))
        for chunk in sorted(blocks):
            count = min(16, self.digests.blocks - chunk * 16)
            if count > 0:
                yield chunk * 16, count

    def _check(self, first: int, count: int) -> None:
        for at in range(first, first + count, 16):
            blocks = min(16, first + count - at)
            data, wanted = self.read(at, blocks), self.digests.read(at, blocks)
            for index in wrong_blocks(data, wanted):
                self.invalidate(at + index)


class Incoming:
    """The working directory of one image. At most one is kept per VM."""

    def __init__(self, store: Store, folder: str, image_id: str, base: StoredImage | None) -> None:
        self.store = store
        self.path = os.path.join(folder, image_id)
        self.image_id = image_id
        self.base = base
        self.disks: list[IncomingDisk] = []

    @classmethod
    def prepare(cls, store: Store, offer: dict[str, Any], full_copies: bool) -> Incoming:
        """Make or take over the working directory for an offered image.

        What an interrupted transfer left serves again when it was built on the image that is still the newest, also
        when the snapshot it came from is gone. ``full_copies``: copy where the filesystem can't share blocks.
        """
        folder = store.incoming
        base = store.base()
        incoming = cls(store, folder, offer["id"], base)
        left = cls._take_over(folder, offer, base.id if base else None)
        if left is None:
            os.mkdir(incoming.path, 0o750)
        elif left != offer["id"]:
            os.rename(os.path.join(folder, left), incoming.path)
        record = read_json(os.path.join(incoming.path, _RECORD)) or {}
        rebooted = record.get("boot_id") != boot_id()
        write_record(incoming.path, offer["id"], base.id if base else None, offer["uuid"], boot_id())
        try:
            for entry in offer["disks"]:
                incoming._open_disk(entry["target"], entry["size_bytes"], rebooted, full_copies)
            incoming._drop_strangers({entry["target"] for entry in offer["disks"]})
        except BaseException:
            incoming.close()
            raise
        return incoming

    @staticmethod
    def _take_over(folder: str, offer: dict[str, Any], base: str | None) -> str | None:
        """Name of the directory whose blocks can serve, or None; the others are erased."""
        kept = None
        for name in sorted(os.listdir(folder), reverse=True):
            path = os.path.join(folder, name)
            record = read_json(os.path.join(path, _RECORD)) if IMAGE_ID.fullmatch(name) else None
            fits = record is not None and record.get("base") == base and record.get("uuid") == offer["uuid"]
            if fits and kept is None:
                kept = name
            else:
                remove_tree(path)
        return kept

    def _open_disk(self, target: str, size_bytes: int, rebooted: bool, full_copies: bool) -> None:
        base = self.base.manifest.disk(target) if self.base is not None and self.base.manifest is not None else None
        raw, digests = (os.path.join(self.path, target + suffix) for suffix in (".raw", ".digests"))
        # The digest file is made last: where it is, both are whole.
        whole = os.path.exists(digests) and os.path.getsize(raw) == size_bytes
        if not whole:
            for file in (digests, raw):
                if os.path.exists(file):
                    os.unlink(file)
            self._start(raw, digests, size_bytes, base, full_copies)
        disk = IncomingDisk(self.path, target, size_bytes, base, self.base)
        self.disks.append(disk)
        if whole:
            disk.check_resumed(everything=rebooted)
        elif base is not None and base.size_bytes != size_bytes:
            # The block at the old or new end covers another range of bytes now.
            disk.invalidate(min(block_count(base.size_bytes), block_count(size_bytes)) - 1)
            disk.resumed = True
        if not whole and base is not None and self.store.doubts_base:
            disk.check_resumed(everything=True)

    def _start(self, raw: str, digests: str, size_bytes: int, base: Disk | None, full_copies: bool) -> None:
        if base is None or self.base is None:
            with open(raw, "xb") as stream:
                stream.truncate(size_bytes)
            DigestFile.create(digests, size_bytes)
            return
        _copy(self.base.file(base.file), raw, full_copies, BLOCK_SIZE)
        os.truncate(raw, size_bytes)
        part = digests + ".part"
        if os.path.exists(part):
            os.unlink(part)
        _copy(self.base.file(base.digests), part, full_copies, _DIGESTS_STEP)
        os.truncate(part, block_count(size_bytes) * DIGEST_SIZE)
        os.rename(part, digests)

    def _drop_strangers(self, targets: set[str]) -> None:
        """Erase files of disks the VM no longer has."""
        wanted = {target + suffix for target in targets for suffix in (".raw", ".digests")} | {_RECORD}
        for name in os.listdir(self.path):
            if name not in wanted:
                os.unlink(os.path.join(self.path, name))

    def seal(self) -> None:
        """Have the files on the disk, close them, and drop what only an unfinished transfer needs."""
        for disk in self.disks:
            # All at once, before each is waited for.
            disk.begin_writeback()
        # First: what can't be written must not be gone on with, whose pages read as if they had been.
        os.unlink(os.path.join(self.path, _RECORD))
        for disk in self.disks:
            # While they are open: once closed, the kernel may forget that writing failed.
            disk.sync()
        self.close()
        fsync_directory(self.path)

    def close(self) -> None:
        for disk in self.disks:
            disk.close()
        self.disks = []


def write_record(folder: str, image_id: str, base: str | None, uuid: str, boot: str) -> None:
    """Write down what a working directory is for, and in which boot of this machine it was written."""
    write_json(os.path.join(folder, _RECORD), {"id": image_id, "base": base, "uuid": uuid, "boot_id": boot})


def _copy(source: str, target: str, full_copies: bool, write_bytes: int) -> None:
    """Make target a copy of source that shares its blocks; in full only where that is allowed."""
    try:
        clone_file(source, target, write_bytes)
    except OSError as error:
        if error.errno not in _NO_REFLINK:
            raise
        if not full_copies:
            raise ResilientVmError(
                f"{os.path.dirname(target)} lies on a filesystem without reflink; use XFS (reflink=1) or Btrfs, or set "
                "resilient_vm_allow_full_copies for full copies"
            ) from error
        shutil.copyfile(source, target)


def boot_id() -> str:
    """What names this boot of the machine."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return stream.read().strip()
