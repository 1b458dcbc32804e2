# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Pythons of this machine, and which ansible-core each can carry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Carrier", "Python", "ask", "carriers", "find", "newest_core"]

# ansible-core and the minors of Python 3 that its control node takes, oldest first. The collection
# promises the first; a new release of ansible-core is taken by adding its row.
CORES: tuple[tuple[str, range], ...] = (
    ("2.16", range(10, 13)),
    ("2.17", range(10, 13)),
    ("2.18", range(11, 14)),
    ("2.19", range(11, 14)),
    ("2.20", range(12, 15)),
    ("2.21", range(12, 15)),
)

_QUESTION = """
import importlib.util, json, sys
base = getattr(sys, "_base_executable", sys.executable)
answer = [base, list(sys.version_info[:2]), importlib.util.find_spec("ensurepip") is not None]
print(json.dumps(answer))
"""


@dataclass(frozen=True)
class Python:
    """An interpreter on this machine."""

    path: Path
    minor: int
    has_ensurepip: bool

    @property
    def version(self) -> str:
        return f"3.{self.minor}"


@dataclass(frozen=True)
class Carrier:
    """An ansible-core and the Python it is to run on."""

    core: str
    python: Python

    def __str__(self) -> str:
        return f"ansible-core {self.core} on Python {self.python.version}"


def ask(path: Path) -> Python | None:
    """What the interpreter says of itself; None when it is not a Python 3 that starts."""
    try:
        answer = subprocess.run([path, "-I", "-c", _QUESTION], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None  # a shim of a version that is switched off, or a broken installation
    executable, (major, minor), has_ensurepip = json.loads(answer.stdout)
    return Python(Path(executable), minor, has_ensurepip) if major == 3 else None


def _candidates() -> Iterator[Path]:
    names = [f"python3.{minor}" for minor in range(8, 20)]
    folders = [Path(folder) for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder]
    folders += sorted(Path.home().glob(".pyenv/versions/*/bin"))
    for folder in folders:
        if folder.name == "shims":
            continue  # slow, and what they lead to stands under versions/
        for name in names:
            if (folder / name).exists():
                yield folder / name


def find() -> list[Python]:
    """One interpreter for each minor version, oldest first; this process's own is preferred."""
    found: dict[int, Python] = {}
    asked: set[Path] = set()
    for candidate in [Path(sys.executable), *_candidates()]:
        real = candidate.resolve()
        python = None if real in asked else ask(candidate)
        asked.add(real)
        if not python:
            continue
        known = found.get(python.minor)
        if not known or (python.has_ensurepip and not known.has_ensurepip):
            found[python.minor] = python
    return [found[minor] for minor in sorted(found)]


def newest_core(minor: int, cores: Sequence[tuple[str, range]] = CORES) -> str | None:
    """The newest ansible-core whose control node takes this Python."""
    return next((core for core, minors in reversed(cores) if minor in minors), None)


def carriers(
    pythons: Iterable[Python], cores: Sequence[tuple[str, range]] = CORES
) -> tuple[Carrier | None, Carrier | None]:
    """The oldest ansible-core on its oldest Python and the newest on its newest, of those that can run."""
    usable = sorted((python for python in pythons if python.has_ensurepip), key=lambda each: each.minor)

    def of(core: str, minors: range) -> list[Carrier]:
        return [Carrier(core, python) for python in usable if python.minor in minors]

    possible = [found for core, minors in cores if (found := of(core, minors))]
    return (possible[0][0], possible[-1][-1]) if possible else (None, None)
