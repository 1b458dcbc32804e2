# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has of a VM that lives elsewhere now: put aside, so that the host can stand by for it.

The disks are renamed where they lie, with the epoch that ended their time in their names; nothing is erased or copied.
Every step may be repeated after a run that was cut off anywhere.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from . import _clock, _definition, _domain, _seed
from ._change import held
from ._domain import STOPPED
from ._errors import ResilientVmError
from ._files import fsync_directory, fsync_tree, locked, read_json, write_json
from ._held import is_former
from ._human import human_size
from ._kept import MOVED as RECORD
from ._kept import note
from ._layout import Layout
from ._process import Runner
from ._seed import as_raw
from ._store import Store
from ._virsh import Virsh

__all__ = ["RECORD", "Wish", "examine", "put_aside"]

# In the folder that keeps what belongs to them.
_RUNNING = "running"


@dataclass(frozen=True)
class Wish:
    """What vm_aside was asked for. ``disks`` are those of the newest image, which the host is to get next."""

    host: str
    uuid: str
    epoch: int
    image_id: str
    disks: Sequence[Mapping[str, Any]]
    bytes_allocated: int = 0
    reserve_bytes: int = 0


def examine(layout: Layout, wish: Wish, now: datetime, run: Runner) -> dict[str, Any] | None:
    """What is to be put aside, by its record, which may be an earlier run's; None when there is nothing.

    Raises ResilientVmError, before anything is touched, for what can't be.
    """
    state = held(layout)
    if state.active == wish.host or state.epoch != wish.epoch:
        raise ResilientVmError(
            f"this host holds epoch {state.epoch} of {layout.name} with {state.active} as its active host, not epoch "
            f"{wish.epoch} with another one; run reprotect again"
        )
    folder = layout.before(wish.epoch)
    record = read_json(os.path.join(folder, RECORD))
    if record is not None and not record["done"]:
        return dict(record)
    if not is_former(layout, run, wish.uuid):
        return None
    if record is not None:
        raise ResilientVmError(
            f"{folder} keeps what {wish.host} had of {layout.name} in an earlier protection of it, and {wish.host} has "
            f"it again; move away that folder and each file that its {RECORD} calls aside, and run reprotect again"
        )
    virsh = Virsh(run)
    domain = None
    files: list[dict[str, str]] = []
    now_is, reason = virsh.state(wish.uuid)
    if now_is:
        _refuse_alive(layout, wish, now_is, reason)
        domain = virsh.inactive(wish.uuid)
        files = _files(layout, domain, folder, wish)
    known = {file["path"] for file in files}
    for name in sorted(os.listdir(layout.running)) if os.path.isdir(layout.running) else ():
        path = os.path.join(layout.running, name)
        if path not in known:
            files.append({"target": name, "path": path, "format": "", "aside": os.path.join(folder, _RUNNING, name)})
    for file in files:
        if os.path.lexists(file["aside"]):
            raise ResilientVmError(
                f"{file['path']} of {layout.name} can't be kept as {file['aside']}, which is there already from an "
                "earlier protection of it; move that away, and run reprotect again"
            )
    _check_room(layout, wish)
    return {"epoch": wish.epoch, "when": _clock.iso(now), "domain": domain is not None, "files": files, "done": False}


def _refuse_alive(layout: Layout, wish: Wish, state: str, reason: str) -> None:
    if state not in STOPPED:
        raise ResilientVmError(
            f"{layout.vm} is {state} on {wish.host}, which is not its active host; shut it down there (what it has "
            "written there since stays on its disks), and run reprotect again",
            state=state,
        )
    _domain.refuse_saved(layout.name, wish.uuid, reason)


def _files(layout: Layout, domain: _domain.Domain, folder: str, wish: Wish) -> list[dict[str, str]]:
    """The machine's files, each with the name it gets. Devices keep theirs, and so does what was never in an image."""
    imaged, found = {disk["target"] for disk in wish.disks}, []
    places = [(disk.target, disk.source, disk.format) for disk in domain.disks if disk.target in imaged]
    if domain.nvram:
        places.append(("nvram", domain.nvram, ""))
    for target, path, kind in places:
        if not os.path.isfile(path):
            continue
        # What a takeover has made here is moved as a whole.
        own = os.path.dirname(path) == layout.running
        aside = os.path.join(folder, _RUNNING, os.path.basename(path)) if own else f"{path}.{os.path.basename(folder)}"
        found.append({"target": target, "path": path, "format": kind, "aside": aside})
    return found


def put_aside(
    layout: Layout, wish: Wish, record: dict[str, Any], run: Runner, swtpm: str = _definition.SWTPM
) -> list[str]:
    """Keep the definition, forget the machine, give its files their new names, and begin the copy of the image.

    Returns the targets of the disks that the copy was begun with.
    """
    folder, virsh = layout.before(wish.epoch), Virsh(run)
    with locked(layout.lock, "reprotect"):
        if not os.path.isdir(folder):
            _keep_definition(folder, wish, record, virsh, swtpm)
        # While its disks have their names: where it is gone, they may go.
        if virsh.state(wish.uuid)[0]:
            _refuse_alive(layout, wish, *virsh.state(wish.uuid))
            virsh.undefine(wish.uuid)
        if os.path.lexists(layout.running):
            os.rename(layout.running, os.path.join(folder, _RUNNING))
            fsync_directory(layout.directory)
        for file in record["files"]:
            if os.path.lexists(file["path"]) and not os.path.lexists(file["aside"]):
                os.rename(file["path"], file["aside"])
                fsync_directory(os.path.dirname(file["path"]))
        note(layout, record["files"], record["when"])
    laid = _seed_with(layout, wish, record, run)
    write_json(os.path.join(folder, RECORD), {**record, "done": True}, 0o600)
    return laid


def _keep_definition(folder: str, wish: Wish, record: Mapping[str, Any], virsh: Virsh, swtpm: str) -> None:
    """All or nothing: from here on a rerun knows what was meant."""
    work = folder + ".new"
    shutil.rmtree(work, ignore_errors=True)
    os.mkdir(work, 0o700)
    if record["domain"]:
        xml = virsh.inactive_xml(wish.uuid)
        tpm = wish.uuid if _domain.parse(xml).tpm else ""
        # libvirt erases the state of a TPM with its machine. NVRAM has a name of its own and is renamed.
        _definition.capture(work, xml, "", tpm, (0, 0), tpm_root=swtpm)
    write_json(os.path.join(work, RECORD), record, 0o600)
    fsync_tree(work)
    os.rename(work, folder)
    fsync_directory(os.path.dirname(folder))


def _seed_with(layout: Layout, wish: Wish, record: Mapping[str, Any], run: Runner) -> list[str]:
    """None where a generation serves for it, and none that was resized."""
    if Store(layout, "generations").newest() is not None:
        return []
    sizes = {disk["target"]: disk["size_bytes"] for disk in wish.disks}
    laid = []
    for file in record["files"]:
        if file["target"] not in sizes or not os.path.isfile(file["aside"]):
            continue
        size, work = sizes[file["target"]], os.path.join(layout.directory, f".{file['target']}.aside")
        try:
            source = as_raw(file["aside"], file["format"], work, run)
            if os.path.getsize(source) == size:
                _seed.lay(layout, [_seed.Seed(file["target"], source, size)], wish.uuid, wish.image_id, False)
                laid.append(file["target"])
        finally:
            if os.path.exists(work):
                os.unlink(work)
    return laid


def _check_room(layout: Layout, wish: Wish) -> None:
    """Room for the image, which shares blocks with the disks put aside at best."""
    room = os.statvfs(layout.directory)
    free = room.f_bavail * room.f_frsize
    if free < wish.bytes_allocated + wish.reserve_bytes:
        raise ResilientVmError(
            f"no space to stand by: {layout.directory} has {human_size(free)} free, image {wish.image_id} needs "
            f"{human_size(wish.bytes_allocated)} and {human_size(wish.reserve_bytes)} stay in reserve; add space, or "
            "lower resilient_vm_reserve_bytes"
        )
