# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a program: a list of words, the C locale, a limit of time, and one kind of error."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable

from ._errors import ResilientVmError

__all__ = ["Completed", "Runner", "run"]


@dataclass(frozen=True)
class Completed:
    """What a program left behind."""

    code: int
    stdout: str
    stderr: str


# How a room is given the world: anything called with (argv, timeout_seconds, check).
Runner = Callable[..., Completed]


def run(argv: Sequence[str], timeout_seconds: float = 60.0, check: bool = True, stdin: str | None = None) -> Completed:
    """Run argv to its end.

    Raises ResilientVmError when the program is absent, runs over its time, or (with check) exits non-zero.
    """
    # Messages are read by people and sometimes by us: never in the host's own language.
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": "C"}
    try:
        # Serves the mover as well, where there is no module whose run_command could be called.
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            list(argv),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_seconds,
            env=environment,
            check=False,
        )
    except FileNotFoundError as error:
        raise ResilientVmError(
            f"program {argv[0]} is not on this machine; run the site playbook", argv=list(argv)
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ResilientVmError(
            f"{shlex.join(argv)} did not end within {timeout_seconds:g} seconds", argv=list(argv)
        ) from error
    if check and done.returncode != 0:
        reason = done.stderr.strip() or done.stdout.strip() or "no message"
        raise ResilientVmError(f"{shlex.join(argv)} failed: {reason}", argv=list(argv), code=done.returncode)
    return Completed(done.returncode, done.stdout, done.stderr)
