# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine's disks lack is pulled from whoever lends it, in a unit on the host, until nothing is missing.

Whatever breaks meanwhile, it is tried again: the link, libvirt, the pull, a guest that was stopped because of them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, Callable
from xml.etree import ElementTree

from . import _borrow, _definition
from ._beside_xml import settled
from ._domain import STOPPED
from ._errors import ResilientVmError
from ._files import read_json, write_json
from ._layout import Layout
from ._process import Runner
from ._restored_files import RECORD
from ._virsh import Virsh

__all__ = ["Pull", "arrived", "stream"]

_LOOK_SECONDS = 2.0
# A guest that starts has the line, and the lender, for itself meanwhile: measured, it comes up a fifth sooner.
_START_SECONDS = 20.0


def arrived(virsh: Virsh, identity: str, disks: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """(bytes, bytes of all disks) that have been looked at and need no lender any more."""
    done = total = 0
    missing = _missing(virsh, identity)
    for disk in disks:
        total += disk["size_bytes"]
        if disk["target"] not in missing:
            done += disk["size_bytes"]
        else:
            done += virsh.pulled(identity, disk["target"]) or 0
    return done, total


def _missing(virsh: Virsh, identity: str) -> list[str]:
    """Targets of the disks that still lie over something, as the machine runs or, when it doesn't, would run."""
    root = ElementTree.fromstring(virsh.call("dumpxml", identity).stdout)
    return [
        target.get("dev", "")
        for node in root.iterfind("devices/disk")
        for target in node.findall("target")
        if node.find("backingStore/source") is not None
    ]


def stream(layout: Layout, run: Runner, sleep: Callable[[float], None] = time.sleep) -> int:
    """See the machine that was made at once last to its end; the unit's exit code."""
    loan = _borrow.begun(layout)
    if loan is None:
        return 0
    pull, said = Pull(layout, loan, run), ""
    while True:
        try:
            if pull.step():
                return 0
            said = ""
        except ResilientVmError as error:
            # Once for each trouble, however long it lasts.
            if str(error) != said:
                sys.stderr.write(f"{error}\n")
            said = str(error)
        sleep(_LOOK_SECONDS)


class Pull:
    """One look after the other. A pull begins ``start_seconds`` after the machine was first seen running."""

    def __init__(
        self,
        layout: Layout,
        loan: Mapping[str, Any],
        run: Runner,
        start_seconds: float = _START_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start_seconds = start_seconds
        self._clock = clock
        self._running_since: float | None = None
        self._layout = layout
        self._loan = dict(loan)
        self._folder = os.path.join(layout.restored, loan["name"])
        self._run = run
        self._virsh = Virsh(run)

    def step(self) -> bool:
        """Do what is to be done now; whether all is over."""
        record = read_json(os.path.join(self._folder, RECORD))
        if record is not None and not record["defined"]:
            return False
        state, reason = self._virsh.state(record["uuid"]) if record is not None else ("", "")
        if record is None or not record.get("borrows") or not state:
            # It has all, or its owner has taken it away.
            _borrow.settle(self._layout, self._loan)
            return True
        identity, targets = record["uuid"], record["borrows"]
        if state in STOPPED:
            self._running_since = None
            # Started again by its owner, it goes on; what is lent stays there for that.
            return self._end_when_whole(record)
        missing = [target for target in _missing(self._virsh, identity) if target in targets]
        if not all(os.path.exists(_borrow.socket_of(self._layout, target)) for target in missing):
            # Nobody lends now: it would be stopped again at once, and a pull fail.
            return False
        if state == "paused" and "I/O error" in reason:
            self._virsh.resume(identity)
        now = self._clock()
        if self._running_since is None:
            self._running_since = now
        if missing and now - self._running_since < self._start_seconds:
            return False
        for target in missing:
            if self._virsh.pulled(identity, target) is None:
                self._virsh.pull(identity, target, record["rate"] // len(targets))
        return not missing and self._end_when_whole(record)

    def _end_when_whole(self, record: dict[str, Any]) -> bool:
        """By the files themselves, which are what its next start opens."""
        if any(self._lacks(disk["file"]) for disk in record["disks"]):
            return False
        xml = self._virsh.inactive_xml(record["uuid"])
        with open(os.path.join(self._folder, _definition.XML), encoding="utf-8") as text:
            first = text.read()
        self._virsh.define_text(settled(xml, first, record["borrows"]), self._folder)
        write_json(os.path.join(self._folder, RECORD), {**record, "borrows": []}, 0o600)
        _borrow.settle(self._layout, self._loan)
        return True

    def _lacks(self, file: str) -> bool:
        path = os.path.join(self._folder, file)
        told = self._run(["qemu-img", "info", "-U", "-f", "qcow2", "--output=json", path])
        return "backing-filename" in json.loads(told.stdout)
