# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard of an open snapshot: breaks the backup, never the guest, and vouches for what was read."""

from __future__ import annotations

import os
import pwd
import sys
import time
from dataclasses import dataclass, replace
from typing import Any, Callable

from . import _leftovers, _offline, _qemu, _snapshot, _virsh
from ._files import read_json, write_json
from ._layout import Layout
from ._process import Runner

__all__ = ["Watch", "watch"]

# Between two looks, and between two glances at whether the sender wants the next one at once: it does after its last
# read, when the image waits for nothing but a word.
_GLANCES = 14
_GLANCE_SECONDS = 0.05
# When the sender says that the image is published, the playbook has so long to close the snapshot before this unit
# does: a killed playbook never will.
_CLOSE_SECONDS = 60.0
_HALTED = ("paused", "I/O error")


def watch(layout: Layout, run: Runner, sleep: Callable[[float], None] = time.sleep) -> int:
    """Guard the open snapshot of a VM until it ends; the unit's exit code."""
    request, document = read_json(_snapshot.request_file(layout)), read_json(layout.snapshot)
    if request is None or document is None:
        sys.stderr.write(f"no snapshot of {layout.name} is open\n")
        return 0
    layout = replace(layout, root=request["root"])
    guard = Watch(layout, run, request, document, sleep)
    before = read_json(layout.watch)
    if before is not None and not before["valid"]:
        # Killed, or left by libvirt, while ending it: go on, and keep the first reason.
        guard.end(before["reason"])
        return 0
    while not guard.look():
        guard.pause()
    return 0


@dataclass(frozen=True)
class _Sight:
    """What one look saw. ``asked`` is False when libvirt gave no answer."""

    asked: bool
    alive: bool
    job: bool
    halted: bool
    written: str
    silent_seconds: float
    published: bool
    free_bytes: int


class Watch:
    """One open snapshot under guard."""

    def __init__(
        self,
        layout: Layout,
        run: Runner,
        request: dict[str, Any],
        document: dict[str, Any],
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._layout = layout
        self._run = run
        self._request = request
        self._document = document
        self._virsh = _virsh.Virsh(run, sleep)
        self._sleep = sleep
        self._clock = clock
        self._owner = (0, pwd.getpwnam(layout.account).pw_gid)
        self._heartbeat = self._beat()
        self._heard = clock()

    def look(self) -> bool:
        """Check everything once and say so in watch.json. True when the snapshot is over."""
        checked = self._clock()
        sight = self._see()
        reason = _verdict(self._request, sight)
        if reason:
            self._say(checked, False, reason)
            self.end(reason)
            return True
        if sight.asked:
            # Not otherwise: while libvirt is silent nobody may take the old word for a new one.
            self._say(checked, True, "")
        return False

    def pause(self) -> None:
        """Wait until the next look is due, or a heartbeat asks for it."""
        for _glance in range(_GLANCES):
            self._sleep(_GLANCE_SECONDS)
            if self._beat() != self._heartbeat:
                return

    def _see(self) -> _Sight:
        running = self._request["running"]
        beat = self._beat()
        if beat != self._heartbeat:
            # Only whether it changed, not its time: the wall clock may jump.
            self._heartbeat, self._heard = beat, self._clock()
        space = os.statvfs(self._layout.scratch)
        asked, alive, job, state = True, True, True, ("", "")
        try:
            if running:
                state, found = self._virsh.look(self._request["uuid"])
                job = found is not None and found.within(self._layout.run)
            else:
                alive = self._virsh.state(self._request["uuid"])[0] == "shut off"
        except _virsh.Unreachable as error:
            sys.stderr.write(f"{error}\n")
            asked = False
        if running:
            # Looked for last: a machine that stops takes its job along, and is the reason to be told.
            qemu = _qemu.find(self._request["domain"])
            alive = qemu is not None and {"pid": qemu.pid, "started": qemu.started} == self._document["qemu"]
        return _Sight(
            asked=asked,
            alive=alive,
            job=job,
            halted=self._halts_count() and state == _HALTED,
            written="" if running else _written(self._document["identities"]),
            silent_seconds=self._clock() - self._heard,
            published=self._published(),
            free_bytes=space.f_bavail * space.f_frsize,
        )

    def end(self, reason: str) -> None:
        """Take the snapshot away and let the guest go on."""
        sys.stderr.write(f"snapshot {self._document['id']} of {self._layout.name} is over: {reason}\n")
        uuid = self._request["uuid"]
        self._virsh.abort_backup(uuid, self._layout.run)
        # Only a machine that QEMU itself halted because a write failed. When its own disk was the cause, QEMU halts
        # it again at once; a machine its owner paused has another reason and stays.
        if self._halts_count() and self._virsh.state(uuid) == _HALTED:
            self._virsh.resume(uuid)
        # Last: it takes away the document by which a restarted watch would go on here.
        _leftovers.remove(self._layout, self._run, self._virsh, uuid, watching=True)

    def _halts_count(self) -> bool:
        """Whether a halted machine may be our doing: not when it stood halted before the snapshot."""
        return bool(self._request["running"]) and self._request["state"] != "paused (I/O error)"

    def _say(self, checked: float, valid: bool, reason: str) -> None:
        verdict = {"checked": checked, "valid": valid, "reason": reason, "id": self._document["id"]}
        write_json(self._layout.watch, verdict, 0o640, self._owner)

    def _beat(self) -> int:
        try:
            return os.stat(self._layout.heartbeat).st_mtime_ns
        except FileNotFoundError:
            return 0

    def _published(self) -> bool:
        # Its size and no more: root opens nothing that lies in the account's folder.
        try:
            return os.lstat(self._layout.heartbeat).st_size > 0
        except FileNotFoundError:
            return False


def _verdict(request: dict[str, Any], sight: _Sight) -> str:
    """Why the snapshot must end, or ""."""
    name = request["domain"]
    if not sight.alive:
        if request["running"]:
            return f"domain {name} stopped or was started anew while it was read"
        return f"domain {name} did not stay shut off while its disks were read; its start wins"
    if not sight.job:
        return f"the backup job of domain {name} is gone"
    if sight.written:
        return sight.written
    if request["running"] and sight.free_bytes < request["scratch_floor_bytes"]:
        return (
            f"only {sight.free_bytes} bytes are free for the scratch files of domain {name}, "
            f"less than the floor of {request['scratch_floor_bytes']}"
        )
    if sight.halted:
        return f"QEMU paused domain {name} because a write failed"
    if sight.published and sight.silent_seconds > _CLOSE_SECONDS:
        return "its image is published"
    if sight.silent_seconds > request["expire_seconds"]:
        return f"nobody read the snapshot for {request['expire_seconds']} seconds"
    return ""


def _written(identities: dict[str, list[int]]) -> str:
    for path, before in identities.items():
        try:
            if _offline.identity(path) == before:
                continue
        except FileNotFoundError:
            return f"{path} was removed while it was read"
        return f"{path} was written while it was read"
    return ""
