# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest is, by kind, and its libvirt definition. No side effects here."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, replace
from html import escape

__all__ = ["KINDS", "Disk", "Guest", "Kind", "domain_xml"]

IMAGES = "/var/lib/libvirt/images"
DIRECT_BOOT = "/usr/share/lab"
FIRMWARE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
FIRMWARE_VARIABLES = "/usr/share/OVMF/OVMF_VARS_4M.fd"
NAMESPACE = uuid.UUID("6f9d0f0e-6a53-5a8e-9d6b-2f1f6c1f7a10")
# Free sockets for disks plugged in while the guest runs; libvirt keeps none to spare.
SPARE_SLOTS = 4


@dataclass(frozen=True)
class Disk:
    """One disk of a guest."""

    target: str
    format: str
    size_mib: int
    content: str  # "system" boots, "data" holds a counter on ext4, "blank" holds nothing

    def path(self, guest: str) -> str:
        """Return where the disk of a guest lies on its machine."""
        return f"{IMAGES}/{guest}-{self.target}.{self.format}"


@dataclass(frozen=True)
class Kind:
    """What guests of one kind have in common."""

    summary: str
    firmware: str  # "bios", "uefi", or "direct" for a kernel given by the machine
    memory_mib: int
    disks: tuple[Disk, ...]


KINDS: dict[str, Kind] = {
    "two-disk": Kind(
        "boots from its own qcow2 disk and writes to it and to a second one",
        "bios",
        192,
        (Disk("vda", "qcow2", 256, "system"), Disk("vdb", "qcow2", 128, "data")),
    ),
    "raw": Kind("boots from its own raw disk and writes to it", "bios", 192, (Disk("vda", "raw", 256, "system"),)),
    "uefi": Kind(
        "boots from its own qcow2 disk through UEFI firmware with its own NVRAM",
        "uefi",
        256,
        (Disk("vda", "qcow2", 256, "system"),),
    ),
    "blank": Kind("has a disk without a file system", "direct", 128, (Disk("vda", "qcow2", 64, "blank"),)),
    "tiny": Kind("is as small as a guest can be", "direct", 96, (Disk("vda", "qcow2", 64, "blank"),)),
}


@dataclass(frozen=True)
class Guest:
    """One guest, as its owner asked for it."""

    name: str
    firmware: str
    disks: tuple[Disk, ...]
    memory_mib: int
    domain_type: str = "qemu"
    agent: bool = True
    writer: bool = True
    mount: bool = True
    rate_kib: int = 1024
    tpm: bool = False

    @classmethod
    def of_kind(cls, name: str, kind: str) -> Guest:
        """Return a guest with its kind's defaults."""
        chosen = KINDS[kind]
        return cls(name=name, firmware=chosen.firmware, disks=chosen.disks, memory_mib=chosen.memory_mib)

    def with_disk(self, target: str, *, size_mib: int | None = None, image_format: str | None = None) -> Guest:
        """Return the guest with one disk changed."""
        disks = tuple(
            replace(disk, size_mib=size_mib or disk.size_mib, format=image_format or disk.format)
            if disk.target == target
            else disk
            for disk in self.disks
        )
        return replace(self, disks=disks)

    @property
    def digest(self) -> bytes:
        """Bytes from which everything is derived that must be the same whenever a name is used again."""
        return hashlib.sha256(self.name.encode()).digest()

    @property
    def uuid(self) -> str:
        """The guest's identity."""
        return str(uuid.uuid5(NAMESPACE, self.name))

    @property
    def mac(self) -> str:
        """The guest's address on its Ethernet."""
        return "52:54:00:" + ":".join(f"{byte:02x}" for byte in self.digest[:3])

    @property
    def address(self) -> str:
        """The guest's IP address, above those of the machines in the same network."""
        return f"10.77.{1 + self.digest[3] % 250}.{1 + self.digest[4] % 250}"

    @property
    def settings(self) -> dict[str, str]:
        """What the guest's init wants to know."""
        return {
            "name": self.name,
            "address": f"{self.address}/16",
            "writer": "on" if self.writer else "off",
            "rate": str(self.rate_kib),
            "mount": "on" if self.mount else "off",
        }


def domain_xml(guest: Guest, cmdline: str) -> str:
    """Return the libvirt definition of a guest; ``cmdline`` is for guests whose kernel the machine gives."""
    devices = [disk_xml(guest, disk) for disk in guest.disks]
    devices.append("<controller type='pci' index='0' model='pcie-root'/>")
    devices += ["<controller type='pci' model='pcie-root-port'/>"] * SPARE_SLOTS
    devices.append(
        f"<serial type='pty'><log file='/var/log/libvirt/qemu/{guest.name}-serial.log' append='off'/></serial>"
    )
    devices.append(
        f"<interface type='bridge'><mac address='{guest.mac}'/><source bridge='vmbr0'/>"
        # Without a boot ROM: a guest that finds no disk to boot shall say so and not ask the network first.
        "<model type='virtio'/><rom enabled='no'/></interface>"
    )
    if guest.agent:
        devices.append("<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>")
    if guest.tpm:
        devices.append("<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>")
    devices.append("<memballoon model='none'/>")
    lines = [
        f"<domain type='{escape(guest.domain_type)}'>",
        f"<name>{escape(guest.name)}</name>",
        f"<uuid>{guest.uuid}</uuid>",
        f"<memory unit='MiB'>{guest.memory_mib}</memory>",
        "<vcpu>1</vcpu>",
        os_xml(guest, cmdline),
        # A small translation cache: many guests share one box.
        "<features><acpi/><apic/>"
        + ("<tcg><tb-cache unit='MiB'>64</tb-cache></tcg>" if guest.domain_type == "qemu" else "")
        + "</features>",
        "<cpu mode='custom' match='exact' check='none'><model fallback='allow'>qemu64</model></cpu>",
        "<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>",
        "<devices>",
        *devices,
        "</devices>",
        "</domain>",
    ]
    return "\n".join(lines) + "\n"


def os_xml(guest: Guest, cmdline: str) -> str:
    """Return what the guest boots from."""
    parts = ["<os><type arch='x86_64' machine='q35'>hvm</type>"]
    if guest.firmware == "uefi":
        variables = f"/var/lib/libvirt/qemu/nvram/{guest.name}_VARS.fd"
        parts.append(f"<loader readonly='yes' type='pflash'>{FIRMWARE}</loader>")
        parts.append(f"<nvram template='{FIRMWARE_VARIABLES}'>{variables}</nvram>")
    if guest.firmware == "direct":
        words = [cmdline, *(f"lab.{name}={value}" for name, value in guest.settings.items())]
        parts.append(f"<kernel>{DIRECT_BOOT}/vmlinuz</kernel><initrd>{DIRECT_BOOT}/initrd</initrd>")
        parts.append(f"<cmdline>{escape(' '.join(words))}</cmdline>")
    else:
        parts.append("<boot dev='hd'/>")
    parts.append("</os>")
    return "".join(parts)


def disk_xml(guest: Guest, disk: Disk) -> str:
    """Return the definition of one disk."""
    return (
        "<disk type='file' device='disk'>"
        f"<driver name='qemu' type='{disk.format}' cache='none' discard='unmap'/>"
        f"<source file='{disk.path(guest.name)}'/><target dev='{disk.target}' bus='virtio'/></disk>"
    )
