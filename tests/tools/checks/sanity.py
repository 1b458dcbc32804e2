# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-test sanity without a container engine and without its download site."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .environments import Environment
from .job import Job, StageFailed
from .places import COLLECTION, DEV
from .pythons import Python

__all__ = ["sanity"]

# A home of its own: ansible-test keeps its environments there, and finds our stand-in for its download.
_HOME = DEV / "home"
_BORROWED = (".cache", ".config", ".netrc", ".pip", ".pki")
# Runs inside each environment that ansible-test makes, a dozen of them: Python's own pip, which is unpacked once.
_STAND_IN = """
import ensurepip, os, shutil, sysconfig
kept = os.path.join(os.path.dirname(__file__), "pip-" + sysconfig.get_python_version())
wanted = os.path.join(sysconfig.get_path("purelib"), "pip")
if os.path.exists(kept):
    os.symlink(kept, wanted)
else:
    ensurepip.bootstrap(default_pip=True)
    shutil.copytree(wanted, kept + ".part", dirs_exist_ok=True)
    os.rename(kept + ".part", kept)
"""
_PIP_VERSIONS = """
from types import SimpleNamespace
from ansible_test._internal.python_requirements import get_venv_packages
from ansible_test._util.target.common.constants import CONTROLLER_PYTHON_VERSIONS, REMOTE_ONLY_PYTHON_VERSIONS
for version in CONTROLLER_PYTHON_VERSIONS + REMOTE_ONLY_PYTHON_VERSIONS:
    print(get_venv_packages(SimpleNamespace(version=version))["pip"])
"""
# The stage "changelog fragments" does the same with a newer program.
_SKIPPED = ("changelog",)
_ALWAYS = ("ansible-doc", "pep8", "pylint", "shellcheck", "validate-modules", "yamllint")


def _prepare_home(environment: Environment) -> None:
    """pip's settings and cache are the user's; the script that brings pip comes from Python itself."""
    cache = _HOME / ".ansible/test/cache"
    cache.mkdir(parents=True, exist_ok=True)
    for name in _BORROWED:
        link, real = _HOME / name, Path.home() / name
        if real.exists() and not os.path.lexists(link):
            link.symlink_to(real)
    asked = [str(environment.bin / "python"), "-I", "-c", _PIP_VERSIONS]
    versions = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()
    for version in set(versions):
        (cache / f"get_pip_{version.replace('.', '_')}.py").write_text(_STAND_IN)


def _link_pythons(pythons: Sequence[Python]) -> Path:
    """A folder for PATH with nothing but the interpreters, named as ansible-test looks for them."""
    folder = DEV / "pythons"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for python in pythons:
        (folder / f"python{python.version}").symlink_to(python.path)
    return folder


def sanity(job: Job, environment: Environment, targets: Sequence[Python], quick: bool = False) -> None:
    """All sanity tests; import and compile on every Python of ``targets``. ``quick``: pylint without our tests, which
    ruff and mypy know as well."""
    _prepare_home(environment)
    # pyenv's shims would offer Pythons that do not start.
    elsewhere = [Path(folder) for folder in os.get_exec_path() if Path(folder).name != "shims"]
    path = os.pathsep.join(map(str, [environment.bin, _link_pythons(targets), *elsewhere]))
    if not (environment.bin / "shellcheck").exists():
        raise StageFailed("shellcheck is missing, and its sanity test would pass without it")
    skipped = (*_SKIPPED, "pylint") if quick else _SKIPPED
    runs = [[word for name in skipped for word in ("--skip-test", name)]]
    if quick:
        runs.append(["--test", "pylint", "plugins/"])
    for words in runs:
        job.run(
            [environment.bin / "ansible-test", "sanity", "--local", "--color", "no", *words],
            cwd=COLLECTION,
            env={"HOME": str(_HOME), "PATH": path},
        )
    # ansible-test ends well, too, when it finds nothing to test.
    said = job.output()
    wanted = [f'"{name}"' for name in _ALWAYS]
    wanted += [f'"{name}" on Python {python.version}' for name in ("compile", "import") for python in targets]
    silent = [name for name in wanted if f"Running sanity test {name}" not in said]
    if silent:
        raise StageFailed(f"these sanity tests did not run: {', '.join(silent)}")
