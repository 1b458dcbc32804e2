# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which image restore_files reads for one VM: from its plan and what its machines said. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ._errors import ResilientVmError
from ._restore_plan import decide as decide_restore

__all__ = ["Decision", "decide"]


@dataclass(frozen=True)
class Decision:
    """What is read, and what of it. ``path`` empty: it is only looked at."""

    image_id: str
    host: str
    path: str
    device: str
    take: list[str]
    list: list[str]
    reserve_bytes: int


def decide(
    plan: Mapping[str, Any],
    hosts: Mapping[str, Mapping[str, Any]],
    images: Mapping[str, Mapping[str, Any]],
    now: datetime,
    version: str = "",
) -> Decision:
    """The decision. Raises ResilientVmError with one sentence when there is nothing to read, or nowhere to lay it."""
    vm, storage, files = plan["vm"], plan["backup_storage"], plan["restore_files"]
    if plan["restore_host"] not in (None, "", storage):
        raise ResilientVmError(
            f"resilient_vm_restore_host of {vm} names {plan['restore_host']}; files are laid on its backup storage "
            f"{storage}: leave it out, and copy them from there"
        )
    only_look = bool(plan["list_files"]) or not plan["restore_path"]
    if not only_look and not files:
        raise ResilientVmError(
            f"resilient_vm_restore_files is not set for {vm}; set it to a list of files and directories in the guest, "
            "or leave resilient_vm_restore_path out to see what there is"
        )
    found = decide_restore({**plan, "restore_to": "looking"}, hosts, images, now, version)
    return Decision(
        image_id=found.image_id,
        host=found.host,
        path="" if only_look else plan["restore_path"],
        device=plan["restore_files_device"] or "",
        take=[] if only_look else list(files),
        list=[plan["list_files"]] if plan["list_files"] else list(files) if only_look else [],
        reserve_bytes=found.reserve_bytes,
    )
