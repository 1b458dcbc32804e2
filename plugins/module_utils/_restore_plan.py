# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore does for one VM: from its plan and what its machines said. Pure."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from . import _clock, _restore_point
from ._errors import ResilientVmError
from ._kept import KEPT
from ._layout import Layout
from ._preflight import active_host, standby_host
from ._restore_settings import INSTANT_FORMAT

__all__ = ["Decision", "decide", "parts"]

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
    # In place: since which epoch the VM lives there, whether an earlier run has begun, and the word that it may.
    epoch: int = 1
    uuid: str | None = None
    begun: bool = False
    word: str = ""
    confirmed: bool = True
    data_time: str = ""
    # The newest whole image, by whose digests it is known without reading a disk how much would travel.
    newest_id: str = ""
    # The machine runs before its data is there.
    instant: bool = False


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
    beside, place = plan["restore_to"] == "beside", plan["restore_to"] == "place"
    instant = plan["restore_mode"] == "instant"
    state = _check_place(plan, hosts) if place else {}
    host = state["active"] if place else plan["restore_host"] or (standby_host(plan, hosts) if beside else storage)
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
    # In place, the other host has to hear of it as well.
    for name in dict.fromkeys((storage, host, *((standby_host(plan, hosts),) if place else ()))):
        _check_machine(name, vm, hosts.get(name) or {}, version)
    if plan["restore_point"] == KEPT:
        return _back(plan, host, state)
    stored = images.get(storage) or {}
    if not stored.get("answered"):
        raise ResilientVmError(str(stored.get("msg") or f"machine {storage} was not asked about {vm}"))
    if not stored.get("laid_out"):
        raise ResilientVmError(f"{vm} is not laid out on {storage}; {_SITE}")
    known = {image["id"]: image for image in stored["images"]}
    image_id = _restore_point.find(
        plan["restore_point"], vm, map(_restore_point.candidate, known.values()), _clock.zone(plan["timezone"]), now
    )
    image = known[image_id]
    return Decision(
        image_id=image_id,
        to=plan["restore_to"],
        host=host,
        store="images" if host == storage else "restores",
        travels=host != storage,
        path=_folder(plan, host) if beside else plan["restore_path"] or "",
        name=plan["restore_name"] if beside else "",
        format=INSTANT_FORMAT if instant else plan["restore_format"],
        reserve_bytes=plan["machine_settings"][host]["reserve_bytes"],
        **parts(image),
        data_time=image["instant"],
        newest_id=(stored.get("newest") or {}).get("id") or "",
        instant=instant,
        **(_in_place(plan, state, image_id) if place else {}),
    )


def parts(image: Mapping[str, Any]) -> dict[str, Any]:
    """What a machine has to know of an image that is restored there, of its summary."""
    return {
        "bytes_allocated": image["bytes_allocated"],
        "disks": [{name: disk[name] for name in ("target", "size_bytes", "root_digest")} for disk in image["disks"]],
        "definition": [{name: entry[name] for name in ("name", "sha256")} for entry in image["definition"]],
    }


def _back(plan: Mapping[str, Any], host: str, state: Mapping[str, Any]) -> Decision:
    """To what the last restore in place has kept aside; the host alone knows what that is."""
    nothing: dict[str, Any] = {"store": "", "path": "", "name": "", "bytes_allocated": 0, "disks": [], "definition": []}
    return Decision(
        image_id=KEPT,
        to="place",
        host=host,
        travels=False,
        format="",
        reserve_bytes=plan["machine_settings"][host]["reserve_bytes"],
        **nothing,
        **_in_place(plan, state, KEPT),
    )


def _in_place(plan: Mapping[str, Any], state: Mapping[str, Any], image_id: str) -> dict[str, Any]:
    """The word is for this VM, this image and the state as it is: when the job runs again, it is none any more."""
    mark = hashlib.sha256(f"{state['epoch']} {state['changed']}".encode()).hexdigest()[:8]
    word, begun = f"{plan['vm']}@{image_id}#{mark}", state["phase"] == "restoring"
    confirmed = begun or word in re.split(r"[,\s]+", plan["confirm"] or "")
    return {"epoch": state["epoch"], "uuid": state["uuid"], "begun": begun, "word": word, "confirmed": confirmed}


def _check_place(plan: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The VM's state as the backup storage has it, when its disks may be exchanged."""
    vm, storage = plan["vm"], plan["backup_storage"]
    _check_machine(storage, vm, hosts.get(storage) or {}, "")
    state = (hosts.get(storage) or {}).get("state")
    if not state:
        raise ResilientVmError(f"{vm} has no state document on {storage}; {_SITE}")
    if state["phase"] not in ("protected", "restoring"):
        raise ResilientVmError(
            f"{vm} is in phase {state['phase']}, from which there is no restore in place; bring that to its end first, "
            "or restore with resilient_vm_restore_to=beside"
        )
    active = active_host(plan, hosts)
    if plan["restore_host"] not in (None, "", active):
        raise ResilientVmError(
            f"resilient_vm_restore_host of {vm} names {plan['restore_host']}, and it lives on {active}, where alone it "
            "is restored in place; leave it out"
        )
    return dict(state)


def _check_wish(plan: Mapping[str, Any]) -> None:
    vm = plan["vm"]
    if not plan["restore_point"]:
        raise ResilientVmError(
            f"resilient_vm_restore_point is not set for {vm}; set it to {_restore_point.FORMS}",
        )
    if not plan["restore_to"]:
        raise ResilientVmError(f"resilient_vm_restore_to is not set for {vm}; set it to files, beside or place")
    if plan["restore_point"] == KEPT and plan["restore_to"] != "place":
        raise ResilientVmError(
            f"restore point {KEPT} of {vm} is what a restore in place has kept aside, and goes back only with "
            "resilient_vm_restore_to=place"
        )
    if plan["restore_mode"] == "instant" and plan["restore_to"] != "beside":
        raise ResilientVmError(
            f"resilient_vm_restore_mode instant of {vm} is for a new VM only; set resilient_vm_restore_to=beside, or "
            f"restore to {plan['restore_to']} with resilient_vm_restore_mode=copy"
        )
    if plan["restore_to"] == "beside":
        _check_name(plan)
    elif plan["restore_to"] == "files" and not plan["restore_path"]:
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
