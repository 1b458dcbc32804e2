# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate laid into libvirt's folder of hooks, and the proof that libvirt asks it: a start that must be refused.

libvirt fails open: a folder of hooks that was made while it ran counts only after its restart, and a hook without its
run bit is passed over in silence. No file tells; only trying does.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import Callable
from xml.etree import ElementTree

from ._backup_path import best_type
from ._errors import ResilientVmError
from ._files import waited, write_atomic
from ._hook import SAYS
from ._process import Runner
from ._registry import PROBE, Entry, Registry
from ._tree import Tree
from ._virsh import Unreachable, Virsh

__all__ = ["HOOKS", "GateProof"]

HOOKS = "/etc/libvirt/hooks"
# The hook's text comes with the mover, which site has installed before.
SOURCE = "/usr/local/lib/resilient-vm/resilient_vm_mover/_hook.py"
_NAME = "resilient-vm-gate-probe"
_DAEMONS = ("libvirtd.service", "virtqemud.service")
_HEAD = "#!/usr/bin/python3 -I\n# Laid by edgecloud.resilient_vm\n"


@dataclass(frozen=True)
class GateProof:
    """Hook, throwaway entry and proof on one host."""

    run: Runner
    domain_type: str | None = None
    registry: Registry = field(default_factory=Registry)
    hooks: str = HOOKS
    source: str = SOURCE
    sleep: Callable[[float], None] = time.sleep

    @property
    def hook(self) -> str:
        return os.path.join(self.hooks, "qemu.d", "50-resilient-vm")

    def install(self, tree: Tree, host: str) -> bool:
        """Lay the hook, and the throwaway domain's entry, which says that no host is active; whether it is new."""
        new = not os.path.lexists(self.hook)
        for folder in (self.hooks, os.path.dirname(self.hook)):
            tree.folder(folder, 0o755)
        for folder in (os.path.dirname(self.registry.folder), self.registry.folder):
            tree.folder(folder, 0o755)
        state = os.path.join(self.registry.folder, "probe-state")
        entry = Entry(PROBE, "resilient-vm", "gate-probe", host, state, "", False, False, ())
        told = {"customer": entry.customer, "vm": entry.vm, "active": "none", "epoch": 1, "phase": "protected"}
        tree.text(state, json.dumps(told, sort_keys=True) + "\n", 0o644)
        tree.text(self.registry.path(PROBE), entry.text(), 0o644)
        if os.path.exists(self.source) or not tree.dry:
            with open(self.source, encoding="utf-8") as stream:
                tree.text(self.hook, _HEAD + stream.read(), 0o755)
        return new

    def prove(self, may_restart: bool) -> bool:
        """See a start refused; whether libvirt had to be restarted for it. Running guests survive that.

        Raises ResilientVmError when libvirt starts what the gate refuses.
        """
        virsh = Virsh(self.run)
        # Runs for several VMs prove the same gate; each waits for the other, which takes a second.
        with waited(os.path.join(self.registry.confirmed, "lock")):
            if self._refused(virsh):
                return False
            if may_restart:
                self._restart(virsh)
                if self._refused(virsh):
                    return True
        raise ResilientVmError(
            "libvirt on this host starts machines that the gate refuses to start: it could run a VM twice; run the "
            f"site playbook, which lays {self.hook} anew and restarts libvirtd (running guests go on)"
        )

    def _refused(self, virsh: Virsh) -> bool:
        file = os.path.join(self.registry.confirmed, "probe.xml")
        write_atomic(file, _definition(self.domain_type or best_type(virsh)).encode(), 0o600)
        try:
            done = virsh.call("create", file, "--paused", check=False)
        finally:
            os.unlink(file)
        if done.code == 0:
            virsh.call("destroy", PROBE)
            return False
        if SAYS not in done.stderr:
            raise ResilientVmError(
                f"the gate of this host can't be proven: libvirt refuses a throwaway domain for another reason "
                f"({done.stderr.strip()}); mend that and run again"
            )
        return True

    def _restart(self, virsh: Virsh) -> None:
        for daemon in _DAEMONS:
            shown = self.run(["systemctl", "show", "--property=ActiveState", "--value", daemon])
            if shown.stdout.strip() == "active":
                self.run(["systemctl", "restart", daemon], timeout_seconds=120.0)
        for pause in (0.5,) * 60:
            try:
                virsh.domains()
                return
            except Unreachable:
                self.sleep(pause)
        virsh.domains()


def _definition(kind: str) -> str:
    domain = ElementTree.Element("domain", type=kind)
    ElementTree.SubElement(domain, "name").text = _NAME
    ElementTree.SubElement(domain, "uuid").text = PROBE
    ElementTree.SubElement(domain, "memory", unit="MiB").text = "16"
    ElementTree.SubElement(ElementTree.SubElement(domain, "os"), "type").text = "hvm"
    return ElementTree.tostring(domain, encoding="unicode")
