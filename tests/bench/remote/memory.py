# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The most memory a VM's mover and the programs it started held on this machine; prints MiB.

Usage: memory.py CUSTOMER/VM FLAG. Looks until the file FLAG is there. ssh is not counted: every peer has one too.
"""

from __future__ import annotations

import os
import sys
import time

PAUSE = 0.1


def read(pid: str, name: str) -> str:
    """A file of a process; empty when the process is gone."""
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def field(status: str, name: str) -> int:
    lines = [line for line in status.splitlines() if line.startswith(f"{name}:")]
    return int(lines[0].split()[1]) if lines else 0


def trees(vm: str) -> dict[str, dict[str, int]]:
    """For each mover of the VM, its processes and the most KiB each has held so far."""
    pids = [name for name in os.listdir("/proc") if name.isdigit()]
    words = {pid: read(pid, "cmdline").split("\0") for pid in pids}
    status = {pid: read(pid, "status") for pid in pids}
    parents = {pid: str(field(status[pid], "PPid")) for pid in pids}
    movers = {
        pid
        for pid in pids
        if vm in words[pid] and any(word.endswith("/resilient-vm") for word in words[pid][:3])
        if {"fetch", "forced"} & set(words[pid])
    }
    found: dict[str, dict[str, int]] = {}
    for pid in pids:
        above = pid
        while above not in movers and above in parents:
            above = parents[above]
        if above in movers and os.path.basename(words[pid][0]) != "ssh":
            found.setdefault(above, {})[pid] = field(status[pid], "VmHWM")
    return found


def main() -> None:
    vm, flag = sys.argv[1:]
    held: dict[str, dict[str, int]] = {}
    while not os.path.exists(flag):
        for mover, processes in trees(vm).items():
            held.setdefault(mover, {}).update(processes)
        time.sleep(PAUSE)
    if not held:
        sys.exit(f"no mover of {vm} was seen")
    print(max(sum(processes.values()) for processes in held.values()) / 1024)


main()
