# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine is and holds, for many VMs in one call. Changes nothing."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from . import _domain, _journal, _kept, _units, _virsh
from ._errors import ResilientVmError
from ._files import read_json, reflink_works
from ._layout import Layout
from ._open_snapshot import open_document
from ._process import Runner
from ._state import State
from ._store import Store

__all__ = [
    "domains_of",
    "kept_of",
    "layouts_of",
    "libvirt_of",
    "missing_accounts",
    "mover_version",
    "newest_of",
    "root_of",
    "states_of",
]


def root_of(path: str, run: Runner) -> dict[str, Any]:
    """Where images or generations lie, or will lie: measured on the nearest folder that exists. Sizes in bytes."""
    nearest = path
    while not os.path.isdir(nearest):
        nearest = os.path.dirname(nearest)
    space = os.statvfs(nearest)
    return {
        "path": path,
        "exists": nearest == path,
        "filesystem": run(["stat", "--file-system", "--format=%T", nearest]).stdout.strip(),
        "reflink": _shares(nearest),
        "free_bytes": space.f_bavail * space.f_frsize,
        "total_bytes": space.f_blocks * space.f_frsize,
    }


def _shares(folder: str) -> bool:
    try:
        return reflink_works(folder)
    except ResilientVmError:
        # Full: it could not be tried, and how much is free says so.
        return True


def mover_version(run: Runner) -> str | None:
    """What the installed mover calls itself, or None."""
    if not os.access(_units.MOVER, os.X_OK):
        return None
    return run([_units.MOVER, "version"]).stdout.strip()


def missing_accounts(layouts: Sequence[Layout]) -> list[str]:
    """Customers whose account is not on this machine."""
    missing = set()
    for layout in layouts:
        try:
            pwd.getpwnam(layout.account)
        except KeyError:
            missing.add(layout.customer)
    return sorted(missing)


def libvirt_of(run: Runner) -> dict[str, str] | None:
    """Versions, or None on a machine without libvirt."""
    if shutil.which("virsh") is None:
        return None
    libvirt, qemu = _virsh.Virsh(run).versions()
    return {"version": libvirt, "qemu_version": qemu}


def states_of(layouts: Sequence[Layout]) -> dict[str, Any]:
    """Each VM's state document, or None. Raises ResilientVmError for one that is not whole."""
    found: dict[str, Any] = {}
    for layout in layouts:
        found[layout.name] = read_json(layout.state)
        if found[layout.name] is not None:
            State.from_json(found[layout.name], layout.state)
    return found


def stops_of(layouts: Sequence[Layout]) -> dict[str, Any]:
    """When this host last stopped each VM because it lives elsewhere, or because nobody answered; or None."""
    found: dict[str, Any] = {}
    for layout in layouts:
        said = _journal.last(layout.journal, "stop")
        found[layout.name] = said and {name: said[name] for name in ("when", "why", "epoch")}
    return found


def newest_of(layouts: Sequence[Layout]) -> dict[str, Any]:
    """What a takeover wants to know of the newest whole image stored here of each VM, or None."""
    found: dict[str, Any] = {}
    for layout in layouts:
        image = Store(layout).newest()
        manifest = image.manifest if image else None
        found[layout.name] = manifest and {
            "id": manifest.id,
            "instant": manifest.instant,
            "epoch": manifest.epoch,
            "complete": True,
        }
    return found


def kept_of(layouts: Sequence[Layout]) -> dict[str, list[dict[str, Any]]]:
    """What is kept aside of each VM's earlier disks."""
    return {layout.name: _kept.kept(layout) for layout in layouts}


def domains_of(wanted: Mapping[str, tuple[Layout, str]], run: Runner) -> dict[str, Any]:
    """What libvirt knows of each VM; ``wanted`` is {customer/vm: (layout, domain)}."""
    virsh = _virsh.Virsh(run)
    uuids = virsh.domains()
    autostarted = virsh.autostarted()
    found: dict[str, Any] = {}
    for name, (layout, domain) in wanted.items():
        uuid = uuids.get(domain)
        if uuid is None:
            found[name] = {"exists": False}
        else:
            found[name] = _described(layout, virsh.facts(uuid), uuid in autostarted)
    return found


def _described(layout: Layout, facts: _virsh.Facts, autostart: bool) -> dict[str, Any]:
    selection = _domain.select(facts.domain, ())
    job = None
    if facts.job is not None:
        job = "ours" if facts.job.within(layout.run) else "foreign"
    document = read_json(layout.snapshot)
    opened = None
    if document is not None:
        opened = {"id": document["id"], "valid": open_document(layout, facts.job) is not None}
    elif os.path.isdir(layout.run):
        opened = {"id": None, "valid": False}  # what the watch, or a crash, left of one
    return {
        "exists": True,
        "uuid": facts.domain.uuid,
        "state": facts.state,
        "autostart": autostart,
        "disks": [
            {
                "target": disk.target,
                "path": disk.source,
                "format": disk.format,
                "size_bytes": facts.sizes.get(disk.target, (None, None))[0],
                "allocated_bytes": facts.sizes.get(disk.target, (None, None))[1],
            }
            for disk in selection.taken
        ],
        "skipped": list(selection.skipped),
        "refused": list(selection.refused),
        "guest_agent": facts.domain.agent_connected,
        "backup_job": job,
        "own_checkpoints": list(facts.own_checkpoints),
        "foreign_checkpoints": list(facts.foreign_checkpoints),
        "open_snapshot": opened,
    }


def layouts_of(vms: Sequence[Mapping[str, Any]], root: str) -> dict[str, tuple[Layout, str]]:
    """{customer/vm: (layout, domain)} of a module's list of VMs. Raises for one that is named twice."""
    named: dict[str, tuple[Layout, str]] = {}
    for vm in vms:
        layout = Layout(vm["customer"], vm["vm"], root)
        if layout.name in named:
            raise ResilientVmError(f"VM {layout.name} is named twice; name it once")
        named[layout.name] = (layout, vm.get("domain") or vm["vm"])
    return named
