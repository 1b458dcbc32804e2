# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The standby host's part: which generation is current, the machine defined on it, older generations erased."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import _definition, _standby_xml, _units, _virsh
from ._domain import STOPPED, refuse_saved
from ._errors import ResilientVmError
from ._files import fsync_directory, locked, read_json, write_json
from ._held import current_id
from ._layout import Layout
from ._process import Runner
from ._state import State
from ._store import Store, StoredImage, file_sha256

__all__ = [
    "Plan",
    "Wish",
    "apply",
    "define",
    "definition_of",
    "plan_absent",
    "plan_present",
]


@dataclass(frozen=True)
class Wish:
    """What vm_standby was asked for."""

    domain: str
    uuid: str | None
    image_id: str
    epoch: int
    keep_generations: int = 1
    networks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What is to be done. ``before`` and ``after`` are for people; the rest is what ``apply`` does."""

    before: dict[str, Any]
    after: dict[str, Any]
    switch: str | None = None
    undefine: tuple[str, ...] = ()
    define: str | None = None
    uuid: str | None = None
    calm: str | None = None
    erase: tuple[str, ...] = ()
    forget: bool = False

    @property
    def changes(self) -> bool:
        return bool(self.switch or self.undefine or self.define or self.calm or self.erase or self.forget)


def _record_file(layout: Layout) -> str:
    """What was defined last, and how libvirt wrote it back.

    Asking libvirt whether a definition differs is not possible by comparing: it fills in defaults of its version.
    """
    return os.path.join(layout.directory, "standby.json")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def plan_present(layout: Layout, run: Runner, wish: Wish, installed: str = _units.INSTALLED) -> Plan:
    """Decide everything and refuse what can't be, without touching anything."""
    store = Store(layout, "generations")
    image = store.read(wish.image_id)
    if not os.path.isdir(image.path):
        raise ResilientVmError(f"generation {wish.image_id} of {layout.name} is not on this host; copy it here first")
    manifest = image.manifest
    if manifest is None or not image.complete:
        raise ResilientVmError(image.problem or f"generation {wish.image_id} of {layout.name} is damaged; copy it anew")
    uuid = wish.uuid or manifest.uuid
    if manifest.uuid != uuid or manifest.epoch != wish.epoch:
        raise ResilientVmError(
            f"generation {wish.image_id} of {layout.name} is of UUID {manifest.uuid}, epoch {manifest.epoch}, not of "
            f"{uuid}, epoch {wish.epoch}; take a new image"
        )
    _refuse_on_active_host(layout, installed)
    virsh = _virsh.Virsh(run)
    other = _refuse_other_machine(virsh, layout, wish.domain, uuid)
    wanted = _standby_xml.mapped(
        definition_of(image),
        layout.running,
        [disk.target for disk in manifest.disks],
        wish.networks,
        uuid,
        wish.domain,
    )
    present = wish.domain in virsh.domains()
    found = virsh.inactive_xml(uuid) if present else ""
    record = {"uuid": uuid, "wanted": _sha256(wanted), "defined": _sha256(found)}
    define = None if present and read_json(_record_file(layout)) == record else wanted
    # A start with the host would run the machine twice.
    autostarts = present and uuid in virsh.autostarted()
    now = current_id(layout)
    images = store.images()
    erase = _superseded(images, image, wish.keep_generations)
    ids = [each.id for each in images]
    return Plan(
        before=_told(now, ids, _standby_xml.readable(found), autostarts),
        after=_told(
            wish.image_id,
            [name for name in ids if name not in erase],
            _standby_xml.readable(wanted if define else found),
            False,
        ),
        switch=wish.image_id if now != wish.image_id else None,
        undefine=(uuid,) if other else (),
        define=define,
        uuid=uuid,
        calm=uuid if autostarts else None,
        erase=erase,
    )


def plan_absent(layout: Layout, run: Runner, domain: str, uuid: str | None, installed: str = _units.INSTALLED) -> Plan:
    """Decide what to take away of a VM that this host shall no longer stand by for."""
    _refuse_on_active_host(layout, installed)
    virsh = _virsh.Virsh(run)
    found = virsh.domains().get(domain)
    record = read_json(_record_file(layout))
    known = uuid or (record or {}).get("uuid")
    # A machine of that name that this collection never defined is somebody else's.
    ours = found is not None and found == known
    if ours and found is not None:
        _refuse_running(virsh, layout, domain, found)
    images = Store(layout, "generations").images()
    _refuse_read(layout, images)
    ids = [image.id for image in images]
    now = current_id(layout)
    xml = _standby_xml.readable(virsh.inactive_xml(found)) if ours and found else ""
    return Plan(
        before=_told(now, ids, xml, ours and found in virsh.autostarted()),
        after=_told(None, [], "", False),
        undefine=(found,) if ours and found is not None else (),
        erase=tuple(ids),
        forget=now is not None or record is not None,
    )


def _told(current: str | None, generations: list[str], xml: str, autostart: bool) -> dict[str, Any]:
    return {"current": current, "generations": generations, "domain": xml, "autostart": autostart}


def _refuse_on_active_host(layout: Layout, installed: str) -> None:
    document = read_json(layout.state)
    name = (read_json(installed) or {}).get("host")
    if document is None or name is None:
        raise ResilientVmError(f"this host knows nothing of {layout.name}; run the site playbook")
    state = State.from_json(document, layout.state)
    if state.active == name:
        raise ResilientVmError(
            f"{name} is the active host of {layout.name} (epoch {state.epoch}): its machine is no standby; "
            "run the daily playbook with the whole inventory"
        )


def _refuse_other_machine(virsh: _virsh.Virsh, layout: Layout, domain: str, uuid: str) -> bool:
    """Whether the same machine is defined under an older name. Refuses a machine that is another, or runs."""
    names = virsh.domains()
    if names.get(domain, uuid) != uuid:
        raise ResilientVmError(
            f"this host has a domain {domain} with UUID {names[domain]}, another machine than {layout.name} ({uuid}); "
            "rename that one, or set resilient_vm_domain",
            uuid=names[domain],
        )
    if uuid not in names.values():
        return False
    refuse_saved(layout.name, uuid, _refuse_running(virsh, layout, domain, uuid))
    return domain not in names


def _refuse_running(virsh: _virsh.Virsh, layout: Layout, domain: str, uuid: str) -> str:
    """Why it is off, in libvirt's word."""
    state, reason = virsh.state(uuid)
    if state not in STOPPED:
        raise ResilientVmError(
            f"domain {domain} of {layout.name} is {state} on this host, which only stands by for it; shut it down, or "
            "find out which of the two is the right one",
            state=state,
        )
    return reason


def _refuse_read(layout: Layout, images: list[StoredImage]) -> None:
    for image in images:
        if image.reading or image.pinned_by:
            raise ResilientVmError(f"generation {image.id} of {layout.name} is being read; run again when that is over")


def definition_of(image: StoredImage) -> str:
    """The image's domain.xml, which is what its manifest says."""
    manifest = image.manifest
    entry = next((item for item in manifest.definition if item.name == _definition.XML), None) if manifest else None
    path = image.file(_definition.XML)
    if entry is None or not os.path.exists(path) or file_sha256(path) != entry.sha256:
        raise ResilientVmError(
            f"{path} is not what its manifest names; erase this generation and copy it anew", path=path
        )
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def _superseded(images: list[StoredImage], wanted: StoredImage, keep: int) -> tuple[str, ...]:
    """Generations before the wanted one, but for the newest ``keep`` complete ones (it is one of them).

    One without a usable manifest is left for a person: its problem is told.
    """
    kept = {image.id for image in [image for image in images if image.complete][-max(keep, 1) :]}
    order = {image.id: (image.manifest.epoch, image.id) for image in images if image.manifest is not None}
    return tuple(
        image.id
        for image in images
        if image.id in order
        and order[image.id] < order[wanted.id]
        and image.id not in kept
        and not (image.reading or image.pinned_by)
    )


def apply(layout: Layout, run: Runner, plan: Plan) -> None:
    """Do what the plan says. The machine is never without a complete current generation in between."""
    if not plan.changes:
        return
    virsh = _virsh.Virsh(run)
    store = Store(layout, "generations")
    with locked(layout.lock, "vm_standby"):
        if plan.switch:
            _switch(layout, plan.switch)
        for uuid in plan.undefine:
            virsh.undefine(uuid)
        if plan.define and plan.uuid:
            define(layout, virsh, plan.define, plan.uuid)
        if plan.calm:
            virsh.disable_autostart(plan.calm)
        if plan.forget:
            for path in (layout.current, _record_file(layout)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        store.finish_erasing()
        for image_id in plan.erase:
            store.erase(image_id)


def _switch(layout: Layout, image_id: str) -> None:
    """``current`` names the old generation or the new one at every instant."""
    new = layout.current + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    os.symlink(os.path.join("generations", image_id), new)
    os.rename(new, layout.current)
    fsync_directory(layout.directory)


def define(layout: Layout, virsh: _virsh.Virsh, xml: str, uuid: str) -> None:
    """Define the machine, and remember what was wanted and what libvirt made of it."""
    file = os.path.join(layout.directory, ".domain.xml")
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(xml)
        virsh.define(file)
    finally:
        os.unlink(file)
    defined = _sha256(virsh.inactive_xml(uuid))
    write_json(_record_file(layout), {"uuid": uuid, "wanted": _sha256(xml), "defined": defined})
