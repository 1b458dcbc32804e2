# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that borrows an image, and the backup storage that lends it, for tests."""

from __future__ import annotations

import os
import pwd
import socket
import tarfile
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from unit.engine_fakes import IDS, Disk, Snapshot, blocks, make_layout, restoring, transfer
from unit.libvirt_fakes import UUID, disk, domain, said
from unit.libvirt_fakes import World as Libvirt

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _at_once, _borrow, _units
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store

BELOW = "<backingStore type='network'><source protocol='nbd' name='vda'/></backingStore>"


class Machine(Snapshot):
    def definition(self) -> Any:
        yield "domain.xml", domain(disk()).encode()


class Host:
    """A host to which the image is lent, and a libvirt and a systemd that remember."""

    def __init__(self, tmp_path: Path) -> None:
        self.images = make_layout(tmp_path / "c")
        transfer(Machine(IDS[0], [Disk("vda", blocks(4))], None), Store(self.images))
        self.layout = Layout("acme", "erp", make_layout(tmp_path / "b", "generations").root, str(tmp_path / "run"))
        os.makedirs(self.layout.runtime)
        self.domains = {"erp": UUID}
        self.running: list[str] = []
        self.xml = ""
        self.lends = "domain.xml"
        self.libvirt = Libvirt(
            {
                "virsh list --all --uuid --name": lambda _words: said(
                    "".join(f"{uuid} {name}\n" for name, uuid in self.domains.items())
                ),
                "virsh define": self.define,
                "virsh start": self.start,
                "virsh domstate": lambda words: said(
                    "running (booted)" if words[1] in self.running else "shut off (x)"
                ),
                "virsh dumpxml": said(domain(disk(inside="<driver name='qemu' type='qcow2'/>" + BELOW))),
                "virsh blockjob": said(" cur=65536\n"),
                "qemu-img create": self.create,
                "systemctl show": lambda words: said("active" if words[-1] in self.running else "inactive"),
                "systemd-run": lambda words: self.running.append(words[3].partition("=")[2]) or said(),
            }
        )

    def define(self, words: list[str]) -> Any:
        self.xml = Path(words[1]).read_text()
        self.domains["tuesday"] = self.xml.partition("<uuid>")[2].partition("<")[0]
        return said()

    def start(self, words: list[str]) -> Any:
        self.running.append(words[1])
        return said()

    @staticmethod
    def create(words: list[str]) -> Any:
        Path(words[-2]).write_text(" ".join(words))
        return said()

    def crash(self) -> None:
        """And a start of the host: what runs, and what lies under /run, is gone."""
        self.running.clear()
        for name in os.listdir(_borrow.folder(self.layout)):
            os.unlink(os.path.join(_borrow.folder(self.layout), name))
        os.rmdir(_borrow.folder(self.layout))

    def lend(self, _seconds: float = 0) -> None:
        """What the backup storage does as soon as the host is prepared."""
        folder = _borrow.folder(self.layout)
        if not os.path.isdir(folder) or os.path.exists(os.path.join(folder, "vda.sock")):
            return
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.join(folder, "definition.sock"))
        listener.listen(1)
        threading.Thread(target=self._give, args=(listener,), daemon=True).start()
        Path(folder, "vda.sock").touch()

    def _give(self, listener: socket.socket) -> None:
        with (
            listener,
            listener.accept()[0] as client,
            client.makefile("wb") as stream,
            tarfile.open(fileobj=stream, mode="w|") as archive,
        ):
            archive.add(Store(self.images).read(IDS[0]).file("domain.xml"), self.lends)

    @property
    def wish(self) -> dict[str, Any]:
        return restoring(self.images, self.layout, "tuesday", format="qcow2")

    @property
    def folder(self) -> Path:
        return Path(self.layout.restored, "tuesday")


def systemd() -> Libvirt:
    """Remembers which units run."""
    running: list[str] = []
    return Libvirt(
        {
            "systemctl show": lambda words: said("active" if words[-1] in running else "inactive"),
            "systemd-run": lambda words: running.append(words[3].partition("=")[2]) or said(),
            "systemctl stop": lambda words: running.remove(words[-1]) or said(),
        }
    )


def borrower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Such a host, with root's calls left out and its backup storage quick to lend."""
    me = pwd.getpwuid(0)
    for name in ("os.chown", "os.fchown"):
        monkeypatch.setattr(name, lambda *_arguments, **_options: None)
    monkeypatch.setattr("pwd.getpwnam", lambda _name: me)
    made = Host(tmp_path)
    monkeypatch.setattr(_at_once, "qemu_user", lambda: (0, 0))
    monkeypatch.setattr(_at_once, "make", partial(_at_once.make, swtpm=str(tmp_path / "swtpm"), sleep=made.lend))
    monkeypatch.setattr(_units, "MOVER", "/bin/true")
    return made
