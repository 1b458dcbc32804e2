# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of an image or generation: what it is, of what, from when, and how it got here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from ._digests import ALGORITHM, BLOCK_SIZE
from ._errors import ResilientVmError

__all__ = [
    "DEFINITION",
    "IMAGE_ID",
    "NVRAM",
    "SCHEMA",
    "TPM",
    "XML",
    "Definition",
    "Disk",
    "Manifest",
    "Proven",
    "check_names",
    "check_offer",
    "check_uuid",
]

SCHEMA = 1
# Files of the machine definition.
XML, NVRAM, TPM = DEFINITION = ("domain.xml", "nvram.fd", "tpm.tar")
IMAGE_ID = re.compile(r"\d{8}T\d{6}Z")
_TARGET = re.compile(r"[A-Za-z0-9]+")
SHA256 = re.compile(r"[0-9a-f]{64}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Proven:
    """How far the rotating re-read has come on one disk."""

    next_block: int = 0
    round_started: str = ""
    full_round: str | None = None


@dataclass(frozen=True)
class Disk:
    """One disk of an image. Sizes in bytes."""

    target: str
    size_bytes: int
    root_digest: str
    found_by: str
    reason: str = ""
    checkpoint: str | None = None
    bytes_read: int = 0
    bytes_sent: int = 0
    changed_bytes: int = 0
    resumed_bytes: int = 0
    reread_bytes: int = 0
    proven: Proven = field(default_factory=Proven)
    block_size: int = BLOCK_SIZE
    digest: str = ALGORITHM

    @property
    def file(self) -> str:
        return self.target + ".raw"

    @property
    def digests(self) -> str:
        return self.target + ".digests"


@dataclass(frozen=True)
class Definition:
    """One file of the machine definition: domain.xml, NVRAM, TPM state."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """manifest.json of an image on the backup storage or of a generation on the standby host."""

    id: str
    instant: str
    customer: str
    vm: str
    domain: str
    uuid: str
    epoch: int
    consistency: str
    source_host: str
    disks: list[Disk]
    definition: list[Definition]
    checkpoint: str | None = None
    skipped: list[dict[str, str]] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    bitmap_mismatches: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    published: str = ""
    schema: int = SCHEMA

    def disk(self, target: str) -> Disk | None:
        return next((disk for disk in self.disks if disk.target == target), None)

    @property
    def size_bytes(self) -> int:
        return sum(disk.size_bytes for disk in self.disks)

    def as_dict(self) -> dict[str, Any]:
        document = asdict(self)
        for entry, disk in zip(document["disks"], self.disks):
            entry["file"] = disk.file
            entry["digests"] = disk.digests
        return document

    @classmethod
    def from_dict(cls, document: Any, where: str, customer: str, vm: str) -> Manifest:
        """Check a document read from ``where`` and make it a Manifest of the VM ``customer/vm``.

        Raises ResilientVmError, naming the file and what to do, for anything that is not one.
        """
        damaged = f"{where} is not a whole manifest ({{}}); restore the file or erase the image"
        if not isinstance(document, dict):
            raise ResilientVmError(damaged.format("not a JSON object"), path=where)
        schema = document.get("schema")
        if isinstance(schema, int) and schema > SCHEMA:
            raise ResilientVmError(
                f"{where} has schema {schema} and this version reads up to {SCHEMA}; "
                "run the site playbook of the collection version that wrote it",
                path=where,
            )
        try:
            manifest = cls(
                **{
                    **_fields(cls, document),
                    "disks": [
                        Disk(
                            **{
                                **_fields(Disk, disk),
                                "proven": Proven(**_fields(Proven, disk.get("proven", {}))),
                            }
                        )
                        for disk in document["disks"]
                    ],
                    "definition": [Definition(**_fields(Definition, entry)) for entry in document["definition"]],
                }
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ResilientVmError(damaged.format(error), path=where) from error
        wrong = _first_wrong(manifest)
        if wrong:
            raise ResilientVmError(damaged.format(wrong), path=where)
        if (manifest.customer, manifest.vm) != (customer, vm):
            raise ResilientVmError(
                f"{where} belongs to {manifest.customer}/{manifest.vm}, not to {customer}/{vm}; "
                "move it where it belongs",
                path=where,
            )
        return manifest


def check_names(targets: Iterable[Any], files: Iterable[Any], where: str) -> None:
    """Names that become those of files: each machine hears them from another one, and trusts none with a path.

    Raises ResilientVmError for any other.
    """
    strange = [name for name in targets if not matches(_TARGET, name)] + [
        name for name in files if name not in DEFINITION
    ]
    if strange:
        raise ResilientVmError(f"{where} names {strange[0]!r}, which is no disk and no file of a definition")


def check_uuid(uuid: Any, where: str) -> None:
    """Raises ResilientVmError for what is no UUID as libvirt writes it."""
    if not matches(_UUID, uuid):
        raise ResilientVmError(f"{where} is of machine {uuid!r}, which is no UUID")


def check_offer(offer: dict[str, Any], peer: str) -> None:
    """What a sender says it has, before any of it is believed. Raises ResilientVmError for what can't be an image."""
    what = f"the image that {peer} offers"
    try:
        disks = [(disk["target"], disk["size_bytes"]) for disk in offer["disks"]]
        image_id, epoch, uuid, *_told = (
            offer[name] for name in ("id", "epoch", "uuid", "instant", "domain", "consistency")
        )
    except (KeyError, TypeError) as error:
        raise ResilientVmError(
            f"{what} lacks {error}; run the site playbook, so that all machines have one version"
        ) from error
    check_names([target for target, _size in disks], [], what)
    check_uuid(uuid, what)
    if len(dict(disks)) != len(disks) or not disks or not all(_is_positive(size) for _target, size in disks):
        raise ResilientVmError(f"{what} has no disks, one of them twice, or one of no size: {disks}")
    if not matches(IMAGE_ID, image_id) or not _is_positive(epoch):
        raise ResilientVmError(f"{what} has id {image_id!r} and epoch {epoch!r}, which can't be")


def matches(pattern: re.Pattern[str], value: Any) -> bool:
    """Whether a value that somebody else wrote is a text of that form."""
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and value > 0


def _fields(kind: type[Any], document: dict[str, Any]) -> dict[str, Any]:
    """The members of a document that are fields of a dataclass; a later schema's additions are ignored."""
    return {name: document[name] for name in kind.__dataclass_fields__ if name in document}


def _first_wrong(manifest: Manifest) -> str:
    """The first thing in a manifest that cannot be, or ""."""
    if manifest.schema != SCHEMA:
        return f"schema {manifest.schema!r}"
    if not matches(IMAGE_ID, manifest.id):
        return f"id {manifest.id!r}"
    if not _is_positive(manifest.epoch):
        return f"epoch {manifest.epoch!r}"
    if not matches(_UUID, manifest.uuid):
        return f"uuid {manifest.uuid!r}"
    if manifest.consistency not in ("filesystem", "crash", "offline"):
        return f"consistency {manifest.consistency!r}"
    if not manifest.disks:
        return "no disks"
    return next(filter(None, map(_wrong_in_disk, manifest.disks)), "") or next(
        (f"definition file {entry.name!r}" for entry in manifest.definition if entry.name not in DEFINITION),
        "",
    )


def _wrong_in_disk(disk: Disk) -> str:
    if not matches(_TARGET, disk.target):
        return f"disk target {disk.target!r}"
    if not _is_positive(disk.size_bytes):
        return f"size of disk {disk.target}"
    if (disk.block_size, disk.digest) != (BLOCK_SIZE, ALGORITHM):
        return f"digests of disk {disk.target}"
    if not matches(SHA256, disk.root_digest):
        return f"root digest of disk {disk.target}"
    return ""
