# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an open snapshot leaves on its host, and how it is taken away: after use, or after a crash."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from dataclasses import asdict, dataclass
from typing import Any

from . import _offline, _units
from ._layout import Layout
from ._process import Runner
from ._virsh import Job, Virsh

__all__ = ["Leftovers", "account_folder", "find", "qemu_folder", "remove", "socket"]

_SCRATCH = ".scratch.qcow2"


@dataclass(frozen=True)
class Leftovers:
    """Everything of ours beside checkpoints; all empty on a host without an open snapshot."""

    job: bool = False
    units: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()
    folder: bool = False

    def __bool__(self) -> bool:
        return self.job or self.folder or bool(self.units or self.scratch)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def qemu_folder(layout: Layout) -> str:
    """The only folder here that QEMU may write: everything root reads back lies outside of it."""
    return os.path.dirname(layout.socket)


def account_folder(layout: Layout) -> str:
    """The only folder here that the account may write."""
    return os.path.dirname(layout.heartbeat)


def socket(layout: Layout, target: str) -> str:
    """Where a stopped machine's disk is served."""
    return os.path.join(account_folder(layout), f"{target}.sock")


def find(layout: Layout, run: Runner, job: Job | None) -> Leftovers:
    """What is there. ``job`` is the domain's backup job, ours or not."""
    return Leftovers(
        job=job is not None and job.within(layout.run),
        units=tuple(_living(layout, run)),
        scratch=tuple(_scratch(layout)),
        folder=os.path.isdir(layout.run),
    )


def remove(layout: Layout, run: Runner, virsh: Virsh, uuid: str | None, watching: bool = False) -> None:
    """Take it all away. ``uuid`` is None for a domain that is gone.

    ``watching`` is the watch unit's own call: it does not stop itself, and the run folder keeps its verdict.
    """
    # The watch first: it would take the end of the job for an accident. The begin unit's stop thaws the guest.
    guards = (layout.unit("watch"), layout.unit("begin"))
    found = _living(layout, run)
    stopped = [] if watching else [unit for unit in guards if unit in found]
    _units.end(run, stopped)
    if uuid is not None:
        virsh.abort_backup(uuid, layout.run)
    # A begin that was stopped may have started more until then.
    found = _living(layout, run) if stopped else found
    _units.end(run, [unit for unit in found if unit not in guards])
    for path in _scratch(layout):
        # libvirt removes the files of a job it ended; what a killed QEMU left is ours to take.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    if not watching:
        if os.path.isdir(layout.run):
            shutil.rmtree(layout.run)
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(layout.snapshot)
    for folder in (layout.definition, qemu_folder(layout)):
        if os.path.isdir(folder):
            shutil.rmtree(folder)


def _living(layout: Layout, run: Runner) -> list[str]:
    """Units of an open snapshot that have a process: its begin, its watch, and those that serve a stopped machine's
    disks. Targets have no dash, so no other VM's unit can match."""
    serving = re.escape(layout.unit(_offline.unit_purpose("TARGET"))).replace("TARGET", "[A-Za-z0-9]+")
    purpose = "|".join([re.escape(layout.unit("begin")), re.escape(layout.unit("watch")), serving])
    return [unit for unit in _units.living(run, layout.unit("*")) if re.fullmatch(purpose, unit)]


def _scratch(layout: Layout) -> list[str]:
    if not os.path.isdir(layout.scratch):
        return []
    return sorted(os.path.join(layout.scratch, name) for name in os.listdir(layout.scratch) if name.endswith(_SCRATCH))
