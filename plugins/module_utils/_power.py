# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM stopped as its owner would stop it, and started again."""

from __future__ import annotations

import contextlib
import time
from typing import Callable

from ._domain import STOPPED
from ._errors import ResilientVmError
from ._gate import Gate
from ._virsh import Virsh

__all__ = ["shut_down", "start"]

_AGENT_SECONDS = 10.0


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
    virsh.call("shutdown", uuid, "--mode", "acpi")
    for second in range(patience_seconds):
        if virsh.state(uuid)[0] in STOPPED:
            return
        if second == patience_seconds // 2:
            # Second, because libvirt waits for the agent's answer, which one that does nothing never gives.
            with contextlib.suppress(ResilientVmError):
                virsh.call("shutdown", uuid, "--mode", "agent", timeout_seconds=_AGENT_SECONDS)
        sleep(1.0)
    raise ResilientVmError(
        f"domain {uuid} did not shut down within {patience_seconds} seconds (it is {virsh.state(uuid)[0]}); find out "
        "why it does not heed its power button, or raise resilient_vm_shutdown_seconds; should it go off later all the "
        "same, start it again"
    )


def start(
    gate: Gate, name: str, uuid: str, settle_seconds: int = 0, sleep: Callable[[float], None] = time.sleep
) -> bool:
    """Open the gate of a VM that is this host's, and start it; False when it runs.

    A guest that was asked to shut down can't be asked to stay: for ``settle_seconds`` it may yet go off.
    """
    virsh = Virsh(gate.run)
    while virsh.state(uuid)[0] not in STOPPED:
        if settle_seconds <= 0:
            return False
        settle_seconds -= 1
        sleep(1.0)
    gate.open(name)
    virsh.start(uuid)
    return True
