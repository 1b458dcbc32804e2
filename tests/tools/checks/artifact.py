# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The artifact that Galaxy would get: it builds, holds what users need and nothing of a checkout."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["contents", "problems"]

# What a user of the installed collection runs or reads
_WANTED = {
    "CHANGELOG.rst",
    "LICENSE",
    "README.md",
    "changelogs",
    "docs",
    "extensions",
    "inventory.example",
    "meta",
    "playbooks",
    "plugins",
    "roles",
}
_WHOLE = ("meta/", "playbooks/", "plugins/", "roles/")
_METADATA = {"FILES.json", "MANIFEST.json"}


def contents(artifact: Path) -> list[str]:
    """The names of the files in the artifact, and that its own list agrees."""
    with tarfile.open(artifact) as tar:
        names = [member.name for member in tar.getmembers() if not member.isdir()]
        listed = tar.extractfile("FILES.json")
        assert listed is not None
        files = [entry["name"] for entry in json.load(listed)["files"] if entry["ftype"] == "file"]
    return sorted({*names, *files} - _METADATA)


def problems(inside: Iterable[str], checkout: Iterable[str]) -> Iterator[str]:
    """A sentence for each file that is in the artifact or missing from it by mistake."""
    names = set(inside)
    for name in sorted(names):
        if name.split("/")[0] not in _WANTED or name.startswith("extensions/molecule/"):
            yield f"{name} is in the artifact; add it to build_ignore in galaxy.yml or to the list of what is wanted"
    for name in checkout:
        if name.startswith(_WHOLE) and name not in names:
            yield f"{name} is missing from the artifact; a pattern of build_ignore in galaxy.yml takes too much"
