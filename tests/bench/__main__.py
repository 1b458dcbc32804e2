# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the benchmarks; see --help."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from integration.world import ROOT, World

from . import report
from .cases import Case, Figures, choices
from .cases.every import CASES
from .machines import Bench

_STATE = ROOT / ".dev/lab-bench"
_FIGURES = ROOT / "tests/bench/figures.json"
_PAGE = ROOT / "docs/performance.md"
_CHOICES = ROOT / "tests/bench/choices.json"
_CHOICES_PAGE = ROOT / "docs/choices.md"


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    keys = [ratio.key for ratio in report.RATIOS]
    parser = argparse.ArgumentParser(
        prog="tests/bench/run", description="Ours beside the tools one would otherwise use."
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--only", nargs="+", choices=keys, metavar="KEY", help=f"of {', '.join(keys)}")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="repetitions of each case (5)")
    parser.add_argument("--size", type=int, default=4096, metavar="MIB", help="size of the disk (4096)")
    parser.add_argument("--vms", type=int, default=100, metavar="N", help="how many stopped machines at once (100)")
    parser.add_argument("--page", action="store_true", help="write docs/performance.md and the figures it shows")
    parser.add_argument(
        "--choices", action="store_true", help="what the engine's constants rest on, and docs/choices.md"
    )
    parser.add_argument("--keep", action="store_true", help="use machines that are there, and leave them running")
    chosen = parser.parse_args(arguments)
    if chosen.repeat < 1 or chosen.size < 64:
        parser.error("--repeat is at least 1, --size at least 64")
    if chosen.vms < 2:
        parser.error("--vms is at least 2")
    if chosen.page and chosen.only:
        parser.error("--page shows all figures; run it without --only")
    if chosen.choices and (chosen.page or chosen.only):
        parser.error("--choices is a run of its own; run it without --page and --only")
    return chosen


def chosen_cases(only: Sequence[str] | None) -> list[Case]:
    wanted = {ratio.case for ratio in report.RATIOS if only is None or ratio.key in only}
    return [case for case in CASES if case.name in wanted]


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def run_case(bench: Bench, case: Case, repetitions: int) -> dict[str, list[Figures]]:
    """All repetitions of a case: contestant -> a set of figures a repetition."""
    bench.clean()
    bench.only_running([] if case.stopped else case.guests(bench))
    if case.prepare is not None:
        case.prepare(bench)
    found: dict[str, list[Figures]] = {}
    for repetition in range(min(repetitions, case.repetitions)):
        measured = case.measure(bench, repetition)
        for contestant in measured if repetition == 0 else found:
            found.setdefault(contestant, []).append(measured[contestant])
        told = ", ".join(f"{name} {next(iter(figures.values())):.3g}" for name, figures in measured.items())
        say(f"{case.name} {repetition + 1}: {told}")
    return found


def measure(bench: Bench, cases: Sequence[Case], repetitions: int) -> dict[str, Any]:
    load = os.getloadavg()[0]
    # A host asks every minute about each VM that it has: 100 more of them would be measured everywhere else.
    guests = {guest.name: guest for case in cases if not case.stopped for guest in case.guests(bench)}
    say(f"making {len(guests)} guests and protecting them")
    bench.make(list(guests.values()))
    runs = {}
    for case in cases:
        began = time.monotonic()
        if case.stopped:
            bench.make(case.guests(bench))
        runs[case.name] = run_case(bench, case, repetitions)
        say(f"{case.name}: {time.monotonic() - began:.0f} s")
    facts = {
        **bench.facts(),
        "date": datetime.now(UTC).date().isoformat(),
        "processors": os.cpu_count(),
        "load": load,
        "size_mib": bench.size_mib,
    }
    titles = {case.name: case.title for case in cases}
    reasons = {case.name: case.why for case in cases if case.why}
    return {"ratios": report.ratios(runs), "runs": runs, "titles": titles, "reasons": reasons, "facts": facts}


def main() -> int:
    chosen = options()
    world = World(_STATE)
    if not chosen.keep:
        world.lab("destroy")
    bench = Bench(world, chosen.size, vms=chosen.vms)
    try:
        bench.up()
        document = measure(bench, choices.CASES if chosen.choices else chosen_cases(chosen.only), chosen.repeat)
    finally:
        bench.close()
        if not chosen.keep:
            world.lab("destroy")
    text = report.laid_out(document)
    if chosen.json:
        chosen.json.write_text(text)
    if chosen.page:
        _FIGURES.write_text(text)
        _PAGE.write_text(report.page(document))
    if chosen.choices:
        _CHOICES.write_text(text)
        _CHOICES_PAGE.write_text(report.choices_page(document))
    print("\n".join([*report.table(document["runs"]), *report.details(document)]))
    return 0


sys.exit(main())
