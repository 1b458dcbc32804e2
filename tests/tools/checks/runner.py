# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs stages side by side, tells of each as it ends, and sums them up."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from .job import Job, StageFailed, Totals, end_all

__all__ = ["Result", "Stage", "run_all", "summary"]

MINUTE = 60.0


@dataclass(frozen=True)
class Stage:
    """Something that is green or red. It starts when the stages of ``needs`` are green."""

    name: str
    work: Callable[[Job], object]
    needs: tuple[str, ...] = ()
    minutes: float = 15
    # Alone on the machine, its words shown as they come
    live: bool = False
    # A set-up adds to the closing line only when it fails.
    counted: bool = True


@dataclass
class Result:
    """How a stage went."""

    stage: Stage
    seconds: float
    totals: Totals
    why: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def green(self) -> bool:
        return not self.totals.failed


def _perform(stage: Stage, deadline: float) -> tuple[Result, str]:
    started = time.monotonic()
    job = Job(stage.name, min(deadline, started + stage.minutes * MINUTE), stage.live)
    why = ""
    if stage.live:
        print(f"\n=== {stage.name}", flush=True)
    try:
        if started >= deadline:
            raise StageFailed("no time was left for it")
        stage.work(job)
    except StageFailed as failure:
        why = str(failure)
    except Exception as error:  # noqa: BLE001 - whatever a stage dies of, it is red and the others go on
        why = f"{type(error).__name__}: {error}"
    totals = job.totals or Totals(passed=int(stage.counted and not why))
    if why and not totals.failed:
        totals.failed = 1
    return Result(stage, time.monotonic() - started, totals, why, job.notes), job.output()


def _heading(result: Result) -> str:
    word = "passed" if result.green else "FAILED"
    counts = f" ({result.totals})" if result.totals.passed + result.totals.failed > 1 else ""
    return f"=== {result.stage.name}: {word} in {result.seconds:.1f} s{counts}"


class _Board:
    """Which stages wait, run and have ended; shared by the workers."""

    def __init__(self, stages: Sequence[Stage], deadline: float) -> None:
        self.waiting = list(stages)
        self.results: dict[str, Result] = {}
        self.deadline = deadline
        self.changed = threading.Condition()

    def take(self) -> Stage | None:
        """The next stage that can start; waits for one, and is None when none is left."""
        with self.changed:
            while self.waiting:
                for stage in self.waiting:
                    if all(name in self.results for name in stage.needs):
                        self.waiting.remove(stage)
                        return stage
                self.changed.wait()
            return None

    def done(self, result: Result, output: str) -> None:
        with self.changed:
            self.results[result.stage.name] = result
            print(_heading(result), flush=True)
            if not result.green:
                if not result.stage.live:
                    sys.stdout.write(output)
                print(f"    {result.why}", flush=True)
            self.changed.notify_all()

    def work(self) -> None:
        while stage := self.take():
            red = [name for name in stage.needs if not self.results[name].green]
            if red:
                self.done(Result(stage, 0.0, Totals(failed=1), f"could not start: {red[0]} failed"), "")
            else:
                self.done(*_perform(stage, self.deadline))


def run_all(stages: Sequence[Stage], deadline: float) -> list[Result]:
    """Run them all, at most one for each processor at a time; live ones alone and at the end, in their order."""
    board = _Board([stage for stage in stages if not stage.live], deadline)
    workers = [threading.Thread(target=board.work, daemon=True) for _each in range(max(2, min(os.cpu_count() or 1, 4)))]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        board.waiting = [stage for stage in stages if stage.live]
        board.work()
    except KeyboardInterrupt:
        board.waiting.clear()
        end_all()
        raise
    return [board.results[stage.name] for stage in stages]


def summary(results: Iterable[Result], not_run: Iterable[str]) -> Totals:
    """Print one line a stage, what could not run, and the closing line."""
    total = Totals()
    print("\n=== Summary")
    for result in results:
        word = "passed" if result.green else "FAILED"
        counts = f": {result.totals}" if result.totals.passed + result.totals.failed > 1 else ""
        print(f"{word} {result.seconds:7.1f} s  {result.stage.name}{counts}")
        for note in result.notes:
            print(f"{'':17} {note}")
        total.passed += result.totals.passed
        total.failed += result.totals.failed
    for sentence in not_run:
        print(f"not run: {sentence}")
    print(f"{total.passed} passed, {total.failed} failed", flush=True)
    return total
