# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One stage at work: its programs, its log, its time limit and what it counted."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from .places import DEV, ROOT

__all__ = ["Job", "StageFailed", "Totals", "end_all", "totals_of"]

_LOCK = threading.Lock()
_RUNNING: set[int] = set()


class StageFailed(Exception):
    """A stage is red; the words, if any, say more than its log does."""


@dataclass
class Totals:
    """What a stage adds to the closing line."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


def totals_of(junit: Path) -> Totals:
    """Count the test cases of a pytest report; an error in set-up or tear-down is a failure."""
    totals = Totals()
    worst: dict[tuple[str | None, str | None], str] = {}
    rank = ["passed", "skipped", "failed"]
    for case in ElementTree.parse(junit).iter("testcase"):
        kinds = {child.tag for child in case}
        verdict = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        # pytest reports a test that fails and whose tear-down fails too as two cases.
        key = (case.get("classname"), case.get("name"))
        worst[key] = max(worst.get(key, "passed"), verdict, key=rank.index)
    for verdict in worst.values():
        setattr(totals, verdict, getattr(totals, verdict) + 1)
    return totals


def _environment() -> dict[str, str]:
    """This process's environment without what would make a run differ from the next machine's."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHON"))}
    ours.pop("VIRTUAL_ENV", None)
    # ansible wants a UTF-8 locale, and a bare machine has none set.
    return {**ours, "LC_ALL": "C.UTF-8", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}


def _gone(group: int, seconds: float) -> bool:
    """Whether every process of the group ended within that time."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def _end(group: int) -> None:
    """Ask the program, as Ctrl-C would, so that pytest can take its machines down and report; then insist."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(group, signal.SIGINT)
        if not _gone(group, 40):
            os.killpg(group, signal.SIGTERM)
        if not _gone(group, 5):
            os.killpg(group, signal.SIGKILL)


def end_all() -> None:
    """End every program that a stage runs right now."""
    with _LOCK:
        groups = list(_RUNNING)
    for group in groups:
        _end(group)


@dataclass
class Job:
    """Runs a stage's programs one after the other, each one's words into the stage's log."""

    name: str
    deadline: float
    live: bool = False
    totals: Totals | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        file = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in self.name)
        self.log = DEV / "logs" / f"{file}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")

    def say(self, text: str) -> None:
        with self.log.open("a") as log:
            log.write(text + "\n")
        if self.live:
            print(text, flush=True)

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path = ROOT,
        path: Sequence[Path] = (),
        env: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> int:
        """Run a program to its end; ``path`` goes in front of PATH. Red when it fails, unless ``check`` is False."""
        environment = _environment()
        environment["PATH"] = os.pathsep.join([*map(str, path), environment.get("PATH", os.defpath)])
        environment.update(env or {})
        words = [str(word) for word in argv]
        self.say(f"$ {shlex.join(words)}")
        with self._started(words, cwd, environment) as process:
            code = process.wait()
        if time.monotonic() >= self.deadline:
            raise StageFailed(f"ended at the time limit: {shlex.join(words)}")
        if check and code != 0:
            raise StageFailed(f"exit code {code}: {shlex.join(words)}")
        return code

    @contextlib.contextmanager
    def _started(self, words: list[str], cwd: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
        left = max(self.deadline - time.monotonic(), 0.1)
        with self.log.open("ab") as log:
            # A session of its own, so that its children end with it.
            process = subprocess.Popen(
                words,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if self.live else log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            limit = threading.Timer(left, _end, [process.pid])
            limit.daemon = True
            limit.start()
            with _LOCK:
                _RUNNING.add(process.pid)
            try:
                for line in process.stdout or ():
                    log.write(line)
                    sys.stdout.buffer.write(line)
                    sys.stdout.flush()
                yield process
            except BaseException:  # interrupted in the middle of its work
                _end(process.pid)
                raise
            finally:
                limit.cancel()
                with _LOCK:
                    _RUNNING.discard(process.pid)
