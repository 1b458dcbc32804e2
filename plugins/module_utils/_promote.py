# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host does that takes a VM over: it says so, makes disks of a generation, and starts the machine.

Every step may be repeated after a run that was cut off anywhere. How long it takes doesn't depend on the disks' sizes.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid as uuids
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Callable
from xml.etree import ElementTree

from . import _address, _clock, _definition, _drill, _look, _standby_xml
from ._change import held, refuse_asked, undisturbed
from ._domain import STOPPED, refuse_saved
from ._errors import ResilientVmError
from ._files import clone_descriptor, fsync_directory, fsync_tree, moment, read_json, write_json
from ._gate import Gate
from ._held import current_id
from ._layout import Layout
from ._process import Runner
from ._restored_files import copy_data, open_source
from ._standby import define, definition_of
from ._store import Store, StoredImage, file_sha256
from ._virsh import Virsh

__all__ = ["Promotion", "intend", "withdraw"]

RECORD = "promoted.json"
_PING = '{"execute": "guest-ping"}'


def intend(layout: Layout, epoch: int, now: datetime, dry: bool = False, unasked_since: datetime | None = None) -> bool:
    """Say, on the host, that it is about to take the VM over: from then on it confirms nothing to the other host.

    Returns whether it had not been said yet. Raises ResilientVmError when that one has asked since it was looked for.
    """
    state = held(layout)
    if state.epoch >= epoch:
        return False
    if state.epoch + 1 != epoch:
        raise ResilientVmError(
            f"this host holds epoch {state.epoch} of {layout.name} and is to take it over at epoch {epoch}: it has "
            "missed a change; run the site playbook"
        )
    with undisturbed(layout) if unasked_since is not None else ExitStack():
        if unasked_since is not None:
            refuse_asked(layout, state, unasked_since)
        if (read_json(layout.intent) or {}).get("epoch") == epoch:
            return False
        if not dry:
            folder = os.stat(layout.directory)
            said = {"epoch": epoch, "when": _clock.iso(now)}
            write_json(layout.intent, said, 0o640, (folder.st_uid, folder.st_gid))
    return True


def withdraw(layout: Layout, epoch: int, dry: bool = False) -> bool:
    """Take that back; whether there was anything of this epoch to take back.

    Only for who knows that nobody can take the VM over by it any more: the backup storage has just been asked for a new
    nonce at the epoch before (``_change.ask``), or is at this epoch already.
    """
    there = (read_json(layout.intent) or {}).get("epoch") == epoch
    if there and not dry:
        os.unlink(layout.intent)
        fsync_directory(layout.directory)
    return there


@dataclass(frozen=True)
class Promotion:
    """A VM's machine on the host that takes it over at ``epoch``."""

    layout: Layout
    domain: str
    epoch: int
    networks: Mapping[str, str]
    run: Runner
    gate: Gate
    # In this collection's words, of this host.
    host: str
    # Of the guest, which nobody else may have when it starts; whether it is started there all the same.
    guest_address: str | None = None
    despite: bool = False
    # Id of the generation that is started; the current one when not set.
    point: str | None = None
    swtpm: str = _definition.SWTPM
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    seconds: dict[str, float] = field(default_factory=dict)
    # What went wrong without stopping anything.
    warnings: list[str] = field(default_factory=list)

    def examine(self) -> dict[str, Any] | None:
        """What an earlier run of this takeover has made, or None. Refuses what can't be, touching nothing."""
        state = held(self.layout)
        if (state.active, state.epoch) != (self.host, self.epoch):
            raise ResilientVmError(
                f"{self.host} may not run {self.layout.name}: the active host is {state.active} since epoch "
                f"{state.epoch}; run failover again"
            )
        record = read_json(os.path.join(self.layout.running, RECORD))
        if os.path.lexists(self.layout.running) and (record or {}).get("epoch") != self.epoch:
            self._refuse_lived_on(record or {})
            raise ResilientVmError(
                f"{self.layout.running} holds disks of an earlier time; move it aside (nothing of it is used), and run "
                "failover again"
            )
        return dict(record) if record else None

    def _refuse_lived_on(self, record: Mapping[str, Any]) -> None:
        """A machine that has its disks there may have lived on them ever since, at a newer epoch that nobody had to
        take: `resolve` raises it where the machine stays."""
        uuid, virsh = record.get("uuid"), Virsh(self.run)
        if not uuid or not virsh.state(uuid)[0] or f"{self.layout.running}/" not in virsh.inactive_xml(uuid):
            return
        raise ResilientVmError(
            f"{self.layout.name} has disks on {self.host} that it was given at epoch {record['epoch']} "
            f"({self.layout.running}), and is not started from a generation beside them; if it lived on them since, "
            f"run the daily playbook and start it with: virsh start {self.domain}; only if they are known to be of no "
            "use, move them aside and run failover again"
        )

    def carry_out(self) -> dict[str, Any]:
        """Disks, definition, gate, start; what was made, by its record."""
        if os.path.isdir(self.layout.drill):
            # At once: it takes memory that the machine itself needs now.
            with self._timed("drill"):
                _drill.end(self.layout, self.run, self.swtpm)
        with self._timed("disks"), moment(self.layout.lock, "failover", self.sleep):
            record = self.examine()
            if record is None:
                record = self._lay()
        virsh = Virsh(self.run)
        if virsh.state(record["uuid"])[0] == "running":
            return record
        with self._timed("definition"):
            self._define(virsh, record["uuid"])
        with self._timed("gate"):
            self.gate.open(self.layout.name)
        if self.guest_address:
            with self._timed("address"):
                self._see_that_it_is_free(virsh, record["uuid"])
        with self._timed("start"):
            virsh.start(record["uuid"])
            state = virsh.state(record["uuid"])[0]
        if state != "running":
            raise ResilientVmError(f"{self.layout.name} was started on {self.host} and is {state}; see its log there")
        refused = virsh.announce(record["uuid"])
        if refused:
            self.warnings.append(f"its new place could not be announced ({refused}); switches learn it when it speaks")
        return record

    def _see_that_it_is_free(self, virsh: Virsh, uuid: str) -> None:
        """At the last moment: the operator may have had a quarter of an hour since it was looked for."""
        seen = _address.look(self.guest_address or "", uuid, virsh).as_dict()
        problem = _address.objection(self.layout.vm, self.host, seen, self.despite)
        if problem:
            raise ResilientVmError(f"{self.layout.vm} is not started on {self.host}: {problem}")

    def _define(self, virsh: Virsh, uuid: str) -> None:
        with open(os.path.join(self.layout.running, _definition.XML), encoding="utf-8") as stream:
            define(self.layout, virsh, stream.read(), uuid)

    def wait_for_guest(self, uuid: str, patience_seconds: float) -> str:
        """``answers``, ``silent`` or, for a machine without an agent, ``not asked``."""
        virsh = Virsh(self.run)
        root = ElementTree.fromstring(virsh.inactive_xml(uuid))
        if root.find("devices/channel/target[@name='org.qemu.guest_agent.0']") is None:
            return "not asked"
        with self._timed("guest"):
            answers = self._within(
                patience_seconds,
                lambda: virsh.call("qemu-agent-command", uuid, _PING, "--timeout", "5", check=False).code == 0,
            )
        return "answers" if answers else "silent"

    def wait_for_port(self, patience_seconds: float) -> str:
        """The same of the guest's own address, as this host sees it; ``not asked`` where none is known."""
        if not self.guest_address:
            return "not asked"
        host, port = _address.host_and_port(self.guest_address)
        with self._timed("port"):
            answers = self._within(patience_seconds, lambda: _look.accepts(host, port, 2.0))
        return "answers" if answers else "silent"

    def _within(self, patience_seconds: float, true: Callable[[], bool]) -> bool:
        until = self.clock() + patience_seconds
        while not true():
            if self.clock() >= until:
                return False
            self.sleep(0.5)
        return True

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        begin = self.clock()
        yield
        self.seconds[phase] = round(self.clock() - begin, 2)

    def _lay(self) -> dict[str, Any]:
        """Clones of the generation's disks, an overlay on each, what belongs to them; all or nothing."""
        name = self.point or current_id(self.layout)
        if name is None:
            raise ResilientVmError(f"{self.host} holds no generation of {self.layout.name}; nothing can be started")
        image = Store(self.layout, "generations").read(name)
        manifest = image.manifest
        if manifest is None or not image.complete:
            raise ResilientVmError(image.problem or f"generation {name} of {self.layout.name} is damaged")
        own = held(self.layout)
        if own.uuid not in (None, manifest.uuid):
            raise ResilientVmError(
                f"generation {name} of {self.layout.name} is of machine {manifest.uuid}, and this one is {own.uuid}; "
                "erase that generation"
            )
        self._refuse_another_life(manifest.uuid)
        work = self.layout.running + ".new"
        shutil.rmtree(work, ignore_errors=True)
        os.mkdir(work, 0o700)
        for disk in manifest.disks:
            self._lay_disk(image, disk.target, disk.size_bytes, work)
        for entry in manifest.definition:
            if entry.name != _definition.XML:
                self._lay_file(image, entry.name, entry.sha256, work)
        targets = [disk.target for disk in manifest.disks]
        wanted = _standby_xml.mapped(definition_of(image), self.layout.running, targets, self.networks, manifest.uuid)
        with open(os.path.join(work, _definition.XML), "x", encoding="utf-8", opener=_private) as stream:
            stream.write(_renewed(wanted))
        _definition.unpack_tpm(os.path.join(work, _definition.TPM), manifest.uuid, self.swtpm)
        record = {"generation": name, "epoch": self.epoch, "instant": manifest.instant, "uuid": manifest.uuid}
        write_json(os.path.join(work, RECORD), record, 0o600)
        # QEMU's account must get through to the disks, which libvirt hands to it.
        os.chmod(work, 0o711)
        fsync_tree(work)
        os.rename(work, self.layout.running)
        fsync_directory(self.layout.directory)
        return record

    def _refuse_another_life(self, uuid: str) -> None:
        """The machine's TPM and saved state are this host's, whichever disks they belong to."""
        state, reason = Virsh(self.run).state(uuid)
        if state not in ("", *STOPPED):
            raise ResilientVmError(
                f"{self.layout.name} is {state} on {self.host} already, on disks that were not made of a generation; "
                "nothing is started beside it: run the reprotect playbook"
            )
        refuse_saved(self.layout.name, uuid, reason)

    def _lay_disk(self, image: StoredImage, target: str, size_bytes: int, work: str) -> None:
        """The generation stays as it is, for a second try; the overlay counts what changes from the first minute."""
        base = os.path.join(work, f"{target}.base.raw")
        with open_source(image.file(f"{target}.raw")) as source:
            descriptor = os.open(base, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                if not clone_descriptor(source.fileno(), descriptor):
                    # Takes as long as the disk is large; site asks for a filesystem where files share blocks.
                    copy_data(source.fileno(), descriptor, size_bytes)
            finally:
                os.close(descriptor)
        overlay = os.path.join(work, f"{target}.qcow2")
        # Named as it lies beside the overlay: the folder is renamed.
        words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", os.path.basename(base), overlay]
        self.run(words, timeout_seconds=60.0)
        os.chmod(overlay, 0o600)

    def _lay_file(self, image: StoredImage, name: str, sha256: str, work: str) -> None:
        target = os.path.join(work, name)
        with open_source(image.file(name)) as source, open(target, "xb", opener=_private) as stream:
            shutil.copyfileobj(source, stream)
        if file_sha256(target) != sha256:
            raise ResilientVmError(f"{image.file(name)} is not what its manifest names; the generation is damaged")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _renewed(xml: str) -> str:
    """The same machine with another generation id, where it has one: the guest learns that its past was replayed."""
    root = ElementTree.fromstring(xml)
    genid = root.find("genid")
    if genid is None:
        return xml
    genid.text = str(uuids.uuid4())
    return _standby_xml.text(root)
