# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mover program as it is installed: one folder a version, a link to the one in force, a launcher.

The launcher follows the link once, at its start: a mover that runs while another version is installed
goes on with the files it began with.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._errors import ResilientVmError
from ._files import fsync_directory, fsync_tree, json_text, read_json, waited, write_atomic
from ._process import Runner

__all__ = ["Program", "pack", "sources_digest"]

_PYTHON = "/usr/bin/python3"
_PACKAGE = "resilient_vm_mover"
_LAUNCHER = """\
#!{python} -I
# Laid by edgecloud.resilient_vm
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath("{link}")))
from {package}._mover import main

sys.exit(main())
"""


def sources_digest(sources: Mapping[str, bytes]) -> str:
    """One digest over all sources, by which two machines know that they run the same program."""
    total = hashlib.sha256()
    for name in sorted(sources):
        total.update(f"{name} {len(sources[name])}\n".encode())
        total.update(sources[name])
    return total.hexdigest()


def pack(sources: Mapping[str, bytes]) -> bytes:
    """All sources as one file to carry to a machine."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(sources):
            archive.writestr(name, sources[name])
    return packed.getvalue()


def unpack(path: str) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@dataclass(frozen=True)
class Program:
    """The program of these settings (``version.json``: who this machine is and where things lie) on this machine."""

    settings: Mapping[str, Any]
    library: str = "/usr/local/lib/resilient-vm"
    launcher: str = "/usr/local/bin/resilient-vm"

    @property
    def _link(self) -> str:
        return os.path.join(self.library, _PACKAGE)

    @property
    def _version(self) -> str:
        """Name of this version's folder; other settings are another version."""
        digest = hashlib.sha256(json.dumps(dict(self.settings), sort_keys=True).encode())
        return f"{self.settings['collection']}-{digest.hexdigest()[:12]}"

    @property
    def _launcher_text(self) -> str:
        return _LAUNCHER.format(python=_PYTHON, link=self._link, package=_PACKAGE)

    def found(self) -> dict[str, Any] | None:
        """Settings of the program in force, or None when there is none, or not all of it."""
        try:
            with open(self.launcher, encoding="utf-8") as stream:
                whole = stream.read() == self._launcher_text
            whole = whole and stat.S_IMODE(os.stat(self.launcher).st_mode) == 0o755
        except FileNotFoundError:
            return None
        document = read_json(os.path.join(self._link, "version.json")) if whole else None
        return document if document is not None and self._sources_in_force() == document.get("sources") else None

    def _sources_in_force(self) -> str:
        """What is imported only when it is needed may be damaged without anybody noticing."""
        found = {}
        for name in sorted(os.listdir(self._link)):
            if name.endswith(".py") and name != "__init__.py":
                with open(os.path.join(self._link, name), "rb") as stream:
                    found[name] = stream.read()
        return sources_digest(found)

    def install(self, archive: str, run: Runner) -> None:
        """Put this version in force; the one before it stays, for movers that still run."""
        sources = unpack(archive)
        if sources_digest(sources) != self.settings["sources"]:
            raise ResilientVmError("the mover's sources were damaged on their way to this machine; run again")
        # Runs for several customers may come at once; all others have but to see that one has done it.
        with waited(os.path.join(self.library, "install.lock")):
            if self.found() != self.settings:
                self._install(sources, run)

    def _install(self, sources: Mapping[str, bytes], run: Runner) -> None:
        before = os.path.realpath(self._link)
        versions = os.path.join(self.library, "versions")
        place = os.path.join(versions, self._version)
        os.makedirs(versions, exist_ok=True)
        for folder in (self.library, versions):
            os.chmod(folder, 0o755)
        part, gone = place + ".part", place + ".gone"
        for leftover in (part, gone):
            if os.path.lexists(leftover):
                shutil.rmtree(leftover)
        self._write(os.path.join(part, _PACKAGE), sources, run)
        fsync_tree(part)
        if os.path.lexists(place):
            # Damaged, and perhaps in force: not before the new one is ready.
            os.rename(place, gone)
        os.rename(part, place)
        self._point_to(os.path.join("versions", self._version, _PACKAGE))
        os.makedirs(os.path.dirname(self.launcher), exist_ok=True)
        write_atomic(self.launcher, self._launcher_text.encode(), 0o755)
        for name in os.listdir(versions):
            other = os.path.join(versions, name)
            if other not in (place, os.path.dirname(before)):
                shutil.rmtree(other)

    def _write(self, package: str, sources: Mapping[str, bytes], run: Runner) -> None:
        os.makedirs(package)
        for name, content in {"__init__.py": b"", **sources, "version.json": json_text(dict(self.settings))}.items():
            path = os.path.join(package, name)
            with open(path, "xb") as stream:
                stream.write(content)
            os.chmod(path, 0o644)
        # Now, by root: the accounts could not, and root's later runs would leave files behind.
        run([_PYTHON, "-I", "-m", "compileall", "-q", package])
        for folder, _folders, names in os.walk(os.path.dirname(package)):
            os.chmod(folder, 0o755)
            for name in names:
                os.chmod(os.path.join(folder, name), 0o644)

    def _point_to(self, target: str) -> None:
        beside = self._link + ".part"
        if os.path.lexists(beside):
            os.unlink(beside)
        os.symlink(target, beside)
        os.rename(beside, self._link)
        fsync_directory(self.library)
