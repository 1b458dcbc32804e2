# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ./test."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NoReturn

from . import lab
from .environments import Environment
from .fast import Fast, packages
from .job import StageFailed
from .places import DEV
from .pythons import find
from .runner import Stage, run_all, summary

_DESCRIPTION = "Check the collection. Without an option: the fast part, then the tests on the lab's machines."


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    usage = "./test [--fast | --lab | --soak] [--only WORD]… [--minutes N] [-- PYTEST ARGUMENTS]"
    parser = argparse.ArgumentParser(prog="./test", usage=usage, description=_DESCRIPTION)
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--fast", action="store_true", help="lint, sanity and units, in three minutes; needs no lab")
    part.add_argument("--lab", action="store_true", help="only the tests on the lab's machines; needs root")
    part.add_argument("--soak", action="store_true", help="only the long campaigns")
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="only stages with WORD in the name")
    parser.add_argument("--minutes", type=float, default=24 * 60, metavar="N", help="red after N minutes")
    own, extra = list(argv), []
    if "--" in own:
        cut = own.index("--")
        own, extra = own[:cut], own[cut + 1 :]
    options = parser.parse_args(own)
    options.pytest = extra
    return options


@contextlib.contextmanager
def _alone(part: str) -> Iterator[None]:
    """Two runs of one part in the same checkout would pull the ground from under each other."""
    DEV.mkdir(exist_ok=True)
    with (DEV / f"{part}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another ./test works in this checkout; waiting for its end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _chosen(stages: Sequence[Stage], words: Sequence[str]) -> list[Stage]:
    """The stages with one of the words in their names, and what they need."""
    if not words:
        return list(stages)
    by_name = {stage.name: stage for stage in stages}
    wanted: set[str] = set()
    more = [stage.name for stage in stages if any(word in stage.name for word in words)]
    if not more:
        raise StageFailed(f"no stage has {' or '.join(words)} in its name; there are: {', '.join(by_name)}")
    while more:
        name = more.pop()
        wanted.add(name)
        more += by_name[name].needs
    return [stage for stage in stages if stage.name in wanted]


def _merged(stages: Sequence[Stage]) -> list[Stage]:
    """Without the set-ups that stand there twice."""
    return list({stage.name: stage for stage in stages}.values())


def _run(options: argparse.Namespace) -> int:
    deadline = time.monotonic() + options.minutes * 60
    pythons = find()
    mine = next(python for python in pythons if python.minor == sys.version_info.minor)
    # Where it can't build environments, the first stage installs what it lacks.
    able = [replace(python, has_ensurepip=True) if python is mine else python for python in pythons]
    fast = Fast.on(able, mine, options.pytest, quick=options.fast)
    environment = Environment("lab", mine, fast.main.core, ("requirements-lab.txt",))
    everything = not (options.fast or options.lab or options.soak)
    stages: list[Stage] = []
    not_run: list[str] = []
    if options.fast or everything:
        stages += fast.stages()
        not_run += fast.not_run()
    if options.lab or everything:
        stages += [packages(mine), *lab.lab_stages(environment, options.pytest)]
        not_run += lab.not_there()
    if options.soak:
        stages += [packages(mine), *lab.soak_stages(environment, fast.core, options.pytest)]
    stages = _chosen(_merged(stages), options.only)
    print(f"{fast.main}, {len(stages)} stages; logs are in {DEV / 'logs'}", flush=True)
    totals = summary(run_all(stages, deadline), [] if options.only else not_run)
    return 1 if totals.failed or not totals.passed else 0


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main(argv: Sequence[str]) -> int:
    options = _arguments(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        with contextlib.ExitStack() as locks:
            for part in ("fast", "lab"):
                if (part == "fast" and not (options.lab or options.soak)) or (part == "lab" and not options.fast):
                    locks.enter_context(_alone(part))
            return _run(options)
    except StageFailed as failure:
        print(f"./test: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("./test: interrupted", file=sys.stderr)
        return 130
