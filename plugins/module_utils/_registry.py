# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which domains of this host are protected VMs: what the gate, and whoever opens it, go by."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from ._errors import ResilientVmError
from ._files import read_json
from ._hook import CONFIRMED, REGISTRY
from ._tree import Tree
from ._virsh import Virsh

__all__ = ["PROBE", "Entry", "Place", "Registry"]

# Of the throwaway domain by which the gate is proven closed. It is no VM's: it is made up.
PROBE = "72766d67-6174-4e00-8000-70726f6f6621"


@dataclass(frozen=True)
class Place:
    """Another machine, as this one asks it."""

    name: str
    address: str
    port: int


@dataclass(frozen=True)
class Entry:
    """One protected VM on this host. ``ask``: the backup storage, then the other host."""

    uuid: str
    customer: str
    vm: str
    host: str
    state: str
    account: str
    # Started by us, after a boot of this host, once the gate is open.
    autostart: bool
    # Whether the gate opens after a boot when nobody at all can be asked.
    start_unconfirmed: bool
    ask: tuple[Place, ...]
    # After so long without an answer from anybody the VM is stopped; 0: never. What an older version laid has none.
    self_stop_seconds: int = 0
    # Hosts that are gone for good, by their owner's word: what they may have done by themselves is of no account.
    lost: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.customer}/{self.vm}"

    @classmethod
    def from_json(cls, document: Mapping[str, Any], path: str) -> Entry:
        try:
            names = [field.name for field in fields(cls) if field.name in document or field.default is MISSING]
            values = {name: document[name] for name in names}
            asked, lost = tuple(Place(**place) for place in values["ask"]), tuple(values.get("lost", ()))
            return cls(**{**values, "ask": asked, "lost": lost})
        except (KeyError, TypeError) as error:
            raise ResilientVmError(f"{path} is damaged; move it aside and run the site playbook", path=path) from error

    def text(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


@dataclass(frozen=True)
class Registry:
    """The folder of entries, one file a VM, named by UUID: a damaged one closes one gate and no other."""

    folder: str = REGISTRY
    confirmed: str = CONFIRMED

    def path(self, uuid: str) -> str:
        return os.path.join(self.folder, f"{uuid}.json")

    def confirmation(self, uuid: str) -> str:
        return os.path.join(self.confirmed, f"{uuid}.json")

    def read(self) -> tuple[list[Entry], list[str]]:
        """(entries without the throwaway domain's, one sentence for each that can't be read)."""
        found: list[Entry] = []
        problems: list[str] = []
        for name in sorted(os.listdir(self.folder)) if os.path.isdir(self.folder) else []:
            path = os.path.join(self.folder, name)
            if name == f"{PROBE}.json" or not name.endswith(".json"):
                continue
            try:
                document = read_json(path)
                if document is None:
                    # It went meanwhile: another VM is being unprotected.
                    continue
                entry = Entry.from_json(document, path)
                if os.lstat(path).st_uid != os.geteuid() or name != f"{entry.uuid}.json":
                    raise ResilientVmError(f"{path} is none of the site playbook's; erase it")
                found.append(entry)
            except FileNotFoundError:
                continue
            except ResilientVmError as error:
                problems.append(str(error))
        return found, problems

    def of(self, name: str) -> Entry | None:
        """The entry of a VM, ``customer/vm``, or None."""
        return next((entry for entry in self.read()[0] if entry.name == name), None)

    def register(self, tree: Tree, entry: Entry, active: str, virsh: Virsh) -> None:
        """Put the VM under the gate, and take it from libvirt's autostart: that asks nobody."""
        tree.folder(self.folder, 0o755)
        tree.text(self.path(entry.uuid), entry.text(), 0o644)
        if active == entry.host and entry.uuid in virsh.autostarted():
            self._autostart(tree, virsh, entry.uuid, True, False)

    def forget(self, tree: Tree, entry: Entry, active: str | None, virsh: Virsh) -> None:
        """Give the VM back to libvirt as it was."""
        lives_here = active == entry.host and entry.uuid in virsh.domains().values()
        if entry.autostart and lives_here and entry.uuid not in virsh.autostarted():
            self._autostart(tree, virsh, entry.uuid, False, True)
        for path in (self.path(entry.uuid), self.confirmation(entry.uuid)):
            tree.absent(path)

    @staticmethod
    def _autostart(tree: Tree, virsh: Virsh, uuid: str, before: bool, after: bool) -> None:
        tree.before[f"libvirt's autostart of {uuid}"], tree.after[f"libvirt's autostart of {uuid}"] = before, after
        if not tree.dry:
            (virsh.enable_autostart if after else virsh.disable_autostart)(uuid)
