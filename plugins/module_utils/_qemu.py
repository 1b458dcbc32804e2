# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The QEMU process behind a running domain."""

from __future__ import annotations

import os
import pwd
import re
from dataclasses import dataclass

from ._errors import ResilientVmError

__all__ = ["Qemu", "find", "qemu_user"]

_PIDS = "/run/libvirt/qemu"
_PROC = "/proc"
_CONFIGURATION = "/etc/libvirt/qemu.conf"
# What Debian and its children, and what Fedora and its children call it.
_USERS = ("libvirt-qemu", "qemu")


@dataclass(frozen=True)
class Qemu:
    """A process, told from a later one of the same number by its start time (clock ticks since boot)."""

    pid: int
    started: int
    user: int


def find(domain: str, pids: str = _PIDS, proc: str = _PROC) -> Qemu | None:
    """The process that runs a domain, or None."""
    try:
        with open(os.path.join(pids, f"{domain}.pid"), encoding="ascii") as stream:
            pid = int(stream.read())
        folder = os.path.join(proc, str(pid))
        with open(os.path.join(folder, "stat"), encoding="utf-8", errors="replace") as stream:
            # After the program's name, which may hold spaces and brackets itself.
            fields = stream.read().rpartition(")")[2].split()
        # From here the state is field 0: Z is dead already, 19 is the start time.
        return None if fields[0] in "ZX" else Qemu(pid, int(fields[19]), os.stat(folder).st_uid)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None


def qemu_user(configuration: str = _CONFIGURATION) -> tuple[int, int]:
    """(user id, group id) under which libvirt starts QEMU on this host, whether or not a machine runs."""
    try:
        with open(configuration, encoding="utf-8", errors="replace") as stream:
            chosen = re.search(r'^\s*user\s*=\s*"\+?([^"]+)"', stream.read(), re.MULTILINE)
    except FileNotFoundError:
        chosen = None
    for name in [chosen.group(1)] if chosen else _USERS:
        try:
            entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise ResilientVmError("this host has no account that QEMU runs as; install libvirt's QEMU driver")
