# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM's disks exchanged, in their places and formats, for those of an image, or for the ones that an earlier exchange
kept aside; the present ones are kept aside.

Three steps, each of which may be repeated after a run that was cut off anywhere: stop the VM and begin the copy with
its present disks, so that only what differs travels; exchange the files, one rename each; start it again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Callable

from . import _clock, _definition, _domain, _seed
from ._domain import STOPPED
from ._errors import ResilientVmError
from ._files import as_owner_of, fsync_directory, locked, read_json, write_json
from ._human import human_size
from ._kept import EXCHANGE as RECORD
from ._kept import KEPT, note, to_go_back
from ._layout import Layout
from ._power import shut_down
from ._process import Runner
from ._restore_store import RestoreStore
from ._restored_files import lay_disk, open_source
from ._room import full
from ._store import StoredImage, file_sha256
from ._virsh import Virsh

__all__ = ["RECORD", "Wish", "examine", "exchange", "exchanged", "finish", "prepare"]

# In the VM's folder: what is under way, and what was kept aside by all that is over.
_FORMATS = ("raw", "qcow2")
_NVRAM = "nvram"


@dataclass(frozen=True)
class Wish:
    """What disk_exchange was asked for. ``disks`` and ``definition`` are the image's as the backup storage has them."""

    image_id: str
    uuid: str
    epoch: int
    disks: Sequence[Mapping[str, Any]]
    definition: Sequence[Mapping[str, Any]]
    bytes_allocated: int = 0
    reserve_bytes: int = 0
    shutdown_seconds: int = 120


def exchanged(layout: Layout, wish: Wish) -> dict[str, Any] | None:
    """The record of a restore whose disks lie in their place, and which only has to be finished; None without one."""
    record = read_json(os.path.join(layout.directory, RECORD))
    over = record is not None and record["epoch"] == wish.epoch and record["exchanged"]
    return dict(record) if over and record is not None else None


def examine(layout: Layout, wish: Wish, now: datetime, run: Runner) -> dict[str, Any]:
    """The record of what is to be exchanged, or of what an earlier run has begun.

    Raises ResilientVmError, before anything is touched, for what can't be.
    """
    record = read_json(os.path.join(layout.directory, RECORD))
    # One of an earlier epoch was left by a host that went down in it; the VM has moved since.
    if record is not None and record["epoch"] == wish.epoch:
        if record["image_id"] != wish.image_id:
            raise ResilientVmError(
                f"a restore of image {record['image_id']} in place of {layout.vm} was begun and is not over; run it to "
                f"its end with resilient_vm_restore_point={record['image_id']}"
            )
        return dict(record)
    virsh = Virsh(run)
    state, reason = virsh.state(wish.uuid)
    if not state:
        raise ResilientVmError(
            f"{layout.vm} is not defined on this host, so it has no disks to be exchanged; restore it with "
            "resilient_vm_restore_to=beside, or take it over on the standby host"
        )
    if reason == "saved":
        raise ResilientVmError(
            f"{layout.vm} has a saved state, which would wake up on other disks; start it, or throw the state away "
            f"with: virsh managedsave-remove {wish.uuid}"
        )
    if virsh.job(wish.uuid) is not None:
        raise ResilientVmError(f"a backup of {layout.vm} is being taken; run again when it is over")
    domain = _domain.parse(virsh.inactive_xml(wish.uuid))
    now = _free(domain, now)
    when = now.strftime("%Y%m%dT%H%M%SZ")
    since = ""
    if wish.image_id == KEPT:
        files, since = to_go_back(layout, domain, when)
    else:
        files = [_place(domain, disk["target"], when, layout.vm, wish.image_id) for disk in wish.disks]
    if domain.nvram and any(entry["name"] == _definition.NVRAM for entry in wish.definition):
        files.append({"target": _NVRAM, "path": domain.nvram, "format": "", "aside": f"{domain.nvram}.before-{when}"})
    _check_room(layout, wish, files)
    return {
        "image_id": wish.image_id,
        "epoch": wish.epoch,
        "when": _clock.iso(now),
        "running": state not in STOPPED,
        "files": files,
        "since": since,
        "exchanged": False,
    }


def _free(domain: _domain.Domain, now: datetime) -> datetime:
    """The first second at which nothing of the machine was kept aside yet: two sets must not get one name."""
    paths = [os.path.realpath(disk.source) for disk in domain.disks if disk.source] + [domain.nvram or ""]
    while any(os.path.lexists(f"{path}.before-{now:%Y%m%dT%H%M%SZ}") for path in paths):
        now += timedelta(seconds=1)
    return now


def _place(domain: _domain.Domain, target: str, when: str, vm: str, image_id: str) -> dict[str, str]:
    """Where a disk lies, and where its present file will be kept."""
    disk = next((disk for disk in domain.disks if disk.target == target), None)
    if disk is None:
        raise ResilientVmError(
            f"image {image_id} has disk {target} and {vm} has none now; restore it with resilient_vm_restore_to=beside"
        )
    path = os.path.realpath(disk.source) if disk.source else ""
    if disk.type != "file" or not os.path.isfile(path):
        raise ResilientVmError(
            f"disk {target} of {vm} is no file ({disk.source or disk.type}), and only files are exchanged in place; "
            "restore the image's disks with resilient_vm_restore_to=files and copy them there"
        )
    if disk.format not in _FORMATS or disk.encrypted or disk.chain:
        what = "encrypted" if disk.encrypted else "on a backing file" if disk.chain else f"a {disk.format} file"
        raise ResilientVmError(
            f"disk {target} of {vm} ({path}) is {what}, and raw and qcow2 files of their own are exchanged in place; "
            "restore with resilient_vm_restore_to=beside"
        )
    return {"target": target, "path": path, "format": disk.format, "aside": f"{path}.before-{when}"}


def _check_room(layout: Layout, wish: Wish, files: Sequence[Mapping[str, str]]) -> None:
    """Room for the image where it arrives, and for the new files where the disks lie; sharing blocks may take less."""
    places = [layout.directory, *(os.path.dirname(file["path"]) for file in files)]
    lacking = full([(place, wish.bytes_allocated) for place in dict.fromkeys(places)], wish.reserve_bytes)
    if lacking is not None:
        raise ResilientVmError(
            f"no space for the restore: {lacking.folder} has {human_size(lacking.free)} free, image {wish.image_id} "
            f"needs {human_size(lacking.needed)} there and {human_size(wish.reserve_bytes)} stay in reserve; add "
            "space, or lower resilient_vm_reserve_bytes"
        )


# stop, and begin the copy


def prepare(
    layout: Layout, wish: Wish, record: dict[str, Any], run: Runner, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Stop the VM, and lay its present disks as the beginning of the copy of the image."""
    if record["exchanged"]:
        return
    write_json(os.path.join(layout.directory, RECORD), record, 0o600)
    _stop(Virsh(run), wish, sleep)
    if wish.image_id == KEPT or RestoreStore(layout).read(wish.image_id).complete:
        return
    folder = os.path.join(layout.restores, "incoming")
    # The account's, as if its own transfer had made it.
    with as_owner_of(layout.restores):
        os.makedirs(folder, 0o750, exist_ok=True)
    sizes = {disk["target"]: disk["size_bytes"] for disk in wish.disks}
    for file in record["files"]:
        if file["target"] not in sizes or _exchanged(file):
            continue
        size, work = sizes[file["target"]], os.path.join(layout.directory, f".{file['target']}.exchange")
        try:
            source = _seed.as_raw(file["path"], file["format"], work, run)
            # A disk that was resized since serves nothing: all of it travels.
            if os.path.getsize(source) == size:
                seed = _seed.Seed(file["target"], source, size)
                _seed.lay(layout, [seed], wish.uuid, wish.image_id, False, folder)
        finally:
            if os.path.exists(work):
                os.unlink(work)


def _stop(virsh: Virsh, wish: Wish, sleep: Callable[[float], None]) -> None:
    """As its owner would; after its time as a power cut, since its disks are to go anyway."""
    with contextlib.suppress(ResilientVmError):
        shut_down(virsh, wish.uuid, wish.shutdown_seconds, sleep)
        return
    virsh.call("destroy", wish.uuid, check=False)
    if virsh.state(wish.uuid)[0] not in STOPPED:
        raise ResilientVmError(f"domain {wish.uuid} can't be stopped; look at it with virsh, and run again")


# exchange


def exchange(layout: Layout, wish: Wish, record: dict[str, Any], run: Runner) -> None:
    """Put the image's disks, each proven block by block, in the place of the present ones."""
    if record["exchanged"]:
        return
    virsh, store = Virsh(run), RestoreStore(layout)
    with locked(layout.lock, "a restore in place"):
        if virsh.state(wish.uuid)[0] not in STOPPED:
            raise ResilientVmError(f"{layout.vm} runs again on this host; run the restore again, which stops it")
        if wish.image_id == KEPT:
            for file in record["files"]:
                if not _exchanged(file):
                    _take_place(file["source"], file)
        else:
            _lay_image(store, wish, record, run)
        for name in virsh.facts(wish.uuid).own_checkpoints:
            # Its bitmaps are in the files that were kept aside.
            virsh.call("checkpoint-delete", wish.uuid, name, "--metadata")
        record["exchanged"] = True
        write_json(os.path.join(layout.directory, RECORD), record, 0o600)
        if wish.image_id != KEPT:
            store.erase(wish.image_id)


def _lay_image(store: RestoreStore, wish: Wish, record: Mapping[str, Any], run: Runner) -> None:
    image = store.read(wish.image_id)
    if not image.complete:
        raise ResilientVmError(f"image {wish.image_id} has not arrived on this host; run the restore again")
    for file in record["files"]:
        if not _exchanged(file):
            _exchange_one(store, image, wish, file, run)


def _exchanged(file: Mapping[str, str]) -> bool:
    return os.path.exists(file["aside"]) and not os.path.samefile(file["aside"], file["path"])


def _exchange_one(store: RestoreStore, image: StoredImage, wish: Wish, file: Mapping[str, str], run: Runner) -> None:
    folder, name = os.path.split(file["path"])
    new = os.path.join(folder, f".{name}.restoring")
    if os.path.lexists(new):
        os.unlink(new)
    if file["target"] == _NVRAM:
        _lay_nvram(image, wish, new)
    else:
        disk = next(disk for disk in wish.disks if disk["target"] == file["target"])
        lay_disk(store, image, disk, new, file["format"], run)
    _as_before(file["path"], new)
    _take_place(new, file)


def _take_place(new: str, file: Mapping[str, str]) -> None:
    if not os.path.exists(file["aside"]):
        # Under both names until the next line: at no time is there no disk in its place.
        os.link(file["path"], file["aside"])
    os.rename(new, file["path"])
    fsync_directory(os.path.dirname(file["path"]))


def _lay_nvram(image: StoredImage, wish: Wish, new: str) -> None:
    wanted = next(entry["sha256"] for entry in wish.definition if entry["name"] == _definition.NVRAM)
    source_path = image.file(_definition.NVRAM)
    with open_source(source_path) as source, open(new, "xb") as stream:
        shutil.copyfileobj(source, stream)
    if file_sha256(new) != wanted:
        raise ResilientVmError(f"{source_path} is not what the image's manifest names; run the restore again")


def _as_before(path: str, new: str) -> None:
    """Owner, mode and SELinux label of the file whose place it takes; on disk before it does."""
    old = os.stat(path)
    os.chown(new, old.st_uid, old.st_gid)
    os.chmod(new, old.st_mode & 0o7777)
    if "security.selinux" in os.listxattr(path):
        os.setxattr(new, "security.selinux", os.getxattr(path, "security.selinux"))
    descriptor = os.open(new, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# start


def finish(layout: Layout, wish: Wish, record: dict[str, Any], run: Runner) -> None:
    """Start the VM where it ran before, write down what was kept aside, and forget what was under way."""
    virsh = Virsh(run)
    if record["running"] and virsh.state(wish.uuid)[0] in STOPPED:
        virsh.start(wish.uuid)
    note(layout, record["files"], record["when"])
    os.unlink(os.path.join(layout.directory, RECORD))
    fsync_directory(layout.directory)
