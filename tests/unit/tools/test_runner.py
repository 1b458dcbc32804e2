# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How stages are run, counted and summed up."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest
from tools.checks import job as jobs
from tools.checks.job import Job, StageFailed, Totals, totals_of
from tools.checks.main import _chosen
from tools.checks.runner import Stage, run_all, summary

REPORT = """<testsuites><testsuite name="pytest">
<testcase classname="a" name="good"/>
<testcase classname="a" name="bad"><failure message="no"/></testcase>
<testcase classname="a" name="left out"><skipped message="why"/></testcase>
<testcase classname="a" name="no set-up"><error message="no"/></testcase>
<testcase classname="a" name="bad and then worse"><failure message="no"/></testcase>
<testcase classname="a" name="bad and then worse"><error message="no"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture(autouse=True)
def logs_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jobs, "DEV", tmp_path)


def soon(seconds: float = 60) -> float:
    return time.monotonic() + seconds


def lives(pid: int) -> bool:
    """Whether the process still runs; one that ended and that nobody asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_report_is_counted_by_test_and_not_by_line(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    assert totals_of(tmp_path / "report.xml") == Totals(passed=1, failed=3, skipped=1)


def test_a_program_that_fails_makes_the_stage_red(capsys: pytest.CaptureFixture[str]) -> None:
    stages = [
        Stage("good", lambda job: job.run([sys.executable, "-c", "print('hidden')"])),
        Stage("bad", lambda job: job.run([sys.executable, "-c", "print('shown'); raise SystemExit(3)"])),
    ]
    results = run_all(stages, soon())
    assert [result.green for result in results] == [True, False]
    printed = capsys.readouterr().out
    assert "hidden" not in printed
    assert "shown" in printed
    assert "exit code 3" in printed


def test_whatever_a_stage_dies_of_is_its_own_failure() -> None:
    def dies(_job: Job) -> None:
        raise KeyError("surprise")

    (result,) = run_all([Stage("dies", dies)], soon())
    assert (result.totals.failed, result.why) == (1, "KeyError: 'surprise'")


def test_what_needs_a_red_stage_is_red_without_being_started() -> None:
    ran = []

    def fails(_job: Job) -> None:
        raise StageFailed("no room")

    stages = [Stage("first", fails, counted=False), Stage("second", ran.append, needs=("first",))]
    first, second = run_all(stages, soon())
    assert not first.green
    assert second.why == "could not start: first failed"
    assert ran == []


def test_a_hanging_program_and_its_children_end_at_the_time_limit(tmp_path: Path) -> None:
    child = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    (result,) = run_all([Stage("hangs", lambda job: job.run([sys.executable, "-c", parent]))], soon(3))
    assert "ended at the time limit" in result.why
    assert result.seconds < 60
    gone = soon(20)
    while lives(int((tmp_path / "pid").read_text())) and time.monotonic() < gone:
        time.sleep(0.1)
    assert not lives(int((tmp_path / "pid").read_text()))


def test_no_stage_starts_after_the_time_limit() -> None:
    ran = []
    (result,) = run_all([Stage("late", ran.append)], soon(-1))
    assert (result.why, ran) == ("no time was left for it", [])


def test_live_stages_come_last_and_show_their_words(capfd: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []

    def live(job: Job) -> None:
        order.append("live")
        job.run(["echo", "as it comes"])

    run_all([Stage("live", live, live=True), Stage("quiet", lambda _job: order.append("quiet"))], soon())
    assert order == ["quiet", "live"]
    assert "as it comes" in capfd.readouterr().out


def test_the_closing_line_adds_up_tests_and_stages(capsys: pytest.CaptureFixture[str]) -> None:
    def units(job: Job) -> None:
        job.totals = Totals(passed=40, failed=2)
        raise StageFailed("pytest ended with exit code 1")

    def nothing(_job: Job) -> None:
        pass

    stages = [Stage("lint", nothing), Stage("units", units), Stage("set-up", nothing, counted=False)]
    total = summary(run_all(stages, soon()), ["units on the moon: no rocket"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["not run: units on the moon: no rocket", "41 passed, 2 failed"]
    assert total.failed == 2


def test_only_takes_a_stage_with_all_that_it_needs() -> None:
    def nothing(_job: Job) -> None:
        pass

    stages = [
        Stage("packages", nothing),
        Stage("set-up", nothing, ("packages",)),
        Stage("ruff", nothing, ("set-up",)),
        Stage("mypy", nothing, ("set-up",)),
    ]
    assert [stage.name for stage in _chosen(stages, ["ru"])] == ["packages", "set-up", "ruff"]
    with pytest.raises(StageFailed, match="no stage has nonsense in its name; there are: packages"):
        _chosen(stages, ["nonsense"])


def test_stages_run_side_by_side() -> None:
    both = threading.Barrier(2, timeout=60)
    results = run_all([Stage(name, lambda _job: both.wait()) for name in ("one", "two")], soon())
    assert [result.why for result in results] == ["", ""]
