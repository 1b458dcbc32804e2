# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a VM: who changed what, why, and on which evidence. Only ever appended to; each entry names the one
before it by its digest, so that none can be altered, taken out or put in unseen.

What a chain can't show is that its last entries were cut off; the backup storage and the hosts each keep one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ._clock import iso
from ._errors import ResilientVmError
from ._files import fsync_directory

__all__ = ["append", "entry", "last", "read"]

_FIRST = "0" * 64


def entry(
    when: datetime, who: str, what: str, why: str, epoch: int, active: str, evidence: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What one change of a VM's state says of itself."""
    return {
        "when": iso(when),
        "who": who,
        "what": what,
        "why": why,
        "epoch": epoch,
        "active": active,
        "evidence": dict(evidence or {}),
    }


def read(path: str) -> list[dict[str, Any]]:
    """All entries, oldest first. Raises ResilientVmError for the first one that isn't what its successor names.

    A last line without an end is what a power cut left of an entry: it was never written, and is passed over.
    """
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(_lines(path), 1):
        found = _parsed(line)
        before = entries[-1]["digest"] if entries else _FIRST
        if found is None or (found["number"], found["previous"]) != (number, before):
            raise ResilientVmError(
                f"{path} was altered: line {number} is not what was written there; keep it for whoever asks, compare "
                "it with the other machines' journals, and move it aside",
                path=path,
            )
        entries.append(found)
    return entries


def last(path: str, what: str) -> dict[str, Any] | None:
    """The last entry of that kind which is as it was written, to be told; the chain before it is not looked at."""
    entries = (_parsed(line) for line in reversed(_lines(path)) if what.encode() in line)
    return next((entry for entry in entries if entry and entry["what"] == what), None)


def append(path: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """Add an entry, on the disk when this returns. The caller holds the VM's lock."""
    entries = read(path)
    link = {"number": len(entries) + 1, "previous": entries[-1]["digest"] if entries else _FIRST}
    new = {**said, **link}
    new["digest"] = _digest(new)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o640)
    try:
        folder = os.stat(os.path.dirname(path))
        # Root's, and readable to the VM's account, as the folder is.
        os.fchown(descriptor, folder.st_uid, folder.st_gid)
        size = os.fstat(descriptor).st_size
        whole = os.pread(descriptor, size, 0).rfind(b"\n") + 1
        os.ftruncate(descriptor, whole)
        os.pwrite(descriptor, (json.dumps(new, sort_keys=True) + "\n").encode(), whole)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fsync_directory(os.path.dirname(path))
    return new


def _lines(path: str) -> list[bytes]:
    """Those that have an end; none where there is no journal yet."""
    try:
        with open(path, "rb") as stream:
            return stream.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def _digest(said: Mapping[str, Any]) -> str:
    plain = {name: value for name, value in said.items() if name != "digest"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, dict) or not {"number", "previous", "digest"} <= set(found):
        return None
    return found if found["digest"] == _digest(found) else None
