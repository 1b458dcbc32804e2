# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks of a VM that runs where a takeover put them are moved to their owner's place and format, while it runs.

QEMU copies each and keeps the copy up with what the guest writes; when all are level, the machine goes over to them.
libvirt holds the copying, whatever becomes of who began it: the machine's XML says where each disk is copied to.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable
from xml.etree import ElementTree

from . import _domain
from ._change import held
from ._errors import ResilientVmError
from ._files import fsync_directory, locked, read_json, write_json
from ._human import human_size
from ._kept import MOVED
from ._layout import Layout
from ._process import Runner
from ._room import full
from ._virsh import Virsh

__all__ = ["Move", "Relocation", "Wish"]

# What a run has begun to copy to: a rerun may erase what a crash left of it, and nothing else.
_BEGUN = "relocate.json"
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Wish:
    """What vm_relocate was asked for. Without ``folder`` each disk goes to where it once lay, in the format it had."""

    host: str
    uuid: str
    epoch: int
    folder: str | None = None
    format: str | None = None
    reserve_bytes: int = 0
    bytes_per_second: int = 0


@dataclass(frozen=True)
class Move:
    """One disk: from where a takeover put it to ``path``."""

    target: str
    source: str
    path: str
    format: str
    size_bytes: int
    allocated_bytes: int


@dataclass(frozen=True)
class _Mirror:
    path: str
    ready: bool


@dataclass(frozen=True)
class _Seen:
    """A disk as the machine uses it now: where it lies, and the copy that QEMU makes of it."""

    source: str = ""
    mirror: _Mirror | None = None

    @property
    def level(self) -> bool:
        return self.mirror is not None and self.mirror.ready


class Relocation:
    """Of one VM, on its active host."""

    def __init__(self, layout: Layout, wish: Wish, run: Runner, sleep: Callable[[float], None] = time.sleep) -> None:
        self._layout = layout
        self._wish = wish
        self._virsh = Virsh(run)
        self._sleep = sleep

    def examine(self) -> list[Move]:
        """The disks that are still to be moved. Raises ResilientVmError, touching nothing, for what can't be."""
        vm, wish, state = self._layout.vm, self._wish, held(self._layout)
        if (state.active, state.epoch, state.phase) != (wish.host, wish.epoch, "protected"):
            raise ResilientVmError(
                f"{vm} is {state.phase} on {state.active} at epoch {state.epoch} here; its disks are moved on the host "
                "that it lives on, while somebody stands by: look at its status"
            )
        facts = self._virsh.facts(wish.uuid)
        if facts.state != "running":
            raise ResilientVmError(
                f"{vm} is {facts.state} on {wish.host}, and its disks are moved while it runs; start it, and run "
                "relocate again"
            )
        seen, former, moves = self._look(), self._former(), []
        for disk in facts.domain.disks:
            if os.path.dirname(disk.source) == self._layout.running:
                path, kind = self._place(disk, facts.domain.name, former.get(disk.target))
                size, allocated = facts.sizes.get(disk.target, (0, 0))
                moves.append(Move(disk.target, disk.source, path, kind, size, allocated))
        if moves and facts.job is not None:
            raise ResilientVmError(f"an image of {vm} is being taken; run relocate again when that is over")
        self._refuse_taken(moves, seen)
        self._check_room([move for move in moves if seen[move.target].mirror is None])
        return moves

    def _place(self, disk: _domain.Disk, name: str, before: Mapping[str, str] | None) -> tuple[str, str]:
        wish = self._wish
        if wish.folder is None and before is None:
            raise ResilientVmError(
                f"nobody knows any more where disk {disk.target} of {self._layout.vm} lay before; name a folder of "
                f"{wish.host} with -e resilient_vm_relocate_folder="
            )
        kind = wish.format or (before["format"] if before else "qcow2")
        if wish.folder is None and before is not None:
            return before["path"], kind
        if not os.path.isdir(wish.folder or ""):
            raise ResilientVmError(f"{wish.folder} is no folder of {wish.host}; make it, or name another")
        return os.path.join(wish.folder or "", f"{name}-{disk.target}.{kind}"), kind

    def _former(self) -> dict[str, Mapping[str, str]]:
        """By target, where a disk lay the last time that it lay elsewhere; from what reprotect has kept."""
        found: dict[str, Mapping[str, str]] = {}
        for record in self._records():
            for file in record["files"]:
                if file["format"] and os.path.dirname(file["path"]) != self._layout.running:
                    found[file["target"]] = file
        return found

    def _records(self) -> Iterator[Mapping[str, Any]]:
        """Oldest first."""
        prefix = os.path.basename(self._layout.before(0)).removesuffix("0")
        names = [name for name in os.listdir(self._layout.directory) if name.startswith(prefix)]
        for epoch in sorted(int(rest) for rest in (name.removeprefix(prefix) for name in names) if rest.isdigit()):
            record = read_json(os.path.join(self._layout.before(epoch), MOVED))
            if record is not None:
                yield record

    def _look(self) -> defaultdict[str, _Seen]:
        """Its disks by target; one that was taken away meanwhile lies nowhere."""
        root = ElementTree.fromstring(self._virsh.call("dumpxml", self._wish.uuid).stdout)
        found = defaultdict(_Seen)
        for node in root.iterfind("devices/disk"):
            target, source, mirror = node.find("target"), node.find("source"), node.find("mirror")
            if target is not None:
                path = "" if source is None else source.get("file", "")
                found[target.get("dev", "")] = _Seen(path, None if mirror is None else _mirror(mirror))
        return found

    def _begun(self) -> list[str]:
        return list(read_json(os.path.join(self._layout.directory, _BEGUN)) or [])

    def _refuse_taken(self, moves: Sequence[Move], seen: Mapping[str, _Seen]) -> None:
        begun = self._begun()
        for move in moves:
            mirror = seen[move.target].mirror
            if mirror is not None and mirror.path != move.path:
                raise ResilientVmError(
                    f"disk {move.target} of {self._layout.vm} is being copied to {mirror.path} by somebody else; wait "
                    "for that, or end it with virsh blockjob"
                )
            if mirror is None and os.path.lexists(move.path) and move.path not in begun:
                raise ResilientVmError(
                    f"{move.path} is there already; move it aside, or name another folder with -e "
                    "resilient_vm_relocate_folder="
                )

    def _check_room(self, moves: Sequence[Move]) -> None:
        needs = []
        for move in moves:
            folder = os.path.dirname(move.path)
            if not os.path.isdir(folder):
                raise ResilientVmError(f"{folder} is no folder of {self._wish.host} any more; make it, or name another")
            # It may be written all over while it is copied; a sparse one is not expected to.
            needs.append((folder, self._needs(move)))
        lacking = full(needs, self._wish.reserve_bytes)
        if lacking is not None:
            raise ResilientVmError(
                f"no space for the disks of {self._layout.vm}: {lacking.folder} has {human_size(lacking.free)} free, "
                f"they need {human_size(lacking.needed)} and {human_size(self._wish.reserve_bytes)} stay in reserve; "
                "add space, or lower resilient_vm_reserve_bytes"
            )

    def _needs(self, move: Move) -> int:
        """What lies in the overlay and in the disk below it, at most the disk's size."""
        base = os.path.join(self._layout.running, f"{move.target}.base.raw")
        below = os.stat(base).st_blocks * 512 if os.path.isfile(base) else 0
        return min(move.size_bytes, move.allocated_bytes + below)

    # doing it

    def carry_on(self, moves: Sequence[Move], wait_seconds: float) -> dict[str, Any]:
        """Begin what is not begun, and go over when all is level: ``over``, and how far it is, in bytes looked at."""
        with locked(self._layout.lock, "relocate"):
            self._begin(moves)
        until = time.monotonic() + wait_seconds
        while True:
            seen = self._look()
            # A run whose playbook was killed may live on for a while, and go over in our place.
            left = [move for move in moves if seen[move.target].source != move.path]
            if not left:
                self.tidy()
                return {"over": True}
            gone = [move.target for move in left if seen[move.target].mirror is None]
            if gone:
                raise ResilientVmError(
                    f"QEMU gave up copying disk {gone[0]} of {self._layout.vm}, which runs on as it did; look at its "
                    f"log and at the space on {self._wish.host}, and run relocate again"
                )
            if all(seen[move.target].level for move in left):
                self._go_over(left)
                continue
            if time.monotonic() >= until:
                return {"over": False, "bytes_done": self._done(moves), "bytes_total": sum(m.size_bytes for m in moves)}
            self._sleep(_LOOK_SECONDS)

    def _done(self, moves: Sequence[Move]) -> int:
        return sum(self._virsh.pulled(self._wish.uuid, move.target) or 0 for move in moves)

    def _begin(self, moves: Sequence[Move]) -> None:
        seen = self._look()
        write_json(
            os.path.join(self._layout.directory, _BEGUN),
            sorted({*self._begun(), *(move.path for move in moves)}),
            0o600,
        )
        for move in moves:
            if seen[move.target].mirror is not None or seen[move.target].source == move.path:
                continue
            with contextlib.suppress(FileNotFoundError):
                os.unlink(move.path)
            self._virsh.copy(self._wish.uuid, move.target, move.path, move.format, self._wish.bytes_per_second)

    def _go_over(self, moves: Sequence[Move]) -> None:
        # Under the lock, like the beginning, which erases what lies where no copy is made to.
        with locked(self._layout.lock, "relocate"):
            seen = self._look()
            for move in moves:
                if seen[move.target].mirror is not None:
                    self._virsh.go_over(self._wish.uuid, move.target)

    def tidy(self) -> bool:
        """Erase what the machine has no use for any more where a takeover put it; whether anything was there."""
        live = self._virsh.facts(self._wish.uuid).domain
        next_time = _domain.parse(self._virsh.inactive_xml(self._wish.uuid))
        used = {path for one in (live, next_time) for disk in one.disks for path in (disk.source, *disk.chain)}
        used |= {path for path in (live.nvram, next_time.nvram) if path}
        with locked(self._layout.lock, "relocate"):
            there = self._erase(used)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self._layout.directory, _BEGUN))
                there = True
        fsync_directory(self._layout.directory)
        return there

    def _erase(self, used: set[str]) -> bool:
        running = self._layout.running
        names = os.listdir(running) if os.path.isdir(running) else []
        kept = [name for name in names if os.path.join(running, name) in used]
        if names and not kept:
            shutil.rmtree(running)
            return True
        # NVRAM stays where the firmware has it open; a disk that is still used keeps the one below it.
        disks = {name.split(".", 1)[0] for name in kept}
        idle = [name for name in names if name.endswith((".qcow2", ".base.raw")) and name.split(".", 1)[0] not in disks]
        for name in idle:
            os.unlink(os.path.join(running, name))
        return bool(idle)


def _mirror(node: ElementTree.Element) -> _Mirror:
    source = node.find("source")
    path = node.get("file") if source is None else source.get("file")
    return _Mirror(path or "", node.get("ready") == "yes")
