# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One simulated machine: its power, its clock, its libvirt. What it keeps on its disks is real files in a folder."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from unit.simulation import product
from unit.simulation.product import Completed, Failed

if TYPE_CHECKING:
    from unit.simulation.world import World

__all__ = ["Domain", "Machine", "Unreachable", "definition"]

_SOURCE = re.compile(r"<source file=['\"]([^'\"]+)")


class Unreachable(Exception):
    """No answer, whatever the machine did."""


def definition(path: str, kind: str = "raw") -> str:
    return (
        f"<domain type='kvm'><name>erp</name><uuid>{product.UUID}</uuid><os><type>hvm</type></os><devices>"
        f"<disk type='file' device='disk'><driver name='qemu' type='{kind}'/><source file='{path}'/>"
        "<target dev='vda' bus='virtio'/></disk></devices></domain>"
    )


@dataclass
class Domain:
    xml: str
    state: str = "shut off"

    @property
    def disk(self) -> str:
        found = _SOURCE.search(self.xml)
        assert found
        return found.group(1)


@dataclass
class Machine:
    name: str
    root: Path
    world: World
    up: bool = True
    boots: int = 0
    # Its clock against the true time.
    ahead_seconds: float = 0.0
    domains: dict[str, Domain] = field(default_factory=dict)
    # Whether the timer of the gate still runs after the last boot.
    waiting: bool = False
    # The guest does not heed its power button.
    stubborn: bool = False

    def __post_init__(self) -> None:
        self.layout = product.Layout("acme", "erp", root=str(self.root / "lib"), runtime=str(self.root / "run"))
        self.registry = product.registry_of(self.root)
        self.root.mkdir()
        (self.root / "version.json").write_text(json.dumps({"host": self.name}), encoding="utf-8")
        self._new_boot()

    def now(self) -> datetime:
        return product.of_seconds(self.world.seconds + self.ahead_seconds)

    @property
    def domain(self) -> Domain | None:
        return self.domains.get(product.UUID)

    @property
    def runs(self) -> bool:
        return self.up and self.domain is not None and self.domain.state == "running"

    # power

    def _new_boot(self) -> None:
        self.boots += 1
        (self.root / "boot_id").write_text(f"{self.name}-{self.boots}\n", encoding="ascii")
        # It lies in memory.
        shutil.rmtree(self.registry.confirmed, ignore_errors=True)
        for domain in self.domains.values():
            domain.state = "shut off"

    def power_off(self) -> None:
        self.up = False
        for domain in self.domains.values():
            domain.state = "shut off"

    def power_on(self) -> None:
        if not self.up:
            self.up = True
            self.waiting = True
            self._new_boot()

    # programs that the product calls

    def run(
        self, argv: Sequence[str], timeout_seconds: float = 60.0, check: bool = True, stdin: str | None = None
    ) -> Completed:
        del timeout_seconds, stdin
        if argv[0] == "ssh":
            done = self.world.asked(self, argv[-2].partition("@")[2])
        elif argv[0] == "systemctl":
            self.waiting = argv[1] == "start"
            done = Completed(0, "", "")
        elif argv[0] == "qemu-img":
            done = self._qemu_img(list(argv[1:]))
        else:
            done = self._virsh(list(argv[3:]))
        if check and done.code != 0:
            raise Failed(f"{argv[0]} failed: {done.stderr}")
        return done

    def _qemu_img(self, words: list[str]) -> Completed:
        if words[0] == "create":
            target = words[-1]
            source = os.path.join(os.path.dirname(target), words[words.index("-b") + 1])
        else:
            source, target = words[-2:]
        shutil.copyfile(source, target)
        return Completed(0, "", "")

    def _virsh(self, words: list[str]) -> Completed:
        if words[0] == "list":
            listed = "" if "--autostart" in words else "".join(f"{uuid} erp\n" for uuid in self.domains)
            return Completed(0, listed, "")
        if words[0] == "define":
            xml = Path(words[1]).read_text(encoding="utf-8")
            state = self.domain.state if self.domain else "shut off"
            self.domains[product.UUID] = Domain(xml, state)
            return Completed(0, "", "")
        domain = self.domains.get(words[1])
        if domain is None:
            return Completed(1, "", f"error: failed to get domain '{words[1]}'")
        return self._of_domain(words, domain)

    def _of_domain(self, words: list[str], domain: Domain) -> Completed:
        if words[0] == "domstate":
            return Completed(0, f"{domain.state} (unknown)", "")
        if words[0] == "dumpxml":
            return Completed(0, domain.xml, "")
        if words[0] == "qemu-monitor-command":
            return Completed(0, '{"return": {}}', "")
        if words[0] == "undefine":
            assert domain.state == "shut off"
            del self.domains[words[1]]
        elif words[0] == "start":
            return self._start(domain)
        elif words[0] == "destroy" or (words[0] == "shutdown" and not self.stubborn):
            domain.state = "shut off"
            self.world.stopped(self, "pulled" if words[0] == "destroy" else "shut down")
        else:
            assert words[0] == "shutdown", words
        return Completed(0, "", "")

    def _start(self, domain: Domain) -> Completed:
        if domain.state == "running":
            return Completed(1, "", "error: Domain is already active")
        refusal = product.hook(self)
        if refusal:
            return Completed(1, "", f"error: Hook script execution failed: {refusal}")
        if not os.path.exists(domain.disk):
            return Completed(1, "", f"error: Cannot access storage file '{domain.disk}'")
        domain.state = "running"
        self.world.started(self)
        return Completed(0, "", "")
