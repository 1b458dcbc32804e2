# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore does for one VM: from its plan and what its machines said. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from . import _clock, _restore_point
from ._errors import ResilientVmError
from ._layout import Layout
from ._preflight import standby_host

__all__ = ["Decision", "decide"]

_SITE = "run the site playbook"


@dataclass(frozen=True)
class Decision:
    """What is restored, where to. ``store`` is where image_restore finds the image on that machine."""

    image_id: str
    to: str
    host: str
    store: str
    travels: bool
    path: str
    name: str
    format: str
    reserve_bytes: int
    bytes_allocated: int
    disks: list[dict[str, Any]]
    definition: list[dict[str, Any]]


def decide(
    plan: Mapping[str, Any],
    hosts: Mapping[str, Mapping[str, Any]],
    images: Mapping[str, Mapping[str, Any]],
    now: datetime,
    version: str = "",
) -> Decision:
    """The decision. Raises ResilientVmError with one sentence when nothing can be restored so.

    ``version`` is that of the mover the site playbook would install now.
    """
    _check_wish(plan)
    vm, storage = plan["vm"], plan["backup_storage"]
    beside = plan["restore_to"] == "beside"
    host = plan["restore_host"] or (standby_host(plan, hosts) if beside else storage)
    if host not in plan["machines"]:
        raise ResilientVmError(
            f"resilient_vm_restore_host of {vm} names {host}, which is none of its machines; "
            f"name one of {', '.join(plan['machines'])}"
        )
    if beside and host == storage:
        raise ResilientVmError(
            f"resilient_vm_restore_host of {vm} names {host}, its backup storage, where no VM runs; name "
            f"{plan['production']} or {plan['standby']}"
        )
    for name in dict.fromkeys((storage, host)):
        _check_machine(name, vm, hosts.get(name) or {}, version)
    stored = images.get(storage) or {}
    if not stored.get("answered"):
        raise ResilientVmError(str(stored.get("msg") or f"machine {storage} was not asked about {vm}"))
    if not stored.get("laid_out"):
        raise ResilientVmError(f"{vm} is not laid out on {storage}; {_SITE}")
    known = {image["id"]: image for image in stored["images"]}
    image_id = _restore_point.find(
        plan["restore_point"], vm, map(_candidate, known.values()), _clock.zone(plan["timezone"]), now
    )
    image = known[image_id]
    return Decision(
        image_id=image_id,
        to=plan["restore_to"],
        host=host,
        store="images" if host == storage else "restores",
        travels=host != storage,
        path=_folder(plan, host) if beside else plan["restore_path"],
        name=plan["restore_name"] if beside else "",
        format=plan["restore_format"],
        reserve_bytes=plan["machine_settings"][host]["reserve_bytes"],
        bytes_allocated=image["bytes_allocated"],
        disks=[{name: disk[name] for name in ("target", "size_bytes", "root_digest")} for disk in image["disks"]],
        definition=[{name: entry[name] for name in ("name", "sha256")} for entry in image["definition"]],
    )


def _check_wish(plan: Mapping[str, Any]) -> None:
    vm = plan["vm"]
    if not plan["restore_point"]:
        raise ResilientVmError(
            f"resilient_vm_restore_point is not set for {vm}; set it to {_restore_point.FORMS}",
        )
    if not plan["restore_to"]:
        raise ResilientVmError(f"resilient_vm_restore_to is not set for {vm}; set it to files or beside")
    if plan["restore_to"] == "beside":
        _check_name(plan)
    elif not plan["restore_path"]:
        raise ResilientVmError(
            f"resilient_vm_restore_path is not set for {vm}; set it to the folder that is to be made for the files"
        )


def _check_name(plan: Mapping[str, Any]) -> None:
    if not plan["restore_name"]:
        raise ResilientVmError(
            f"resilient_vm_restore_name is not set for {plan['vm']}; set it to the name of the new VM"
        )
    if plan["restore_name"] in (plan["vm"], plan["domain"]):
        raise ResilientVmError(
            f"resilient_vm_restore_name {plan['restore_name']} is the protected VM's own name; choose another"
        )


def _folder(plan: Mapping[str, Any], host: str) -> str:
    layout = Layout(plan["customer"], plan["vm"], plan["roots"][host])
    return os.path.join(layout.restored, plan["restore_name"])


def _check_machine(name: str, vm: str, fact: Mapping[str, Any], version: str) -> None:
    if not fact.get("answered"):
        raise ResilientVmError(str(fact.get("msg") or f"machine {name} was not asked about {vm}"))
    found = fact["version"]
    if found is None:
        raise ResilientVmError(f"the mover is not installed on {name}; {_SITE}")
    if version and found.split()[0] != version:
        raise ResilientVmError(f"the mover on {name} is {found} and this collection's is {version}; {_SITE}")


def _candidate(image: Mapping[str, Any]) -> _restore_point.Candidate:
    wrong = str(image["problem"])
    if not wrong and image["damaged"]:
        mark = image["damaged"][0]
        wrong = f"its disk {mark['disk']} is damaged at byte {mark['offset_bytes']}"
    return _restore_point.Candidate(image["id"], image.get("epoch", 0), wrong)
