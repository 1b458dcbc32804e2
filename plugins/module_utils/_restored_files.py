# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of an image laid into a new folder: all of them, each proven, or none."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import _clock
from ._digests import BLOCK_SIZE, RootDigest, digests_of, wrong_blocks
from ._errors import ResilientVmError
from ._files import clone_descriptor, data_ranges, fsync_directory, fsync_tree, read_json, reflink_works, write_json
from ._human import human_size
from ._layout import Layout
from ._manifest import check_names
from ._process import Runner
from ._restore_store import RestoreStore, pinned
from ._store import Store, StoredImage, file_sha256

__all__ = [
    "RECORD",
    "Wish",
    "appearing",
    "check_free",
    "check_path",
    "check_room",
    "copy_data",
    "examine",
    "lay",
    "lay_disk",
    "open_source",
    "root_of",
    "work_folder",
    "write_record",
]

# What the folder says about itself.
RECORD = "restored.json"
_CHUNK = 16
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_COPY_BYTES = 1 << 20
# Converting a large disk takes hours; nothing waits for it but the person who asked.
_CONVERT_SECONDS = 7 * 86400.0


@dataclass(frozen=True)
class Wish:
    """What image_restore was asked for. ``disks`` and ``definition`` are the image's as the backup storage has them."""

    image_id: str
    path: str
    format: str
    disks: Sequence[Mapping[str, Any]]
    definition: Sequence[Mapping[str, Any]] = field(default_factory=list)
    # Where the image is read: "images" on the backup storage, "restores" on a host.
    store: str = "images"
    bytes_allocated: int = 0
    # What is still to come to this machine.
    bytes_arriving: int = 0
    reserve_bytes: int = 0

    def __post_init__(self) -> None:
        """Raises ResilientVmError for names that no image has: the backup storage says them, and root writes there."""
        check_names(
            [disk["target"] for disk in self.disks],
            [entry["name"] for entry in self.definition],
            f"image {self.image_id} as the backup storage tells of it",
        )

    def file(self, target: str) -> str:
        return f"{target}.{self.format}"


def root_of(descriptor: int, size_bytes: int) -> str:
    """Root digest of a file's content; its holes are not read."""
    root, done = RootDigest(size_bytes), 0
    for begin, end in data_ranges(descriptor, size_bytes):
        block, last = max(begin // BLOCK_SIZE, done), -(-end // BLOCK_SIZE)
        while block < last:
            count = min(_CHUNK, last - block)
            offset = block * BLOCK_SIZE
            root.add(block, digests_of(os.pread(descriptor, min(count * BLOCK_SIZE, size_bytes - offset), offset)))
            block += count
        done = max(done, last)
    return root.hexdigest()


def check_path(layout: Layout, path: str, image_id: str) -> str:
    """The folder in which a new one of that path can be made. Refuses what can't be, before anything is touched."""
    parent = os.path.dirname(path)
    if not os.path.isabs(path) or os.path.normpath(path) != path or parent == path:
        raise ResilientVmError(
            f"resilient_vm_restore_path {path!r} is not the plain absolute path of a folder; "
            f"name one like /srv/{layout.vm}-{image_id}"
        )
    home = os.path.realpath(layout.home)
    if os.path.commonpath([home, os.path.realpath(path)]) == home:
        raise ResilientVmError(
            f"{path} lies in {home}, where this collection keeps what it works with; name another folder"
        )
    if not os.path.isdir(parent):
        raise ResilientVmError(f"there is no folder {parent} on this machine; make it, or name another path")
    return parent


def examine(layout: Layout, wish: Wish) -> bool:
    """Whether the folder is there already, as wished. Refuses what can't be, before anything is touched."""
    parent = check_path(layout, wish.path, wish.image_id)
    if os.path.lexists(wish.path):
        _check_laid(layout, wish)
        return True
    check_room(layout, wish, parent)
    return False


def _check_laid(layout: Layout, wish: Wish) -> None:
    """What is at the path is this very restore, byte by byte, or in the way."""
    record = read_json(os.path.join(wish.path, RECORD)) if os.path.isdir(wish.path) else None
    if not isinstance(record, dict) or not isinstance(record.get("disks"), list):
        raise ResilientVmError(f"{wish.path} is there already; move it away, or name another path")
    found = (record.get("customer"), record.get("vm"), record.get("image"), record.get("format"))
    if found != (layout.customer, layout.vm, wish.image_id, wish.format):
        raise ResilientVmError(
            f"{wish.path} holds image {found[2]} of {found[0]}/{found[1]} as {found[3]}; "
            "move it away, or name another path"
        )
    wanted = {wish.file(disk["target"]): disk for disk in wish.disks}
    for entry in record["disks"]:
        disk = wanted.pop(entry["file"], None)
        if disk is None or _digest_of(os.path.join(wish.path, entry["file"])) != entry["file_digest"]:
            raise _touched(wish, entry["file"])
        if entry["root_digest"] != disk["root_digest"]:
            raise _touched(wish, entry["file"])
    for name in wanted:
        raise _touched(wish, name)
    for entry in wish.definition:
        path = os.path.join(wish.path, entry["name"])
        if not os.path.isfile(path) or file_sha256(path) != entry["sha256"]:
            raise _touched(wish, entry["name"])


def _touched(wish: Wish, name: str) -> ResilientVmError:
    return ResilientVmError(
        f"{os.path.join(wish.path, name)} is no longer what was restored from image {wish.image_id}; "
        f"move {wish.path} away, or name another path"
    )


def _digest_of(path: str) -> str | None:
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as stream:
        return root_of(stream.fileno(), os.path.getsize(path))


def check_room(layout: Layout, wish: Wish, parent: str) -> None:
    """Refuse what would leave less than the reserve, in the folder or where the image arrives."""
    place = layout.directory if os.path.isdir(layout.directory) else layout.root
    same = os.stat(place).st_dev == os.stat(parent).st_dev
    shared = same and wish.format == "raw" and reflink_works(parent)
    needed = {parent: 0 if shared else wish.bytes_allocated}
    needed[parent if same else place] = needed.get(parent if same else place, 0) + wish.bytes_arriving
    for folder, count in needed.items():
        check_free(folder, count, wish.image_id, wish.reserve_bytes)


def check_free(folder: str, needed_bytes: int, image_id: str, reserve_bytes: int) -> None:
    """Refuse what would leave less than the reserve on a folder's filesystem."""
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    if free < needed_bytes + reserve_bytes:
        raise ResilientVmError(
            f"no space for the restore: {folder} has {human_size(free)} free, image {image_id} needs "
            f"{human_size(needed_bytes)} there and {human_size(reserve_bytes)} stay in reserve; add space, name "
            "another path, or lower resilient_vm_reserve_bytes"
        )


def work_folder(path: str) -> str:
    """Where a folder is made before it gets its name."""
    parent, name = os.path.split(path)
    return os.path.join(parent, f".{name}.restoring")


@contextlib.contextmanager
def appearing(path: str, mode: int = 0o700) -> Iterator[str]:
    """A folder to be filled, root's alone; it gets its name and its mode when all of it is on the disk, or goes."""
    work = work_folder(path)
    held = _begin(path, work)
    try:
        yield work
        os.chmod(work, mode)
        fsync_tree(work)
        if os.path.lexists(path):
            raise ResilientVmError(f"{path} has appeared meanwhile; move it away, or name another path")
        os.rename(work, path)
        fsync_directory(os.path.dirname(path))
    except BaseException:
        shutil.rmtree(work)
        raise
    finally:
        os.close(held)


def _begin(path: str, work: str) -> int:
    """Make the work folder, in the place of one that a killed run left; the descriptor by which it is held.

    Raises ResilientVmError when another run is filling one there: two VMs may have been given one path.
    """
    with _opened(os.path.realpath(os.path.dirname(work))) as parent:
        # For the moment between making it and holding it.
        fcntl.flock(parent, fcntl.LOCK_EX)
        if os.path.lexists(work):
            with _opened(work) as left:
                if not _hold(left):
                    raise ResilientVmError(
                        f"another run is restoring to {path}; wait for it to end, or name another path"
                    )
            shutil.rmtree(work)
        os.mkdir(work, 0o700)
        made = os.open(work, _FOLDER)
        _hold(made)
        return made


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, _FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _hold(descriptor: int) -> bool:
    """flock: whoever dies lets go. Whether nobody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lay(
    layout: Layout, wish: Wish, run: Runner, mode: int = 0o700, note: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Lay the files and give the folder its name at the end. Returns what was laid of each disk.

    ``mode`` is the folder's, ``note`` goes into what it says about itself.
    """
    with appearing(wish.path, mode) as work:
        if wish.store == "images":
            with pinned(Store(layout), wish.image_id) as image:
                disks = _lay_all(Store(layout), image, wish, work, run)
        else:
            store = RestoreStore(layout)
            disks = _lay_all(store, store.read(wish.image_id), wish, work, run)
        record = {"format": wish.format, "disks": disks, **(note or {})}
        write_record(work, layout, wish.image_id, record)
    if wish.store != "images":
        store.erase(wish.image_id)
    return disks


def write_record(folder: str, layout: Layout, image_id: str, more: Mapping[str, Any]) -> None:
    """What a folder says about itself."""
    record = {
        "schema": 1,
        "customer": layout.customer,
        "vm": layout.vm,
        "image": image_id,
        "restored": _clock.iso(_clock.now(None)),
        **more,
    }
    write_json(os.path.join(folder, RECORD), record, 0o600)


def _lay_all(store: Store, image: StoredImage, wish: Wish, work: str, run: Runner) -> list[dict[str, Any]]:
    disks = []
    for disk in wish.disks:
        file = wish.file(disk["target"])
        lay_disk(store, image, disk, os.path.join(work, file), wish.format, run)
        disks.append(
            {
                "target": disk["target"],
                "file": file,
                "size_bytes": disk["size_bytes"],
                "root_digest": disk["root_digest"],
                "file_digest": _digest_of(os.path.join(work, file)),
            }
        )
    for entry in wish.definition:
        target = os.path.join(work, entry["name"])
        with open_source(image.file(entry["name"])) as source, open(target, "xb") as stream:
            shutil.copyfileobj(source, stream)
        os.chmod(target, 0o600)
        if file_sha256(target) != entry["sha256"]:
            raise ResilientVmError(f"{image.file(entry['name'])} is not what the manifest names; {_again(store)}")
    return disks


def lay_disk(
    store: Store, image: StoredImage, disk: Mapping[str, Any], target: str, image_format: str, run: Runner
) -> None:
    """Make ``target`` hold a disk of the image, as root's alone, after every block has been checked."""
    with open_source(image.file(disk["target"] + ".raw")) as source:
        _prove(store, image, disk, source.fileno())
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if image_format == "raw" and not clone_descriptor(source.fileno(), descriptor):
                copy_data(source.fileno(), descriptor, disk["size_bytes"])
        finally:
            os.close(descriptor)
        if image_format != "raw":
            # Raw is said, never guessed: what the guest wrote to its first sectors can't become a header.
            words = ["qemu-img", "convert", "-q", "-f", "raw", "-O", image_format, source.name, target]
            run(words, timeout_seconds=_CONVERT_SECONDS)
            run(["qemu-img", "compare", "-q", "-f", "raw", "-F", image_format, source.name, target], _CONVERT_SECONDS)


def open_source(path: str) -> Any:
    """A file of the image. The folder is the account's: a link in it leads nowhere for root."""
    try:
        return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW))
    except OSError as error:
        raise ResilientVmError(f"{path} can't be read ({error.strerror}); run again", path=path) from error


def _prove(store: Store, image: StoredImage, disk: Mapping[str, Any], descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    if size == disk["size_bytes"] and root_of(descriptor, size) == disk["root_digest"]:
        return
    if isinstance(store, RestoreStore):
        store.erase(image.id)
        raise ResilientVmError(
            f"disk {disk['target']} of image {image.id} did not arrive as it is on the backup storage; {_again(store)}"
        )
    offset = _first_wrong(image, disk, descriptor)
    store.mark_damaged(image.id, disk["target"], offset, "restore")
    raise ResilientVmError(
        f"image {image.id} of {store.layout.name} is damaged: disk {disk['target']} at byte {offset}; it is marked and "
        "used no more: name another restore point, and check this machine's disks",
        image=image.id,
        disk=disk["target"],
        offset_bytes=offset,
    )


def _first_wrong(image: StoredImage, disk: Mapping[str, Any], descriptor: int) -> int:
    known = image.manifest.disk(disk["target"]) if image.manifest is not None else None
    if known is None:
        return 0
    with image.digests(known) as digests:
        for block in range(0, digests.blocks, _CHUNK):
            count = min(_CHUNK, digests.blocks - block)
            offset = block * BLOCK_SIZE
            data = os.pread(descriptor, min(count * BLOCK_SIZE, digests.size_bytes - offset), offset)
            for index in wrong_blocks(data, digests.read(block, count)):
                return offset + index * BLOCK_SIZE
    return 0


def _again(store: Store) -> str:
    return f"run again; if it stays, check the disks of this machine under {store.layout.root}"


def copy_data(source: int, target: int, size_bytes: int) -> None:
    """Copy what holds data; holes stay holes."""
    os.ftruncate(target, size_bytes)
    for begin, end in data_ranges(source, size_bytes):
        while begin < end:
            data = os.pread(source, min(_COPY_BYTES, end - begin), begin)
            view, begin = memoryview(data), begin + len(data)
            while view:
                written = os.pwrite(target, view, begin - len(view))
                view = view[written:]
