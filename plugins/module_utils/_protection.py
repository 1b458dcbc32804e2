# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What protecting a VM lays down on a machine: folders, keys, entries that let keys in, the state document.

Everything here is owned by root up to the folders the data-plane account works in, so root never
writes through a folder that the account could swap for a link.
"""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from . import _drill, _journal, _lend, _step_record
from ._doors import Peer, machine_name, merge_authorized, merge_known_hosts, public_key
from ._errors import ResilientVmError
from ._files import locked, read_json, reflink_works, waited
from ._layout import DEFAULT_RUNTIME, Layout
from ._process import Runner
from ._registry import Entry, Place, Registry
from ._restored_files import work_folder
from ._state import Inventory, State, settle
from ._tree import Tree, read_text
from ._virsh import Virsh

__all__ = ["Machine", "Protection", "Vm"]

PROGRAM = "/usr/local/bin/resilient-vm"
# What a key may ask for: data is the backup storage's to ask of a host; a host asks who is active, and the backup
# storage also to be let take the VM over.
_DATA_VERBS = "send,receive,restore,mend,lend"
_QUESTION_VERBS = "epoch"
_CLAIM_VERBS = "epoch,claim"

# These lie beside the VMs' keys in .ssh, or would be taken for the public half of another VM's key.
_TAKEN_NAMES = ("authorized_keys", "config", "environment", "known_hosts", "rc")
_UNKNOWN_KEY = "(key not made yet)"


def document_text(document: dict[str, Any]) -> str:
    """A document as write_json writes it."""
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


@dataclass(frozen=True)
class Machine:
    """The machine worked on."""

    name: str
    part: str
    root: str
    runtime: str = DEFAULT_RUNTIME
    configuration: str = "/etc/resilient-vm"
    allow_full_copies: bool = False

    @property
    def registry(self) -> Registry:
        return Registry(os.path.join(self.configuration, "gate"), os.path.join(self.runtime, ".gate"))


@dataclass(frozen=True)
class Vm:
    """One VM as this machine should hold it."""

    inventory: Inventory
    layout: Layout
    backup_storage: str
    # By the machine that holds the key; None: the key isn't made yet. No dict at all: don't touch entries.
    keys: dict[str, str | None] | None = None
    others: dict[str, State] = field(default_factory=dict)
    # On whose behalf, for the journal.
    who: str = "site"
    autostart: bool = False
    start_unconfirmed: bool = False
    self_stop_seconds: int = 0
    lost_hosts: tuple[str, ...] = ()
    # What a takeover without the control node has to know; None: don't touch it.
    plan: dict[str, Any] | None = None

    def others_of(self, machine: str) -> list[str]:
        """The machines a host asks about this VM: the backup storage, then the other host."""
        hosts = (self.inventory.production, self.inventory.standby)
        return [self.backup_storage, *(host for host in hosts if host != machine)]

    def entry(self, host: str, uuid: str, peers: dict[str, Peer]) -> Entry:
        """What the gate of a host has to know of it."""
        known = [peers[name] for name in self.others_of(host) if name in peers]
        return Entry(
            uuid=uuid,
            customer=self.layout.customer,
            vm=self.layout.vm,
            host=host,
            state=self.layout.state,
            account=self.layout.account,
            autostart=self.autostart,
            start_unconfirmed=self.start_unconfirmed,
            ask=tuple(Place(peer.name, peer.address, peer.port) for peer in known),
            self_stop_seconds=self.self_stop_seconds,
            lost=self.lost_hosts,
        )

    @property
    def name(self) -> str:
        return self.layout.name


class Protection:
    """Protects VMs on one machine, or forgets them.

    A VM that can't be done is named in ``problems`` and doesn't keep the others from being done.
    """

    def __init__(self, machine: Machine, tree: Tree, run: Runner, now: datetime) -> None:
        self.machine = machine
        self.tree = tree
        self.keys: dict[str, str | None] = {}
        self.uuids: dict[str, str | None] = {}
        self.autostarts: dict[str, bool] = {}
        self.states: dict[str, dict[str, Any]] = {}
        self.kept: dict[str, list[str]] = {}
        self.problems: list[str] = []
        self._run = run
        self._now = now

    @property
    def _hypervisor(self) -> bool:
        return self.machine.part == "hypervisor"

    def present(self, vms: list[Vm], peers: dict[str, Peer]) -> None:
        """Lay what these VMs need here; ``peers`` are the machines whose host keys get pinned."""
        with self._alone():
            self._present(vms, peers)

    def _present(self, vms: list[Vm], peers: dict[str, Peer]) -> None:
        self._check_root()
        self.tree.folder(self.machine.root, 0o711)
        if self._hypervisor:
            self.tree.folder(self.machine.configuration, 0o755)
            self.tree.folder(os.path.join(self.machine.configuration, "keys"), 0o700)
            self._ask_libvirt(vms)
        by_home: dict[str, list[Vm]] = {}
        for vm in vms:
            by_home.setdefault(vm.layout.home, []).append(vm)
        for home, group in by_home.items():
            self._home(home, group, peers)
        if self._hypervisor:
            others = {name for vm in vms for name in vm.others_of(self.machine.name)}
            self._pin(os.path.join(self.machine.configuration, "known_hosts"), others, peers)

    def absent(self, vms: list[Vm], erase_images: bool) -> None:
        """Forget these VMs. ``kept`` names the images and generations that stay, all unless to be erased."""
        with self._alone():
            self._absent(vms, erase_images)

    def _absent(self, vms: list[Vm], erase_images: bool) -> None:
        for vm in vms:
            try:
                with ExitStack() as stack:
                    if not self.tree.dry and os.path.exists(vm.layout.lock):
                        stack.enter_context(locked(vm.layout.lock, "unprotect"))
                    self._forget(vm, erase_images)
            except ResilientVmError as error:
                self.problems.append(str(error))
        for layout in {vm.layout.home: vm.layout for vm in vms}.values():
            self._leave_home(layout)

    def _alone(self) -> AbstractContextManager[None]:
        """Runs for several VMs share the files of keys that are let in and of pinned ones, which each writes anew."""
        return nullcontext() if self.tree.dry else waited(os.path.join(self.machine.runtime, "protection.lock"))

    def result(self, keys_of_host: list[str]) -> dict[str, Any]:
        """What the module returns."""
        return {
            "changed": self.tree.changed,
            "diff": {"before": self.tree.before, "after": self.tree.after},
            "host_keys": keys_of_host,
            "public_keys": self.keys,
            "uuids": self.uuids,
            "autostarts": self.autostarts,
            "states": self.states,
            "kept": self.kept,
            "problems": self.problems,
        }

    def _check_root(self) -> None:
        place = self.machine.root
        while not os.path.isdir(place):
            place = os.path.dirname(place)
        if not self.machine.allow_full_copies and not reflink_works(place):
            raise ResilientVmError(
                f"resilient_vm_root {self.machine.root} on {self.machine.name} lies on a filesystem "
                "where files can't share blocks; put it on XFS (made with reflink=1) or Btrfs, or allow full copies "
                "with resilient_vm_allow_full_copies",
                root=self.machine.root,
                machine=self.machine.name,
            )

    def _home(self, home: str, vms: list[Vm], peers: dict[str, Peer]) -> None:
        account = vms[0].layout.account
        doors = os.path.join(home, ".ssh")
        if self._hypervisor:
            self.tree.folder(home, 0o711)
            self.tree.folder(doors, 0o755)
        else:
            self.tree.folder(home, 0o750, group=account)
            self.tree.folder(doors, 0o750, group=account)
            hosts = {name for vm in vms for name in (vm.inventory.production, vm.inventory.standby)}
            self._pin(os.path.join(doors, "known_hosts"), hosts, peers)
        for vm in vms:
            try:
                self._vm(vm, peers)
            except ResilientVmError as error:
                self.problems.append(str(error))
        entries = {vm.name: self._entries(vm) for vm in vms if vm.keys is not None}
        self._authorize(home, entries)

    def _vm(self, vm: Vm, peers: dict[str, Peer]) -> None:
        layout = vm.layout
        if layout.vm in _TAKEN_NAMES or layout.vm.endswith(".pub"):
            raise ResilientVmError(f"VM name {layout.vm!r} is taken by a file of ssh; rename the inventory host")
        account = layout.account
        self.tree.folder(layout.directory, 0o711 if self._hypervisor else 0o750, group=account)
        if self._hypervisor:
            working = [layout.incoming, layout.generations, layout.restores, layout.pins]
            self.tree.folder(layout.scratch, 0o711)
        else:
            working = [layout.images, layout.incoming, layout.pins, layout.transfer]
        for path in working:
            self.tree.folder(path, 0o750, account, account)
        for path in (layout.lock, layout.asked):
            self.tree.empty(path, 0o660, group=account)
        path, owner = self._key_of(layout)
        line = self.tree.key(path, f"{vm.name}@{self.machine.name}", owner, owner, self._run)
        self.keys[vm.name] = line and public_key(line, f"{path}.pub on {self.machine.name}")
        if vm.plan is not None:
            self.tree.text(layout.plan, document_text(vm.plan), 0o600)
        self._state(vm, peers)

    def _key_of(self, layout: Layout) -> tuple[str, str]:
        if self._hypervisor:
            return os.path.join(self.machine.configuration, "keys", f"{layout.customer}.{layout.vm}"), "root"
        return layout.key, layout.account

    def _ask_libvirt(self, vms: list[Vm]) -> None:
        """UUID of each VM's domain, and whether it starts with this host, by libvirt or (taken from it) by us."""
        virsh = Virsh(self._run)
        try:
            domains, started = virsh.domains(), virsh.autostarted()
        except ResilientVmError:
            if not self.tree.dry:  # on a bare machine libvirt comes with the real run
                raise
            domains, started = {}, set()
        self.uuids = {vm.name: domains.get(vm.inventory.domain) for vm in vms}
        known = {entry.name: entry.autostart for entry in self.machine.registry.read()[0]}
        self.autostarts = {name: known.get(name, False) or uuid in started for name, uuid in self.uuids.items()}

    def _state(self, vm: Vm, peers: dict[str, Peer]) -> None:
        """Write the document when it is this machine's turn, which is once ``keys`` are known."""
        document = read_json(vm.layout.state)
        own = None if document is None else State.from_json(document, f"{vm.layout.state} on {self.machine.name}")
        if vm.keys is None:
            if own is not None:
                self.states[vm.name] = own.as_dict()
            return
        silent = self._silent(vm, vm.keys)
        settled = settle(vm.inventory, self.machine.name, own, vm.others, self._now, silent)
        self.states[vm.name] = settled.as_dict()
        text = document_text(settled.as_dict())
        with ExitStack() as stack:
            if not self.tree.dry and settled != own:
                stack.enter_context(locked(vm.layout.lock, "site"))
                self._unchanged(vm, document)
                self._write_down(vm, settled, "site" if own else "protect", settled.why)
            if settled == own:
                # Not what it says: a takeover may be deciding something else right now.
                self.tree.owned(vm.layout.state, 0o640, group=vm.layout.account)
            else:
                self.tree.text(vm.layout.state, text, 0o640, group=vm.layout.account)
        if self._hypervisor and settled.uuid:
            entry = vm.entry(self.machine.name, settled.uuid, peers)
            self.machine.registry.register(self.tree, entry, settled.active, Virsh(self._run))

    def _unchanged(self, vm: Vm, document: Any) -> None:
        if read_json(vm.layout.state) != document:
            raise ResilientVmError(
                f"something was decided about {vm.name} on {self.machine.name} just now; run the site playbook again"
            )

    def _silent(self, vm: Vm, keys: dict[str, str | None]) -> list[str]:
        """The hosts that said nothing to a backup storage; one that answered has sent its key."""
        if self._hypervisor or self.tree.dry:
            return []
        hosts = (vm.inventory.production, vm.inventory.standby)
        return [host for host in hosts if keys.get(host) is None and host not in vm.lost_hosts]

    def _write_down(self, vm: Vm, state: State, what: str, why: str) -> None:
        said = _journal.entry(self._now, vm.who, what, why, state.epoch, state.active)
        _journal.append(vm.layout.journal, said)

    def _entries(self, vm: Vm) -> dict[str, str | None]:
        entries: dict[str, str | None] = {}
        for holder, key in (vm.keys or {}).items():
            if key is None and not self.tree.dry:
                entries[holder] = None
                continue
            known = _UNKNOWN_KEY if key is None else public_key(key, f"the key of {vm.name} from {holder}")
            if not self._hypervisor:
                verbs = _CLAIM_VERBS
            else:
                verbs = _DATA_VERBS if holder == vm.backup_storage else _QUESTION_VERBS
            # Who asks or claims is the key's to say, never the caller's.
            allowed = verbs if verbs == _DATA_VERBS else f"{verbs} {machine_name(holder)}"
            forced = f"{PROGRAM} forced {vm.name} {allowed}"
            entries[holder] = f'restrict,command="{forced}" {known} {vm.name}@{holder}'
        return entries

    def _authorize(self, home: str, entries: dict[str, dict[str, str | None]]) -> None:
        if not entries:
            return
        path = os.path.join(home, ".ssh", "authorized_keys")
        text = merge_authorized(read_text(path), entries)
        if text:
            self.tree.text(path, text, 0o644)
        else:
            self.tree.absent(path)

    def _pin(self, path: str, names: set[str], peers: dict[str, Peer]) -> None:
        known = [peers[name] for name in sorted(names) if name in peers]
        text = merge_known_hosts(read_text(path), known)
        if text:
            self.tree.text(path, text, 0o644)

    def _forget(self, vm: Vm, erase_images: bool) -> None:
        layout = vm.layout
        if os.path.isdir(layout.running):
            raise ResilientVmError(
                f"{vm.name} has its disks in {layout.running} on {self.machine.name}; move them to "
                "where they shall stay and remove that folder, then unprotect again"
            )
        _lend.refuse_while_lent(layout)
        if os.path.isdir(layout.drill) and not self.tree.dry:
            _drill.end(layout, self._run)
        self._authorize(layout.home, {vm.name: {}})
        entry = self.machine.registry.of(vm.name) if self._hypervisor else None
        if entry is not None:
            active = (read_json(layout.state) or {}).get("active")
            self.machine.registry.forget(self.tree, entry, active, Virsh(self._run))
        key, _owner = self._key_of(layout)
        images = layout.generations if self._hypervisor else layout.images
        gone = [
            key,
            key + ".pub",
            layout.incoming,
            layout.pins,
            layout.transfer,
            layout.restores,
            layout.drill,
            work_folder(layout.drill),
            layout.scratch,
            layout.verification,
            layout.loan,
            layout.loan_lock,
            layout.run,
        ]
        # What is remembered of a definition, on a host that has since become the active one, and of steps of an epoch
        # that the VM's next life has again.
        gone += [os.path.join(layout.directory, name) for name in ("standby.json", _step_record.RECORD)]
        if erase_images or not os.path.isdir(images) or not os.listdir(images):
            gone += [layout.current, images, layout.drills, layout.journal]
        else:
            self._write_down_leaving(vm)
            self.kept[vm.name] = sorted(name for name in os.listdir(images) if not name.startswith("."))
        for path in gone:
            self.tree.absent(path)
        # Last: while the document is there, a rerun knows that something is left to do.
        self.tree.absent(layout.state)
        for path in (layout.asked, layout.intent, layout.nonce, layout.plan, layout.lock):
            self.tree.absent(path)
        if self.tree.absent_when_empty(layout.directory):
            self.kept.pop(vm.name, None)

    def _write_down_leaving(self, vm: Vm) -> None:
        """Images that stay keep the journal that explains their epochs."""
        document = None if self.tree.dry else read_json(vm.layout.state)
        if document is not None:
            state = State.from_json(document, f"{vm.layout.state} on {self.machine.name}")
            self._write_down(vm, state, "unprotect", "unprotect")

    def _leave_home(self, layout: Layout) -> None:
        doors = os.path.join(layout.home, ".ssh")
        if self.tree.left_in(doors) == {"known_hosts"}:
            self.tree.absent(os.path.join(doors, "known_hosts"))
        if self.tree.absent_when_empty(doors):
            self.tree.absent_when_empty(layout.home)
