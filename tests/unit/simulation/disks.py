# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The data's part of product.py: what machines hold of the VM, images made, published, made current, put aside, erased.

Copying blocks is the mover's business and tested elsewhere; here a copy is one small file, published by the product.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unit.simulation.product import UUID, VERSION, Failed

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _aside, _clock, _held, _prune, _standby
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._change import held
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import locked, read_json
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._manifest import Definition, Disk, Manifest
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store

if TYPE_CHECKING:
    from unit.simulation.machine import Machine

__all__ = ["Copy", "current", "facts", "generations", "images", "images_facts", "make_current", "open_snapshot"]
SIZE = 2048


@dataclass(frozen=True)
class Copy:
    """An image on its way."""

    id: str
    epoch: int
    content: bytes
    xml: str
    consistency: str
    source: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def facts(machine: Machine, control: str) -> dict[str, Any]:
    """What M(host_info) answers there."""
    domain: dict[str, Any] | None = None
    if machine.name != "c":
        found = machine.domains.get(UUID)
        domain = {"exists": False}
        if found is not None:
            # libvirt tells no size of a file that is not there.
            size = SIZE if os.path.exists(found.disk) else None
            disks = [{"target": "vda", "path": found.disk, "size_bytes": size}]
            domain = {"exists": True, "uuid": UUID, "state": found.state, "disks": disks, "refused": []}
    return {
        "answered": True,
        "between": [control, control],
        "clock": _clock.iso(machine.now()),
        "version": VERSION,
        "account_missing": [],
        "root": {"path": "/", "exists": True, "filesystem": "xfs", "reflink": True, "free_bytes": 1 << 40},
        "domain": domain,
        "state": read_json(machine.layout.state),
    }


def standby_facts(machine: Machine) -> dict[str, Any]:
    return {"answered": True, "unfit": [], **_held.information(machine.layout, machine.run, "erp")}


def images_facts(machine: Machine) -> dict[str, Any]:
    found = Store(machine.layout).images()
    complete = [image for image in found if image.complete]
    return {
        "answered": True,
        "laid_out": True,
        "images": [image.summary() for image in found],
        "newest": complete[-1].summary() if complete else None,
        "transfers": [],
        "last_transfers": {},
        "problems": [image.problem for image in found if image.problem],
    }


def open_snapshot(machine: Machine, epoch: int, newest_id: str | None) -> Copy:
    domain = machine.domains.get(UUID)
    if domain is None:
        raise Failed("domain erp is not there")
    if not os.path.exists(domain.disk):
        raise Failed(f"disk vda of domain erp can't be read: {domain.disk} is not there")
    name = _clock.image_id(machine.now())
    if newest_id is not None and name <= newest_id:
        raise Failed(f"the clock of this host is behind: image {newest_id} exists, and this one would be {name}")
    state = "crash" if domain.state == "running" else "offline"
    return Copy(name, epoch, Path(domain.disk).read_bytes(), domain.xml, state, machine.name)


def stored(machine: Machine, image_id: str) -> Copy:
    """An image of the backup storage, to be copied on."""
    image = Store(machine.layout).read(image_id)
    if image.manifest is None or not image.complete:
        raise Failed(f"image {image_id} is not whole")
    xml = Path(image.file("domain.xml")).read_text(encoding="utf-8")
    content = Path(image.file("vda.raw")).read_bytes()
    return Copy(image_id, image.manifest.epoch, content, xml, image.manifest.consistency, image.manifest.source_host)


def refuse_when_active(machine: Machine) -> None:
    if held(machine.layout).active == machine.name:
        raise Failed(f"{machine.name} is the active host of acme/erp and takes no image; run the daily playbook")


def publish(machine: Machine, copy: Copy) -> None:
    """The end of a transfer: what was received becomes an image, or a generation."""
    store = Store(machine.layout, "images" if machine.name == "c" else "generations")
    if store.read(copy.id).complete:
        return
    work = os.path.join(machine.layout.incoming, copy.id)
    for name in os.listdir(machine.layout.incoming):
        shutil.rmtree(os.path.join(machine.layout.incoming, name))
    os.mkdir(work)
    Path(work, "vda.raw").write_bytes(copy.content)
    Path(work, "vda.digests").write_bytes(b"")
    Path(work, "domain.xml").write_text(copy.xml, encoding="utf-8")
    manifest = Manifest(
        id=copy.id,
        instant=_clock.iso(_clock.instant(copy.id)),
        customer="acme",
        vm="erp",
        domain="erp",
        uuid=UUID,
        epoch=copy.epoch,
        consistency=copy.consistency,
        source_host=copy.source,
        disks=[Disk("vda", SIZE, copy.digest, "digests")],
        definition=[Definition("domain.xml", len(copy.xml), hashlib.sha256(copy.xml.encode()).hexdigest())],
    )
    with locked(machine.layout.lock, "publishing"):
        store.publish(work, manifest)


def make_current(machine: Machine, image_id: str, epoch: int) -> None:
    wish = _standby.Wish("erp", UUID, image_id, epoch)
    plan = _standby.plan_present(machine.layout, machine.run, wish, str(machine.root / "version.json"))
    _standby.apply(machine.layout, machine.run, plan)


def put_aside(machine: Machine, epoch: int, image_id: str) -> bool:
    wish = _aside.Wish(machine.name, UUID, epoch, image_id, [{"target": "vda", "size_bytes": SIZE}])
    record = _aside.examine(machine.layout, wish, machine.now(), machine.run)
    if record is None:
        return False
    _aside.put_aside(machine.layout, wish, record, machine.run, str(machine.root / "swtpm"))
    return True


def prune(machine: Machine, newest_id: str | None, standby_generation: str | None) -> list[str]:
    wish = _prune.Wish(3, 2, newest_id=newest_id, standby_generation=standby_generation)
    return [verdict.image.id for verdict in _prune.prune(machine.layout, wish) if verdict.erase]


# for who checks


def images(machine: Machine) -> dict[str, int]:
    """{id: epoch} of what C holds."""
    return {image.id: image.manifest.epoch for image in Store(machine.layout).images() if image.manifest}


def generations(machine: Machine) -> dict[str, int]:
    """{id: epoch} of the whole generations of a host."""
    found = Store(machine.layout, "generations").images()
    return {image.id: image.manifest.epoch for image in found if image.manifest and image.complete}


def current(machine: Machine) -> str | None:
    return _held.current_id(machine.layout)
