# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host keeps aside of a VM's earlier disks: what there is, what goes back in place, what has had its days."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from . import _clock, _domain
from ._errors import ResilientVmError
from ._files import fsync_directory, moment, read_json, remove_tree, write_json
from ._layout import Layout
from ._process import Runner
from ._virsh import Virsh

__all__ = ["ASIDE", "EXCHANGE", "KEPT", "MOVED", "due", "erase", "kept", "note", "to_go_back"]

ASIDE = "aside.json"
# Of an exchange that is under way, and, in the folder of what was put aside, of that.
EXCHANGE, MOVED = "exchange.json", "record.json"
# The restore point that means them.
KEPT = "aside"
# What a restore in place gives a file for a name; reprotect's ends in an epoch.
_OF_RESTORE = re.compile(r".+\.before-\d{8}T\d{6}Z")
_OF_EPOCH = re.compile(r"before-e\d+")
_MOVED = re.compile(r"[./](before-e\d+)(?=/|$)")


@dataclass(frozen=True)
class _Found:
    """One file that is kept aside and there."""

    entry: Mapping[str, Any]

    @property
    def aside(self) -> str:
        return str(self.entry["aside"])

    @property
    def when(self) -> datetime:
        return _clock.parse(str(self.entry["when"]), "the time at which it was kept aside")


def _found(layout: Layout) -> list[_Found]:
    entries = read_json(os.path.join(layout.directory, ASIDE)) or []
    return [_Found(entry) for entry in entries if os.path.lexists(entry["aside"])]


def kept(layout: Layout) -> list[dict[str, Any]]:
    """Each file with its size on the disk, oldest first. Blocks that it shares with others are counted all the same."""
    found = sorted(_found(layout), key=lambda each: (each.when, each.aside))
    return [
        {
            **{name: each.entry[name] for name in ("target", "path", "aside", "when")},
            "bytes_allocated": os.lstat(each.aside).st_blocks * 512,
        }
        for each in found
    ]


def note(layout: Layout, files: Sequence[Mapping[str, str]], when: str) -> None:
    """Write down what was kept aside now; of what was there before, what still is."""
    known = [each.entry for each in _found(layout)]
    names = {entry["aside"] for entry in known}
    members = ("target", "path", "format", "aside")
    entries = [{**{name: file[name] for name in members}, "when": when} for file in files if file["aside"] not in names]
    write_json(os.path.join(layout.directory, ASIDE), [*known, *entries], 0o600)


def to_go_back(layout: Layout, domain: _domain.Domain, when: str) -> tuple[list[dict[str, str]], str]:
    """What goes back to its place from the restore in place of last, and since when it is kept.

    Raises ResilientVmError when that is not what the VM has its disks in the place of.
    """
    found = [each for each in _found(layout) if _OF_RESTORE.fullmatch(each.aside)]
    if not found:
        raise ResilientVmError(
            f"no disks of {layout.vm} are kept aside on this host by a restore in place (any more); name an image as "
            "resilient_vm_restore_point"
        )
    last = max(each.when for each in found)
    places = {os.path.realpath(disk.source): disk for disk in domain.disks if disk.source}
    files = []
    for each in (each for each in found if each.when == last):
        path, target = str(each.entry["path"]), str(each.entry["target"])
        disk = places.get(path)
        # What an earlier version wrote down has no format.
        kind = disk.format if disk is not None else ""
        if path != domain.nvram and (disk is None or disk.target != target or each.entry.get("format", kind) != kind):
            raise ResilientVmError(
                f"{each.aside} was disk {target} of {layout.vm} in the place of {path}, and the VM has another one "
                "there now; exchange them by hand if that is what you want"
            )
        new = f"{path}.before-{when}"
        files.append({"target": target, "path": path, "format": kind, "aside": new, "source": each.aside})
    return files, _clock.iso(last)


def due(layout: Layout, keep_days: int, now: datetime, run: Runner) -> tuple[list[dict[str, Any]], list[str]]:
    """The files whose time is over, and a sentence for each that stays all the same. None while one may be needed."""
    if not keep_days or _exchanging(layout):
        return [], []
    limit = now - timedelta(days=keep_days)
    unfinished = {name for name in _folders(layout) if not _is_done(layout, name)}
    over = [
        entry
        for entry in kept(layout)
        if _clock.parse(entry["when"], "its time") <= limit and _folder_of(entry) not in unfinished
    ]
    used = _used(over, run) if over else {}
    stays = [f"{path} stays, because domain {domain} on this host has it as its disk" for path, domain in used.items()]
    return [entry for entry in over if entry["aside"] not in used], stays


def _exchanging(layout: Layout) -> bool:
    """Whether a restore in place is under way here; one of an earlier epoch was left behind as the VM moved on."""
    record = read_json(os.path.join(layout.directory, EXCHANGE))
    if record is None:
        return False
    state = read_json(layout.state) or {}
    return bool(record["epoch"] >= state.get("epoch", 0))


def _used(entries: Sequence[Mapping[str, Any]], run: Runner) -> dict[str, str]:
    """Which of the files somebody has given to a machine, and to which one."""
    virsh, used = Virsh(run), {}
    for name, uuid in sorted(virsh.domains().items()):
        xml = virsh.inactive_xml(uuid)
        used.update({entry["aside"]: name for entry in entries if entry["aside"] in xml})
    return used


def erase(layout: Layout, entries: Sequence[Mapping[str, Any]]) -> None:
    """Erase these files, and what else belonged to a machine of which none is left."""
    with moment(layout.lock, "what is kept aside"):
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry["aside"])
                fsync_directory(os.path.dirname(entry["aside"]))
        left = [each.entry for each in _found(layout)]
        for name in {_folder_of(entry) for entry in entries} & set(_folders(layout)):
            if name not in {_folder_of(entry) for entry in left}:
                remove_tree(os.path.join(layout.directory, name))
        write_json(os.path.join(layout.directory, ASIDE), left, 0o600)


def _folders(layout: Layout) -> list[str]:
    """What belongs to disks that were put aside when the VM had moved, by epoch."""
    return sorted(name for name in os.listdir(layout.directory) if _OF_EPOCH.fullmatch(name))


def _folder_of(entry: Mapping[str, Any]) -> str:
    """The one of these that a file belongs to, empty for one of a restore in place."""
    found = _MOVED.search(str(entry["aside"]))
    return found.group(1) if found else ""


def _is_done(layout: Layout, name: str) -> bool:
    return bool((read_json(os.path.join(layout.directory, name, MOVED)) or {}).get("done"))
