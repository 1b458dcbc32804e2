# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages that drive the lab's machines, one after the other."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .environments import Environment
from .fast import pytest, set_up
from .job import Job
from .places import DEV, ROOT
from .runner import Stage

__all__ = ["lab_stages", "not_there", "soak_stages"]

_INTEGRATION = ROOT / "tests/integration"
_EXTENSIONS = ROOT / "extensions"
# A file's tests on machines of their own beside another file's: one playbook after the other leaves a third of two
# processors idle. In the order in which they stand, and together as conftest.py says, which has reasons for both.
_SIDE_BY_SIDE = ("-v", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")


def _has_tests() -> bool:
    return any(_INTEGRATION.rglob("test_*.py"))


def _has_scenarios() -> bool:
    return any(_EXTENSIONS.glob("molecule/*/molecule.yml"))


def not_there() -> list[str]:
    """A sentence for each part of which the checkout holds nothing yet."""
    sentences = []
    if not _has_tests():
        sentences.append("tests on the lab: tests/integration holds none")
    if not _has_scenarios():
        sentences.append("molecule: extensions/molecule holds no scenario")
    return sentences


def _molecule(job: Job, environment: Environment) -> None:
    job.run([ROOT / "tests/tools/dev-link"])
    env = {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".dev/collections"), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    # At the root, for only from there molecule finds extensions/molecule/config.yml.
    job.run([environment.bin / "molecule", "test", "--all"], path=[environment.bin], env=env)


def _on_the_lab(job: Job, environment: Environment, arguments: Sequence[str]) -> None:
    try:
        pytest(job, environment, arguments, "integration")
    finally:
        # When the run is cut off, the processes that share the tests end without taking their machines down.
        state = Path(os.environ.get("RVM_TEST_LAB", DEV / "lab-test"))
        left = [] if os.environ.get("RVM_KEEP_LAB") else sorted(state.parent.glob(f"{state.name}-gw*"))
        for folder in left:
            lab = {**os.environ, "RVM_LAB_STATE": str(folder)}
            done = subprocess.run([ROOT / "tests/lab/lab", "destroy"], env=lab, stdin=subprocess.DEVNULL, check=False)
            if done.returncode != 0:
                job.say(f"the machines of {folder} could not be taken down")


def lab_stages(environment: Environment, pytest_arguments: Sequence[str]) -> list[Stage]:
    """What drives the lab's machines."""
    needs = (set_up(environment).name,)
    stages = [set_up(environment)]
    if _has_tests():
        arguments = ["tests/integration", *_SIDE_BY_SIDE, *pytest_arguments]
        work = partial(_on_the_lab, environment=environment, arguments=arguments)
        stages.append(Stage("tests on the lab", work, needs, minutes=24 * 60, live=True))
    if _has_scenarios():
        work = partial(_molecule, environment=environment)
        stages.append(Stage("molecule", work, needs, minutes=24 * 60, live=True))
    return stages


def soak_stages(environment: Environment, core: Environment, pytest_arguments: Sequence[str]) -> list[Stage]:
    """The long campaigns: those of the units, in the units' own environment, and those on the lab's machines."""
    stages = []
    for where, folder, carrier in (("of the units", "unit", core), ("on the lab", "integration", environment)):
        arguments = [f"tests/{folder}", *pytest_arguments]
        work = partial(pytest, environment=carrier, arguments=arguments, name=f"soak-{folder}", only="soak")
        needs = (set_up(carrier).name,)
        stages += [set_up(carrier), Stage(f"soak {where}", work, needs, minutes=24 * 60, live=True)]
    return stages
