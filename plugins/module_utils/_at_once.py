# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image made a new machine on a host that runs at once: its disks lack what the backup storage still lends.

Each disk is a qcow2 file of this host over a socket. The machine starts on them, a unit has QEMU pull what is missing
behind it, and ends when nothing is: then it is a machine like any other.
"""

from __future__ import annotations

import os
import shutil
import socket
import tarfile
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Callable

from . import _borrow, _clock, _definition, _units
from ._beside import Found, Twin, new_mac, note_defined
from ._beside_xml import beside, borrowing
from ._borrow import DEFINITION
from ._errors import ResilientVmError
from ._files import fsync_directory, fsync_tree, read_json, write_json
from ._layout import Layout
from ._lend import ARRIVE_SECONDS
from ._process import Runner
from ._pull import arrived
from ._qemu import qemu_user
from ._restored_files import RECORD, Wish, work_folder
from ._snapshot import WATCH_PROPERTIES
from ._store import file_sha256
from ._virsh import Virsh

__all__ = ["Progress", "decline", "examine", "give_up_others", "make", "progress", "refuse_second"]

_LOOK_SECONDS = 0.02
_MAX_FILE = 64 << 20


def unit(layout: Layout) -> str:
    """The unit on this host that sees to it that everything comes."""
    return layout.unit("stream")


@dataclass(frozen=True)
class Progress:
    """How far it is: ``arrived`` when nothing is lent any more; ``attended`` while the unit sees to the rest."""

    arrived: bool = False
    attended: bool = False
    done_bytes: int = 0
    total_bytes: int = 0


def progress(layout: Layout, wish: Wish, found: Found, run: Runner) -> Progress:
    record = read_json(os.path.join(wish.path, RECORD)) or {}
    if found.uuid is None:
        return Progress()
    if not record.get("borrows"):
        return Progress(arrived=True)
    done, total = arrived(Virsh(run), found.uuid, wish.disks) if found.running else (0, 0)
    return Progress(False, _units.active(run, unit(layout)), done, total)


def examine(layout: Layout, wish: Wish) -> None:
    """Refuse what can't be, before anything is touched."""
    qemu_user()
    _borrow.check_names(layout, _channels(wish))
    refuse_second(layout, os.path.basename(wish.path), wish.image_id)


def give_up_others(layout: Layout, name: str) -> None:
    """End what a killed run has borrowed for another machine that it had not made. Under the lock of a maker."""
    loan = _borrow.begun(layout)
    if loan is not None and loan["name"] != name and not os.path.lexists(os.path.join(layout.restored, loan["name"])):
        _borrow.settle(layout, loan)


def refuse_second(layout: Layout, name: str, image_id: str | None = None) -> None:
    """Refuse another machine than the one that is being made here; with an image's id, another image for it, too."""
    loan = _borrow.begun(layout)
    if loan is not None and (loan["name"], loan["image"]) != (name, image_id or loan["image"]):
        raise ResilientVmError(
            f"{loan['name']} is being made of image {loan['image']} of {layout.name} here, and a VM has one restore at "
            "once at a time; wait for it, ask for that one again when it was cut off, or restore with "
            "resilient_vm_restore_mode=copy"
        )


def _channels(wish: Wish) -> list[str]:
    return [DEFINITION, *(disk["target"] for disk in wish.disks)]


def _loan(wish: Wish) -> dict[str, Any]:
    name = os.path.basename(wish.path)
    return {"image": wish.image_id, "name": name, "channels": _channels(wish), "over": False}


def decline(layout: Layout, wish: Wish) -> None:
    """What is lent already is not wanted here: have whoever lends it hear that."""
    loan = _loan(wish)
    _borrow.prepare(layout, loan, 0)
    _borrow.settle(layout, loan)


def make(
    layout: Layout,
    wish: Wish,
    twin: Twin,
    found: Found,
    rate: int,
    run: Runner,
    swtpm: str = _definition.SWTPM,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Do what is not done yet, until it runs and the rest is on its way; the machine's UUID."""
    targets = [disk["target"] for disk in wish.disks]
    loan = _loan(wish)
    _borrow.prepare(layout, loan, qemu_user()[0])
    sockets = {name: _borrow.socket_of(layout, name) for name in loan["channels"]}
    identity = found.uuid or str(uuid.uuid4())
    if found.uuid is None:
        note = {"name": twin.name, "uuid": identity, "defined": False, "borrows": targets, "rate": rate}
        try:
            _await(sockets.values(), layout, sleep)
            os.makedirs(layout.restored, 0o711, exist_ok=True)
            os.chmod(layout.restored, 0o711)
            _lay(layout, wish, note, run)
        except BaseException:
            # There is no machine to lend anything to.
            _borrow.settle(layout, loan)
            raise
    # From here on it sees when its owner gives the machine up, too.
    if not _units.active(run, unit(layout)):
        _units.start(run, unit(layout), [_units.MOVER, "stream", layout.name], WATCH_PROPERTIES)
    virsh = Virsh(run)
    if not found.defined:
        _definition.unpack_tpm(os.path.join(wish.path, _definition.TPM), identity, swtpm)
        with open(os.path.join(wish.path, _definition.XML), encoding="utf-8") as stream:
            xml = stream.read()
        disks = {target: wish.file(target) for target in targets}
        made = beside(xml, twin.name, identity, wish.path, disks, wish.format, twin.networks, new_mac)
        own = {target: sockets[target] for target in targets}
        virsh.define_text(borrowing(made, own), wish.path)
    note_defined(wish.path)
    if not found.running:
        _await([sockets[target] for target in targets], layout, sleep)
        virsh.start(identity)
    return identity


def _await(sockets: Iterable[str], layout: Layout, sleep: Callable[[float], None]) -> None:
    left = ARRIVE_SECONDS
    while missing := [path for path in sockets if not os.path.exists(path)]:
        if left <= 0:
            raise ResilientVmError(
                f"the backup storage has not begun to lend the image of {layout.name} to this host within "
                f"{ARRIVE_SECONDS:g} s ({missing[0]} is not there); look there at systemctl status "
                f"{layout.unit('lend')}, and run again"
            )
        sleep(_LOOK_SECONDS)
        left -= _LOOK_SECONDS


def _lay(layout: Layout, wish: Wish, note: Mapping[str, Any], run: Runner) -> None:
    """The folder with what there is to begin with; it gets its name at the end."""
    parent, work = os.path.dirname(wish.path), work_folder(wish.path)
    if os.path.lexists(work):
        shutil.rmtree(work)
    os.mkdir(work, 0o700)
    try:
        _fetch_definition(_borrow.socket_of(layout, DEFINITION), work, wish)
        for disk in wish.disks:
            # Written down in the file, too: started by anybody without what it lacks it fails, and reads no zeros.
            lender = f"nbd+unix:///{disk['target']}?socket={_borrow.socket_of(layout, disk['target'])}"
            file = os.path.join(work, wish.file(disk["target"]))
            made = ["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", lender]
            run([*made, "--", file, str(disk["size_bytes"])])
            os.chmod(file, 0o600)
        record = {
            "schema": 1,
            "customer": layout.customer,
            "vm": layout.vm,
            "image": wish.image_id,
            "format": wish.format,
            "restored": _clock.iso(_clock.now(None)),
            "disks": [{"target": disk["target"], "file": wish.file(disk["target"])} for disk in wish.disks],
            **note,
        }
        write_json(os.path.join(work, RECORD), record, 0o600)
        os.chmod(work, 0o711)
        fsync_tree(work)
        os.rename(work, wish.path)
        fsync_directory(parent)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _fetch_definition(path: str, work: str, wish: Wish) -> None:
    """The files of the definition, each as the backup storage's manifest has it."""
    wanted = {entry["name"]: entry["sha256"] for entry in wish.definition}
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(ARRIVE_SECONDS)
        try:
            link.connect(path)
            with link.makefile("rb") as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    content = archive.extractfile(member)
                    if member.name not in wanted or content is None or member.size > _MAX_FILE:
                        raise ResilientVmError(f"the backup storage lends {member.name!r}, which nobody asked for")
                    target = os.path.join(work, member.name)
                    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                        shutil.copyfileobj(content, file)
        except (OSError, tarfile.TarError) as error:
            raise ResilientVmError(
                f"the definition of image {wish.image_id} did not come ({error}); run again"
            ) from error
    for name, digest in wanted.items():
        target = os.path.join(work, name)
        if not os.path.exists(target) or file_sha256(target) != digest:
            raise ResilientVmError(f"{name} of image {wish.image_id} is not what the manifest names; run again")
