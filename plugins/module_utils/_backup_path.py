# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof that a snapshot can be read on this host: a throwaway domain, one backup, one read as the account.

What confines QEMU (AppArmor, SELinux, the modes of folders) shows in no configuration file; it shows here.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import os
import pwd
import shutil
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from . import _backup
from ._errors import ResilientVmError
from ._files import read_json, waited, write_json
from ._layout import DEFAULT_RUNTIME
from ._process import Runner
from ._qemu import qemu_user
from ._virsh import Virsh

__all__ = ["BackupPath", "best_type"]

_PROOFS = "/etc/resilient-vm"
_RULES = ("/etc/apparmor.d/local/abstractions/libvirt-qemu", "/etc/selinux/targeted/contexts/files/file_contexts.local")
_DOMAIN = "resilient-vm-probe"
_SIZE = 1 << 20
_PATTERN = b"resilient-vm" * 1000
_READ = """
import sys
import nbd
handle = nbd.NBD()
handle.set_export_name("vda")
handle.connect_unix(sys.argv[1])
sys.stdout.write(bytes(handle.pread(int(sys.argv[2]), 0)).hex())
"""


@dataclass(frozen=True)
class BackupPath:
    """The way from a domain's disk to the data plane's account on this host."""

    root: str
    account: str
    run: Runner
    domain_type: str | None = None
    runtime: str = DEFAULT_RUNTIME
    proofs: str = _PROOFS

    @property
    def proof(self) -> str:
        """Of this account: customers share hosts, and each has an inventory of its own."""
        return os.path.join(self.proofs, f"backup-path.{self.account}.json")

    def circumstances(self, may_lack_libvirt: bool = False) -> dict[str, Any] | None:
        """All that a proof depends on; it holds for as long as none of it changes."""
        try:
            libvirt, qemu = Virsh(self.run).versions()
        except ResilientVmError:
            if may_lack_libvirt:
                return None
            raise
        return {
            "account": self.account,
            "libvirt": libvirt,
            "qemu": qemu,
            "root": self.root,
            "rules": {path: _digest(path) for path in _RULES},
        }

    def proven(self) -> dict[str, Any] | None:
        """The circumstances of the last proof."""
        return read_json(self.proof)

    def prove(self, circumstances: dict[str, Any] | None) -> None:
        """Do it once, leave nothing of it behind, and remember under which circumstances it worked."""
        virsh = Virsh(self.run)
        with waited(os.path.join(self.runtime, "probe.lock")):
            if self.proven() == circumstances:
                # By a run that was waited for.
                return
            self._clean(virsh)
            try:
                self._folders()
                self._backup(virsh, self._start(virsh))
            finally:
                self._clean(virsh)
            os.makedirs(self.proofs, 0o755, exist_ok=True)
            write_json(self.proof, circumstances, 0o644)

    # As deep under root and run-time folder as what belongs to a VM, which is what the rules speak of. No customer's
    # name begins with a dot.
    @property
    def _folder(self) -> str:
        return os.path.join(self.root, ".probe", "probe")

    @property
    def _scratch(self) -> str:
        return os.path.join(self._folder, "scratch")

    @property
    def _socket(self) -> str:
        return os.path.join(self.runtime, ".probe", "probe", "qemu", "nbd.sock")

    def _clean(self, virsh: Virsh) -> None:
        """Remove the domain and the folders, of this run or of one that was killed."""
        uuid = virsh.domains().get(_DOMAIN)
        if uuid is not None:
            virsh.call("destroy", uuid)
        for folder in (self.root, self.runtime):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(os.path.join(folder, ".probe"))

    def _folders(self) -> None:
        sockets = os.path.dirname(self._socket)
        for folder in (self._scratch, sockets):
            os.makedirs(folder)
            for level in (folder, os.path.dirname(folder), os.path.dirname(os.path.dirname(folder))):
                os.chmod(level, 0o711)
        os.chown(sockets, qemu_user()[0], grp.getgrnam(self.account).gr_gid)
        os.chmod(sockets, 0o710)

    def _start(self, virsh: Virsh) -> str:
        raw, disk = (os.path.join(self._folder, name) for name in ("vda.raw", "vda.qcow2"))
        with open(raw, "xb") as stream:
            stream.write(_PATTERN)
            stream.truncate(_SIZE)
        self.run(["qemu-img", "convert", "-O", "qcow2", raw, disk])
        definition = os.path.join(self._folder, "domain.xml")
        with open(definition, "x", encoding="utf-8") as stream:
            stream.write(_domain_xml(self.domain_type or best_type(virsh), disk))
        virsh.call("create", definition, "--paused")
        return virsh.domains()[_DOMAIN]

    def _backup(self, virsh: Virsh, uuid: str) -> None:
        wanted = _backup.Wanted("vda", "qcow2", "", _SIZE, True, None, "")
        job = os.path.join(self._folder, "backup.xml")
        with open(job, "x", encoding="utf-8") as stream:
            stream.write(_backup.backup_xml([wanted], [], self._socket, self._scratch))
        refusal = virsh.begin_backup(uuid, job, None, 30.0)
        if refusal:
            raise ResilientVmError(
                f"QEMU on this host can't open a snapshot for reading: {refusal}; "
                "look for denials of AppArmor or SELinux in journalctl -k"
            )
        try:
            entry = pwd.getpwnam(self.account)
            os.chown(self._socket, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
            argv = ["runuser", "-u", self.account, "--", "/usr/bin/python3", "-I", "-c", _READ]
            read = self.run([*argv, self._socket, str(len(_PATTERN))], check=False)
            if read.stdout.strip() != _PATTERN.hex():
                reason = read.stderr.strip() or "what it reads is not what is on the disk"
                raise ResilientVmError(
                    f"account {self.account} can't read an open snapshot on this host: {reason.splitlines()[-1]}; "
                    "look for denials of AppArmor or SELinux in journalctl -k"
                )
        finally:
            virsh.abort_backup(uuid, os.path.dirname(self._socket))


def best_type(virsh: Virsh) -> str:
    """Type of domain that libvirt says this host can run, KVM if at all."""
    capabilities = ElementTree.fromstring(virsh.call("capabilities").stdout)
    types = {node.get("type") for node in capabilities.iterfind("./guest/arch/domain")}
    return "kvm" if "kvm" in types and os.path.exists("/dev/kvm") else "qemu"


def _digest(path: str) -> str | None:
    try:
        with open(path, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()
    except FileNotFoundError:
        return None


def _domain_xml(kind: str, disk: str) -> str:
    domain = ElementTree.Element("domain", type=kind)
    ElementTree.SubElement(domain, "name").text = _DOMAIN
    ElementTree.SubElement(domain, "memory", unit="MiB").text = "64"
    ElementTree.SubElement(domain, "vcpu").text = "1"
    ElementTree.SubElement(ElementTree.SubElement(domain, "os"), "type").text = "hvm"
    device = ElementTree.SubElement(ElementTree.SubElement(domain, "devices"), "disk", type="file", device="disk")
    ElementTree.SubElement(device, "driver", name="qemu", type="qcow2")
    ElementTree.SubElement(device, "source", file=disk)
    ElementTree.SubElement(device, "target", dev="vda", bus="virtio")
    return ElementTree.tostring(domain, encoding="unicode")
