# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running other programs: lists only, and a failure is one sentence with what the program said."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .config import LabError

__all__ = ["PLAIN_ENVIRONMENT", "log", "run", "succeeds", "until", "write_file"]

Argument = str | os.PathLike[str]
# A box's own settings (locale, a Python of its own) must not change what programs print or find.
PLAIN_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


def log(message: str) -> None:
    """Tell the person what takes time; standard output belongs to results."""
    print(f"lab: {message}", file=sys.stderr, flush=True)


def environment() -> dict[str, str]:
    """Return the plain environment plus what the box needs to reach its package mirror."""
    kept = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return {**kept, **PLAIN_ENVIRONMENT}


def run(
    argv: Sequence[Argument], *, stdin: str | None = None, check: bool = True, name: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it printed; ``name`` stands for it in the sentence about a failure."""
    words = [os.fspath(word) for word in argv]
    done = subprocess.run(
        words, input=stdin or "", capture_output=True, text=True, errors="replace", env=environment(), check=False
    )
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()
        raise LabError(f"{name or shlex.join(words[:12])} failed ({done.returncode}): {' / '.join(said[-5:])}")
    return done


def succeeds(argv: Sequence[Argument]) -> bool:
    """Return whether a program ends well."""
    return run(argv, check=False).returncode == 0


def until(condition: Callable[[], bool], *, seconds: float, pause: float = 0.05) -> bool:
    """Wait for a condition, and return whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def write_file(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file whole: a reader sees the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.chmod(mode)
    part.rename(path)
