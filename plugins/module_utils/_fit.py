# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host could start a machine: what the definition needs against what the host has. Pure.

Asked every night, so that what would break a takeover is known before there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree

from ._errors import ResilientVmError
from ._human import human_size

__all__ = ["Abilities", "Guests", "Needs", "crowded", "findings", "guests_of", "needs_of"]

_UNITS = {"b": 1, "bytes": 1, "kb": 1000, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS.update({"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40})
_UNITS.update({"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40})
# How an interface names what it is attached to, and what that is called.
_ATTACHED = {"network": ("network", "network"), "bridge": ("bridge", "bridge"), "direct": ("dev", "device")}
SWTPM = "swtpm"


@dataclass(frozen=True)
class Needs:
    """What a definition asks of the host it starts on. ``networks`` are (what it is, its name)."""

    virt_type: str
    arch: str
    machine: str
    vcpus: int
    memory_bytes: int
    huge_pages: bool
    # The <cpu> that libvirt compares before a start; "" when it takes what the host has, or is told not to compare.
    cpu: str
    networks: tuple[tuple[str, str], ...]
    # Files and programs that have to be there.
    files: tuple[str, ...]


@dataclass(frozen=True)
class Guests:
    """What a host's QEMU can run of one architecture. ``machines``: the most processors of each type."""

    virt_types: frozenset[str]
    machines: Mapping[str, int]


@dataclass(frozen=True)
class Abilities:
    """What a host has. ``networks`` are libvirt's active ones, ``devices`` the bridges and other interfaces."""

    guests: Mapping[str, Guests]
    networks: frozenset[str]
    devices: frozenset[str]
    memory_bytes: int
    huge_pages_bytes: int
    # Of the machine's needs: what libvirt said against its processor, and what is not there.
    cpu_refused: str = ""
    missing: tuple[str, ...] = field(default_factory=tuple)


def needs_of(xml: str) -> Needs:
    """What the machine of ``virsh dumpxml --inactive`` needs."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise ResilientVmError(f"the definition of a domain is not XML ({error}); look at virsh dumpxml") from error
    kind = root.find("os/type")
    cpu = root.find("cpu")
    files = []
    loader = root.find("os/loader")
    if loader is not None and (loader.text or "").strip().startswith("/"):
        files.append((loader.text or "").strip())
    if root.find("devices/tpm/backend[@type='emulator']") is not None:
        files.append(SWTPM)
    return Needs(
        virt_type=root.get("type", "kvm"),
        arch="" if kind is None else kind.get("arch", ""),
        machine="" if kind is None else kind.get("machine", ""),
        vcpus=int(root.findtext("vcpu", "1")),
        memory_bytes=_bytes(root.find("memory")),
        huge_pages=root.find("memoryBacking/hugepages") is not None,
        cpu=ElementTree.tostring(cpu, encoding="unicode") if cpu is not None and _compared(cpu) else "",
        networks=tuple(dict.fromkeys(_networks(root))),
        files=tuple(files),
    )


def _bytes(node: ElementTree.Element | None) -> int:
    if node is None:
        return 0
    return int(node.text or "0") * _UNITS.get(node.get("unit", "KiB").lower(), 1 << 10)


def _compared(cpu: ElementTree.Element) -> bool:
    named = cpu.find("model") is not None and cpu.get("mode", "custom") == "custom"
    return named and cpu.get("check", "partial") != "none"


def _networks(root: ElementTree.Element) -> list[tuple[str, str]]:
    found = []
    for node in root.iterfind("devices/interface"):
        source = node.find("source")
        if source is not None and node.get("type") in _ATTACHED:
            attribute, what = _ATTACHED[node.get("type", "")]
            if source.get(attribute):
                found.append((what, source.get(attribute, "")))
    return found


def guests_of(xml: str) -> dict[str, Guests]:
    """What ``virsh capabilities`` says of full virtualisation, by architecture."""
    found = {}
    for guest in ElementTree.fromstring(xml).iterfind("guest"):
        arch = guest.find("arch")
        if guest.findtext("os_type") != "hvm" or arch is None:
            continue
        machines: dict[str, int] = {}
        for node in arch.iterfind(".//machine"):
            most = int(node.get("maxCpus", "0"))
            for name in filter(None, ((node.text or "").strip(), node.get("canonical", ""))):
                machines[name] = max(most, machines.get(name, 0))
        virt_types = frozenset(node.get("type", "") for node in arch.iterfind("domain"))
        found[arch.get("name", "")] = Guests(virt_types, machines)
    return found


def findings(needs: Needs, host: Abilities) -> list[str]:
    """What would keep this machine from starting on this host; one sentence each, with the remedy."""
    return [*_processor(needs, host), *_memory(needs, host), *_surroundings(needs, host)]


def _processor(needs: Needs, host: Abilities) -> list[str]:
    guests = host.guests.get(needs.arch)
    if guests is None:
        return [f"QEMU can't run {needs.arch} machines here; install it for that architecture"]
    found = []
    if needs.virt_type not in guests.virt_types:
        found.append(f"there is no {needs.virt_type} for {needs.arch} machines here; look at virt-host-validate")
    if needs.machine and needs.machine not in guests.machines:
        found.append(
            f"QEMU here does not know machine type {needs.machine}; bring it to the version of the VM's host, or "
            "choose an older machine type for the VM"
        )
    elif 0 < guests.machines.get(needs.machine, 0) < needs.vcpus:
        found.append(
            f"machine type {needs.machine} has at most {guests.machines[needs.machine]} processors here, and the VM "
            f"has {needs.vcpus}; bring QEMU to the version of the VM's host"
        )
    if host.cpu_refused:
        found.append(
            f"this host's processor is not what the VM asks for ({host.cpu_refused}); give the VM a <cpu> model that "
            "both hosts have"
        )
    return found


def _memory(needs: Needs, host: Abilities) -> list[str]:
    free, what = (host.huge_pages_bytes, "in huge pages ") if needs.huge_pages else (host.memory_bytes, "")
    if needs.memory_bytes <= free:
        return []
    return [
        f"the VM takes {human_size(needs.memory_bytes)} of memory, and {human_size(free)} {what}is free here; stop "
        "something here, or add memory"
    ]


def crowded(several: Sequence[Needs], host: Abilities) -> str:
    """One sentence when these machines could not all run here at once for want of memory, or ""."""
    for huge_pages, free, what in ((False, host.memory_bytes, ""), (True, host.huge_pages_bytes, "in huge pages ")):
        sizes = [needs.memory_bytes for needs in several if needs.huge_pages is huge_pages]
        if len(sizes) > 1 and sum(sizes) > free:
            return (
                f"the {len(sizes)} VMs that stand by here take {human_size(sum(sizes))} of memory {what}together, and "
                f"{human_size(free)} is free: they could not all run here at once; add memory, or know which may wait"
            )
    return ""


def _surroundings(needs: Needs, host: Abilities) -> list[str]:
    found = []
    for what, name in needs.networks:
        if name not in (host.networks if what == "network" else host.devices):
            state = "there, or not active" if what == "network" else "there"
            found.append(
                f"{what} {name}, to which the VM is attached, is not {state}; make it, or name another in "
                "resilient_vm_networks and run daily"
            )
    for path in host.missing:
        package = "package swtpm" if path == SWTPM else "firmware of the VM's host (Debian: ovmf)"
        found.append(f"{path}, which the VM needs to start, is not there; install the {package}")
    return found
