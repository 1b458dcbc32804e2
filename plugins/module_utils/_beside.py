# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image made a new machine on a host, beside the protected VM, which it never touches."""

from __future__ import annotations

import os
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from . import _definition
from ._beside_xml import beside
from ._errors import ResilientVmError
from ._files import read_json, write_json
from ._layout import Layout
from ._process import Runner
from ._restored_files import RECORD, Wish, check_room, lay
from ._virsh import Virsh

__all__ = ["Found", "Twin", "examine", "make", "new_mac", "note_defined"]

_RUNNING = ("running", "paused")


@dataclass(frozen=True)
class Twin:
    """What vm_restore was asked for beside the files."""

    name: str
    networks: Mapping[str, str] = field(default_factory=dict)
    start: bool = False


@dataclass(frozen=True)
class Found:
    """What is there of it: ``uuid`` once its disks are laid, and whether it is defined, and runs."""

    uuid: str | None = None
    defined: bool = False
    running: bool = False

    @property
    def state(self) -> str:
        if not self.defined:
            return "absent" if self.uuid is None else "not defined yet"
        return "running" if self.running else "shut off"


def examine(layout: Layout, wish: Wish, twin: Twin, run: Runner) -> Found:
    """What an earlier run has done already. Refuses what can't be, before anything is touched."""
    virsh = Virsh(run)
    known = virsh.domains().get(twin.name)
    record = read_json(os.path.join(wish.path, RECORD)) or {}
    if known is not None and (known, wish.image_id, wish.format) != tuple(
        record.get(key) for key in ("uuid", "image", "format")
    ):
        what = f"of image {record['image']}" if record.get("uuid") == known else "another machine"
        raise ResilientVmError(
            f"this host has a VM {twin.name} already, {what}; choose another resilient_vm_restore_name", uuid=known
        )
    if known is not None:
        return Found(known, True, virsh.state(known)[0] in _RUNNING)
    if os.path.lexists(wish.path):
        if record.get("defined") is not False or (record["image"], record["format"]) != (wish.image_id, wish.format):
            raise ResilientVmError(
                f"{wish.path} holds disks of a VM that is no longer defined; remove that folder, or choose another "
                "resilient_vm_restore_name"
            )
        # Laid by a run that was killed before it could define the machine.
        return Found(record["uuid"])
    check_room(layout, wish, layout.directory)
    return Found()


def make(layout: Layout, wish: Wish, twin: Twin, found: Found, run: Runner, swtpm: str = _definition.SWTPM) -> str:
    """Do what is not done yet; the machine's UUID."""
    identity = found.uuid or str(uuid.uuid4())
    virsh = Virsh(run)
    if found.uuid is None:
        os.makedirs(layout.restored, 0o711, exist_ok=True)
        os.chmod(layout.restored, 0o711)
        # QEMU's account must get through to the disks, which libvirt hands to it.
        lay(layout, wish, run, mode=0o711, note={"name": twin.name, "uuid": identity, "defined": False})
    if not found.defined:
        _definition.unpack_tpm(os.path.join(wish.path, _definition.TPM), identity, swtpm)
        _define(wish, twin, identity, virsh)
    note_defined(wish.path)
    if twin.start and not found.running:
        virsh.start(identity)
    return identity


def note_defined(folder: str) -> None:
    """Write down that the machine is defined, should a run have been killed right after that."""
    path = os.path.join(folder, RECORD)
    record = read_json(path)
    if not record["defined"]:
        write_json(path, {**record, "defined": True}, 0o600)


def _define(wish: Wish, twin: Twin, identity: str, virsh: Virsh) -> None:
    with open(os.path.join(wish.path, _definition.XML), encoding="utf-8") as stream:
        xml = stream.read()
    disks = {disk["target"]: wish.file(disk["target"]) for disk in wish.disks}
    made = beside(xml, twin.name, identity, wish.path, disks, wish.format, twin.networks, new_mac)
    virsh.define_text(made, wish.path)


def new_mac() -> str:
    """A new address among those of QEMU's machines."""
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))
