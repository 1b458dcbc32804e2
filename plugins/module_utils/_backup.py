# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup job asks of libvirt: which bitmap each disk counts from, and the XML that says so. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from ._domain import Disk

__all__ = [
    "Wanted",
    "backup_xml",
    "bitmap_name",
    "blamed",
    "checkpoint_xml",
    "choose",
    "estimate_bytes",
    "scratch_file",
]


@dataclass(frozen=True)
class Wanted:
    """One disk of the image to be, and what its changed blocks are counted from.

    ``base`` is a checkpoint, or None with the reason why there is none to count from;
    ``counted`` says whether the new checkpoint can count on this disk.
    """

    target: str
    format: str
    source: str
    size_bytes: int
    counted: bool
    base: str | None
    reason: str


def choose(
    disks: Iterable[Disk],
    sizes: Mapping[str, tuple[int, int]],
    base: Mapping[str, Any] | None,
    sources: Mapping[str, Mapping[str, str]],
) -> list[Wanted]:
    """For each disk the checkpoint to count from, or why there is none.

    ``sources`` is {checkpoint: {target: path when it was made}} of the checkpoints that exist.
    """
    wanted = []
    for disk in disks:
        size = sizes[disk.target][0]
        counted = disk.format == "qcow2" and not disk.read_only
        checkpoint, reason = _base_of(disk, size, base, sources)
        wanted.append(Wanted(disk.target, disk.format, disk.source, size, counted, checkpoint, reason))
    return wanted


def _base_of(
    disk: Disk, size: int, base: Mapping[str, Any] | None, sources: Mapping[str, Mapping[str, str]]
) -> tuple[str | None, str]:
    if disk.format != "qcow2":
        return None, f"a {disk.format} disk carries no dirty bitmap"
    if disk.read_only:
        return None, "a read-only disk carries no dirty bitmap"
    if not base:
        return None, "the backup storage has no image to count from"
    before = (base.get("disks") or {}).get(disk.target)
    image = base.get("image_id")
    if not before:
        return None, f"image {image} does not hold this disk"
    if before.get("size_bytes") != size:
        return None, f"the disk's size changed from {before.get('size_bytes')} to {size} bytes since image {image}"
    checkpoint = before.get("checkpoint")
    if not checkpoint:
        return None, f"image {image} left no checkpoint on this disk"
    if checkpoint not in sources:
        return None, f"checkpoint {checkpoint} of image {image} is gone"
    path = sources[checkpoint].get(disk.target)
    if path is None:
        return None, f"checkpoint {checkpoint} of image {image} does not count on this disk"
    # Bitmaps carry the checkpoint's name on every disk: after its owner swapped two disks of one size,
    # libvirt would offer the other disk's bitmap without a word.
    if path not in (disk.source, *disk.chain):
        return None, f"the disk is another file than at image {image}: {disk.source}, then {path}"
    return checkpoint, ""


def scratch_file(folder: str, target: str) -> str:
    return f"{folder}/{target}.scratch.qcow2"


def backup_xml(wanted: Sequence[Wanted], others: Iterable[str], socket: str, scratch: str) -> str:
    """A pull job on a unix socket with one export a disk, named as its target."""
    root = ElementTree.Element("domainbackup", mode="pull")
    ElementTree.SubElement(root, "server", transport="unix", socket=socket)
    disks = ElementTree.SubElement(root, "disks")
    for disk in wanted:
        attributes = {"name": disk.target, "backup": "yes", "type": "file", "exportname": disk.target}
        if disk.base:
            attributes.update(backupmode="incremental", incremental=disk.base, exportbitmap=bitmap_name(disk.target))
        else:
            # Per disk, never job-wide: one raw disk would make libvirt refuse the job.
            attributes.update(backupmode="full")
        node = ElementTree.SubElement(disks, "disk", attributes)
        ElementTree.SubElement(node, "driver", type="qcow2")
        ElementTree.SubElement(node, "scratch", file=scratch_file(scratch, disk.target))
    for target in others:
        ElementTree.SubElement(disks, "disk", name=target, backup="no")
    return ElementTree.tostring(root, encoding="unicode")


def checkpoint_xml(name: str, wanted: Sequence[Wanted], others: Iterable[str], description: str) -> str | None:
    """A checkpoint on every disk that can count; None when there is no such disk."""
    if not any(disk.counted for disk in wanted):
        return None
    root = ElementTree.Element("domaincheckpoint")
    ElementTree.SubElement(root, "name").text = name
    ElementTree.SubElement(root, "description").text = description
    disks = ElementTree.SubElement(root, "disks")
    for disk in wanted:
        ElementTree.SubElement(disks, "disk", name=disk.target, checkpoint="bitmap" if disk.counted else "no")
    for target in others:
        ElementTree.SubElement(disks, "disk", name=target, checkpoint="no")
    return ElementTree.tostring(root, encoding="unicode")


def bitmap_name(target: str) -> str:
    """The name under which a disk's bitmap is exported."""
    return "backup-" + target


def blamed(refusal: str, wanted: Iterable[Wanted]) -> set[str]:
    """Targets whose bitmap to give up after libvirt's refusal: those it names, else all that use one."""
    counting = {disk.target for disk in wanted if disk.base}
    return {target for target in counting if f"'{target}'" in refusal} or counting


def estimate_bytes(
    wanted: Iterable[Wanted], sizes: Mapping[str, tuple[int, int]], changed: Mapping[str, Mapping[str, int]]
) -> int:
    """At most this much new data: what the bitmaps call changed, and for other disks all that is allocated.

    ``changed`` is {checkpoint: {target: bytes}}.
    """
    total = 0
    for disk in wanted:
        allocated = min(sizes[disk.target][1], disk.size_bytes)
        since = changed.get(disk.base or "", {}).get(disk.target)
        total += allocated if since is None else min(since, disk.size_bytes)
    return total
