# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lay what somebody brought (a disk sent by post, an older copy) where the first copy of a VM would have arrived.

It becomes the working directory of an interrupted transfer: the next transfer believes no block of it before it has
checked it, compares digests with the live disk, and brings over what differs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ._digests import BLOCK_SIZE, DigestFile, digests_of
from ._errors import ResilientVmError
from ._files import as_owner_of, clone_descriptor, data_ranges, fsync_directory, locked, read_json
from ._incoming import boot_id, write_record
from ._layout import Layout
from ._process import Runner
from ._store import Store

__all__ = ["Seed", "as_raw", "check", "lay", "seeds_of"]

_CHUNK = 16 * BLOCK_SIZE
_QCOW2 = b"QFI\xfb"
# Converting a large disk takes hours; nothing waits for it but the person who asked.
_CONVERT_SECONDS = 7 * 86400.0


class Seed:
    """A disk that was brought: the target it stands for, its file, and the size the live disk has."""

    def __init__(self, target: str, path: str, size_bytes: int) -> None:
        self.target = target
        self.path = path
        self.size_bytes = size_bytes


def check(layout: Layout, store: Store, seeds: Sequence[Seed], disks: Sequence[str]) -> None:
    """Refuse, before anything is touched, what would not serve. ``disks``: targets of the VM's disks."""
    if not os.path.isdir(layout.incoming):
        raise ResilientVmError(f"{layout.directory} is not laid out on this machine; run the site playbook first")
    newest = store.newest()
    if newest is not None:
        raise ResilientVmError(
            f"{layout.name} has image {newest.id} on this machine already, and the next copy only brings what differs "
            "from it; a seed is for the first copy"
        )
    if not seeds:
        raise ResilientVmError(f"no seed was named for {layout.name}; set resilient_vm_seed like {{vda: /mnt/vda.raw}}")
    for seed in seeds:
        if seed.target not in disks:
            raise ResilientVmError(f"{layout.name} has no disk {seed.target}, its disks are {', '.join(disks)}")
        if not os.path.isfile(seed.path):
            raise ResilientVmError(f"{seed.path}, the seed of disk {seed.target}, is no file on this machine")
        with open(seed.path, "rb") as stream:
            if stream.read(4) == _QCOW2:
                raise ResilientVmError(
                    f"{seed.path} is a qcow2 file and a seed is a raw one; convert it: "
                    f"qemu-img convert -O raw {seed.path} {os.path.splitext(seed.path)[0]}.raw"
                )
        length = os.path.getsize(seed.path)
        if length != seed.size_bytes:
            raise ResilientVmError(
                f"{seed.path} has {length} bytes and disk {seed.target} of {layout.name} has {seed.size_bytes}; "
                f"bring a copy of that disk, or cut it: truncate -s {seed.size_bytes} {seed.path}"
            )


def lay(
    layout: Layout, seeds: Sequence[Seed], uuid: str, image_id: str, dry: bool, incoming: str = ""
) -> list[dict[str, Any]]:
    """Lay seeds into the working directory. Returns for each what came of it; ``changed`` False: it lay there already.

    A seed that was laid as a whole is not laid again; one that was cut off is. ``incoming``: where working directories
    lie, the VM's own when not given.
    """
    incoming = incoming or layout.incoming
    with locked(layout.lock, "laying a seed"):
        folder = _folder(incoming, uuid) or os.path.join(incoming, image_id)
        present = {seed.target for seed in seeds if os.path.exists(os.path.join(folder, seed.target + ".digests"))}
        if not dry and len(present) < len(seeds):
            _lay(folder, [seed for seed in seeds if seed.target not in present], uuid)
    return [
        {
            "target": seed.target,
            "path": seed.path,
            "size_bytes": seed.size_bytes,
            "changed": seed.target not in present,
        }
        for seed in seeds
    ]


def _folder(incoming: str, uuid: str) -> str | None:
    """The working directory that is there already, if the next transfer would take it over."""
    for name in sorted(os.listdir(incoming), reverse=True):
        record = read_json(os.path.join(incoming, name, "transfer.json"))
        if record is not None and record.get("base") is None and record.get("uuid") == uuid:
            return os.path.join(incoming, name)
    return None


def _lay(folder: str, seeds: Sequence[Seed], uuid: str) -> None:
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(open(seed.path, "rb")) for seed in seeds]
        # The folder is the account's: root never writes where the account could put a link in the way.
        stack.enter_context(as_owner_of(os.path.dirname(folder)))
        if not os.path.isdir(folder):
            os.mkdir(folder, 0o750)
        write_record(folder, os.path.basename(folder), None, uuid, boot_id())
        for seed, source in zip(seeds, sources):
            raw, digests = (os.path.join(folder, seed.target + suffix) for suffix in (".raw", ".digests"))
            for path in (raw, digests + ".part"):
                if os.path.exists(path):
                    os.unlink(path)
            DigestFile.create(digests + ".part", seed.size_bytes)
            _lay_disk(source.fileno(), raw, digests + ".part", seed.size_bytes)
            # Last: where it is, both are whole.
            os.rename(digests + ".part", digests)
        fsync_directory(folder)


def _lay_disk(source: int, raw: str, digests: str, size_bytes: int) -> None:
    """Clone or copy a disk and write the digests of its blocks; zeros become holes where it is copied."""
    with open(raw, "xb") as target, DigestFile(digests, size_bytes, writable=True) as file:
        cloned = clone_descriptor(source, target.fileno())
        target.truncate(size_bytes)
        for begin, end in data_ranges(source, size_bytes):
            offset = begin // BLOCK_SIZE * BLOCK_SIZE
            while offset < end:
                data = os.pread(source, min(_CHUNK, size_bytes - offset), offset)
                found = digests_of(data)
                file.write(offset // BLOCK_SIZE, found)
                if not cloned and any(found):
                    target.seek(offset)
                    target.write(data)
                offset += len(data)
        target.flush()
        os.fsync(target.fileno())


def as_raw(path: str, image_format: str, work: str, run: Runner) -> str:
    """Path of a disk's content as a raw file: its own, or ``work``, which is made then and the caller's to erase."""
    if image_format == "raw":
        return path
    # Before it holds anything, since every account gets through to it: qemu-img keeps the mode of what is there.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(work)
    os.close(os.open(work, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    words = ["qemu-img", "convert", "-q", "-f", image_format, "-O", "raw", path, work]
    run(words, timeout_seconds=_CONVERT_SECONDS)
    return work


def seeds_of(paths: Mapping[str, str], sizes: Mapping[str, int]) -> list[Seed]:
    """Seeds out of ``{target: path}`` and the sizes of the VM's disks."""
    return [Seed(target, path, sizes.get(target, 0)) for target, path in sorted(paths.items())]
