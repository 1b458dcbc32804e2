# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual environments in .dev, built once and again when what they are made of changes."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .job import Job, StageFailed
from .places import DEV, ROOT
from .pythons import Python, ask

__all__ = ["Environment", "ensure_packages"]

# Programs that tests and tools call, and the Debian packages that bring them
_PROGRAMS = {"git": "git", "ssh-keygen": "openssh-client"}


def ensure_packages(job: Job, python: Python) -> None:
    """Install what the fast part needs and a bare Debian lacks."""
    missing = [package for program, package in _PROGRAMS.items() if not shutil.which(program)]
    if not python.has_ensurepip:
        missing.append(f"python{python.version}-venv")
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise StageFailed(f"this machine lacks {' and '.join(missing)}; install it, or run ./test as root on Debian")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    job.run(["apt-get", "update", "-q"], env=quiet)
    job.run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing], env=quiet)
    after = ask(python.path)
    if not after or not after.has_ensurepip:
        raise StageFailed(f"{python.path} still cannot build a virtual environment; install its ensurepip module")


@dataclass(frozen=True)
class Environment:
    """A Python with an ansible-core and the packages of some requirement files."""

    name: str
    python: Python
    core: str
    requirements: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return DEV / f"venv-{self.name}"

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    def _recipe(self) -> str:
        """Changes when the environment must be built again; a moved checkout counts, its scripts name its path."""
        wanted = hashlib.sha256(f"{self.folder} {self.python.path} {self.python.version} {self.core}".encode())
        for name in self.requirements:
            wanted.update((ROOT / "tests" / name).read_bytes())
        return wanted.hexdigest()

    def build(self, job: Job) -> None:
        stamp = self.folder / "recipe"
        recipe = self._recipe()
        if stamp.exists() and stamp.read_text() == recipe:
            job.say(f"{self.folder} is up to date")
            return
        if self.folder.exists():
            shutil.rmtree(self.folder)
        job.run([self.python.path, "-m", "venv", self.folder])
        files = [word for name in self.requirements for word in ("-r", str(ROOT / "tests" / name))]
        # Most of what is installed is never imported; Python compiles the rest when it is.
        pip: list[str | Path] = [self.bin / "python", "-m", "pip", "install", "-q", "--no-compile"]
        job.run([*pip, f"ansible-core~={self.core}.0", *files])
        # Last, so that a set-up that was ended half-way starts again.
        stamp.write_text(recipe)
