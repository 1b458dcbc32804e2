# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM stopped as its owner would stop it, and started again."""

from __future__ import annotations

import time
from typing import Callable

from ._domain import STOPPED
from ._errors import ResilientVmError
from ._virsh import Virsh

__all__ = ["shut_down", "start"]


def shut_down(virsh: Virsh, uuid: str, patience_seconds: int, sleep: Callable[[float], None] = time.sleep) -> None:
    """Ask the guest to shut down, and wait. Raises ResilientVmError when it doesn't; it runs on then."""
    state, reason = virsh.state(uuid)
    if not state:
        raise ResilientVmError(f"there is no domain {uuid} on this host")
    if reason == "saved":
        raise ResilientVmError(
            f"domain {uuid} has a saved state, which would wake up on disks that have moved on; start it, and run again"
        )
    if state in STOPPED:
        return
    virsh.call("shutdown", uuid)
    for _second in range(patience_seconds):
        if virsh.state(uuid)[0] in STOPPED:
            return
        sleep(1.0)
    raise ResilientVmError(
        f"domain {uuid} did not shut down within {patience_seconds} seconds (it is {virsh.state(uuid)[0]}); find out "
        "why it does not heed its power button, or raise resilient_vm_shutdown_seconds"
    )


def start(virsh: Virsh, uuid: str) -> None:
    """Start it unless it runs. Its gate has a word in that."""
    if virsh.state(uuid)[0] in STOPPED:
        virsh.start(uuid)
