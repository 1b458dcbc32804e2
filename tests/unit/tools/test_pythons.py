# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The choice of Pythons and cores that ./test runs on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.checks import pythons
from tools.checks.fast import Fast
from tools.checks.job import StageFailed
from tools.checks.pythons import Carrier, Python


def python(minor: int, has_ensurepip: bool = True) -> Python:
    return Python(Path(f"/usr/bin/python3.{minor}"), minor, has_ensurepip)


def chosen(*minors: int) -> list[str]:
    return [str(carrier) for carrier in pythons.carriers([python(minor) for minor in minors])]


@pytest.mark.parametrize(
    ("minors", "oldest", "newest"),
    [
        ((8, 9, 10, 11, 12, 13), "ansible-core 2.16 on Python 3.10", "ansible-core 2.21 on Python 3.13"),
        ((11,), "ansible-core 2.16 on Python 3.11", "ansible-core 2.19 on Python 3.11"),
        ((13,), "ansible-core 2.18 on Python 3.13", "ansible-core 2.21 on Python 3.13"),
    ],
)
def test_the_oldest_core_gets_its_oldest_python_and_the_newest_its_newest(
    minors: tuple[int, ...], oldest: str, newest: str
) -> None:
    assert chosen(*minors) == [oldest, newest]


def test_a_python_that_cannot_build_an_environment_is_not_chosen() -> None:
    assert pythons.carriers([python(10, has_ensurepip=False), python(11)])[0] == Carrier("2.16", python(11))


def test_without_a_usable_python_nothing_is_chosen() -> None:
    assert pythons.carriers([python(9)]) == (None, None)


def test_this_very_interpreter_is_found() -> None:
    assert pythons.ask(Path(pythons.sys.executable)) is not None
    assert {found.minor for found in pythons.find()} >= {pythons.sys.version_info.minor}


def test_what_does_not_start_is_no_python(tmp_path: Path) -> None:
    broken = tmp_path / "python3.11"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    assert pythons.ask(broken) is None
    assert pythons.ask(tmp_path / "python3.12") is None


def test_a_python_without_any_core_is_one_sentence() -> None:
    with pytest.raises(StageFailed, match=r"no ansible-core is known that runs on Python 3\.9"):
        Fast.on([python(9)], python(9), [])


def test_what_cannot_run_is_said() -> None:
    on_debian_12 = Fast.on([python(11)], python(11), [])
    assert on_debian_12.not_run() == [
        "sanity import and compile on Python 3.9, 3.10, 3.12, 3.13: not on this machine",
        "units on ansible-core 2.21: no Python 3.12 to 3.14 on this machine",
    ]
    complete = [python(minor) for minor in range(9, 14)]
    assert Fast.on(complete, complete[2], []).not_run() == []


def test_units_run_on_the_main_the_oldest_and_the_newest_core() -> None:
    complete = [python(minor) for minor in range(9, 14)]
    names = [stage.name for stage in Fast.on(complete, complete[2], []).stages()]
    assert [name for name in names if name.startswith("units")] == [
        "units, ansible-core 2.19 on Python 3.11",
        "units, ansible-core 2.16 on Python 3.10",
        "units, ansible-core 2.21 on Python 3.13",
    ]


def test_the_quick_part_goes_by_the_main_core_and_says_what_it_leaves_out() -> None:
    complete = [python(minor) for minor in range(9, 14)]
    quick = Fast.on(complete, complete[2], [], quick=True)
    names = [stage.name for stage in quick.stages()]
    assert [name for name in names if name.startswith("units")] == ["units, ansible-core 2.19 on Python 3.11"]
    assert [target.minor for target in quick.targets] == [9, 13]
    assert [target.minor for target in Fast.on([python(11)], python(11), [], quick=True).targets] == [11]
    assert quick.not_run() == [
        "in ./test only: units on other versions of ansible-core, sanity on all Pythons, pylint of tests"
    ]


def test_every_stage_needs_stages_that_there_are() -> None:
    stages = Fast.on([python(11)], python(11), []).stages()
    names = [stage.name for stage in stages]
    assert len(set(names)) == len(names)
    assert {need for stage in stages for need in stage.needs} <= set(names)
