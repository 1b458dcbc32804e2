# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of this house that no linter knows: short files, licence headers, nothing that ties it to a machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from .places import ROOT

__all__ = ["forbidden_words", "headers", "long_files"]

MAX_LINES = 400
SHORT = ("plugins/", "roles/", "playbooks/", "tests/bench/", "tests/lab/", "tests/unit/", "tests/tools/")

# Written in parts, so that this file does not find itself.
_HOSTS = [
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("registry", "npmjs", "org"),
    ("crates", "io"),
    ("proxy", "golang", "org"),
    ("deb", "debian", "org"),
    ("security", "debian", "org"),
    ("ftp", "debian", "org"),
    ("snapshot", "debian", "org"),
    ("archive", "ubuntu", "com"),
    ("security", "ubuntu", "com"),
    ("docker", "io"),
    ("ghcr", "io"),
    ("quay", "io"),
    ("galaxy", "ansible", "com"),
]
# Folders where people and build machines keep their checkouts and Pythons
_FOLDERS = [("", "work", ""), ("", "builds", ""), ("", "workspace", ""), ("", "Users", ""), ("", "root", ".pyenv")]

_SPDX = "SPDX-License-Identifier: GPL-3.0-or-later"
_SOURCE_SUFFIXES = {".cfg", ".j2", ".py", ".service", ".sh", ".timer", ".toml", ".yaml", ".yml"}
# What this writes is read where it comes from.
_WRITTEN = "# Written by tests/tools/settings.py"
# The changelog's tool writes them anew.
_GENERATED = ("changelogs/changelog.yaml",)


def _text(name: str, root: Path) -> str | None:
    """The file's text; None for a link and for what is no text."""
    path = root / name
    if path.is_symlink() or not path.is_file():
        return None
    data = path.read_bytes()
    if b"\0" in data:
        return None
    return data.decode(errors="replace")


def long_files(names: Iterable[str], root: Path = ROOT) -> Iterator[str]:
    """A sentence for each file that has grown beyond what one reads in one go."""
    for name in names:
        text = _text(name, root) if name.startswith(SHORT) else None
        if text is not None and _WRITTEN not in text[:500] and (lines := text.count("\n")) > MAX_LINES:
            yield f"{name} has {lines} lines, and {MAX_LINES} is the limit; split it by concern"


def _forbidden(root: Path) -> re.Pattern[str]:
    hosts = "|".join(re.escape(".".join(parts)) for parts in _HOSTS)
    paths = [re.escape("/".join(parts)) for parts in _FOLDERS] + ["/".join(("", "home", r"\w+", ""))]
    # A shallow path such as /src may stand in a file for good reasons.
    paths += [re.escape(str(path)) + r"(?![\w-])" for path in (root, Path.home()) if len(path.parts) > 2]
    return re.compile(rf"(?<![\w-])(?:[\w-]+\.)*(?:{hosts})(?![\w-])|(?<![\w.-])(?:{'|'.join(paths)})")


def forbidden_words(names: Iterable[str], root: Path = ROOT) -> Iterator[str]:
    """A sentence for each place that names a registry's host or a path of one machine."""
    forbidden = _forbidden(root)
    for name in names:
        for number, line in enumerate((_text(name, root) or "").splitlines(), start=1):
            for found in forbidden.finditer(line):
                yield f"{name}:{number} names {found.group()}, which exists on one machine or network only"


def headers(names: Iterable[str], root: Path = ROOT) -> Iterator[str]:
    """A sentence for each source file without its licence."""
    for name in names:
        text = _text(name, root)
        if not text or name in _GENERATED:
            continue
        source = Path(name).suffix in _SOURCE_SUFFIXES or text.startswith("#!")
        if source and _SPDX not in text[:1000]:
            yield f"{name} lacks the line {_SPDX!r} near its top"
