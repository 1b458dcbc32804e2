# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What virsh prints, made into facts. Pure: texts in, values out."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from . import _domain

__all__ = ["busy", "changed", "count", "counted", "sizes", "state", "versions"]

_COUNT = re.compile(r"(?:Froze|Thawed) (\d+) filesystem")


def state(text: str) -> tuple[str, str]:
    """``virsh domstate --reason``: ("running", "booted") and the like."""
    match = re.match(r"\s*(.+?)(?: \((.*)\))?\s*$", text)
    return (match.group(1), match.group(2) or "") if match else ("", "")


def count(text: str) -> int:
    """``virsh domfsfreeze`` and ``domfsthaw``: how many file systems."""
    match = _COUNT.search(text)
    return int(match.group(1)) if match else 0


def versions(text: str) -> tuple[str, str]:
    """``virsh version --daemon``: (libvirt's, QEMU's), "" where it is not told."""
    library = re.search(r"Running against daemon: (\S+)", text) or re.search(r"Using library: libvirt (\S+)", text)
    hypervisor = re.search(r"Running hypervisor: QEMU (\S+)", text)
    return (library.group(1) if library else "", hypervisor.group(1) if hypervisor else "")


def busy(text: str) -> str:
    """``virsh domjobinfo``: "" for nothing, else the operation's name."""
    kind = re.search(r"^Job type:\s*(\S.*?)\s*$", text, re.MULTILINE)
    if kind is None or kind.group(1) == "None":
        return ""
    operation = re.search(r"^Operation:\s*(\S.*?)\s*$", text, re.MULTILINE)
    return operation.group(1) if operation else kind.group(1)


def counted(xml: str) -> dict[str, str] | None:
    """``virsh checkpoint-dumpxml``: {target: path} of the disks it counts; None without such a checkpoint."""
    root = ElementTree.fromstring(xml) if xml else None
    domain = root.find("domain") if root is not None else None
    if root is None or domain is None:
        return None
    wanted = {
        node.get("name", "") for node in root.iterfind("disks/disk") if node.get("checkpoint", "bitmap") == "bitmap"
    }
    disks = _domain.parse(ElementTree.tostring(domain, encoding="unicode")).disks
    return {disk.target: disk.source or f"{disk.pool}/{disk.volume}" for disk in disks if disk.target in wanted}


def changed(xml: str) -> dict[str, int]:
    """``virsh checkpoint-dumpxml --size``: {target: bytes changed since}, without disks libvirt can't tell it of."""
    disks = ElementTree.fromstring(xml).iterfind("disks/disk") if xml else []
    return {node.get("name", ""): int(node.get("size", "")) for node in disks if node.get("size")}


def sizes(table: str) -> dict[str, tuple[int, int]]:
    """``virsh domblkinfo --all``: Target Capacity Allocation Physical, in bytes, "-" for an empty drive."""
    found = {}
    for line in table.splitlines():
        words = line.split()
        if len(words) == 4 and words[1].isdigit() and words[2].isdigit():
            found[words[0]] = (int(words[1]), int(words[2]))
    return found
