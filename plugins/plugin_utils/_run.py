# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Of the run on the control node itself."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["begun", "started"]


def begun() -> float:
    """When the command was typed that this action plugin is a part of, in seconds since 1970.

    Ansible runs an action plugin in a child of its own process, and of that the system knows since when it has been
    there, which is before anything was read. Where it does not tell (no Linux, or another user's), it is now.
    """
    now = time.time()
    try:
        stat = Path(f"/proc/{os.getppid()}/stat").read_text(encoding="utf-8", errors="replace")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started(stat, os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError, ValueError, IndexError):
        return now
    return now - max(age, 0.0)


def started(stat: str, ticks: int) -> float:
    """Seconds from the boot to the start of a process, by its ``/proc/PID/stat``, of ``ticks`` clock ticks a second.

    Field 22 (proc_pid_stat(5)); the second is the program's name in brackets, which may hold blanks and brackets.
    Raises ValueError or IndexError for a text that is none.
    """
    return int(stat.rpartition(")")[2].split()[19]) / ticks
