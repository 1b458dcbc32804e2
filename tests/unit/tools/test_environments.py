# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How environments are built and kept, and what a machine may lack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tools.checks import environments, sanity
from tools.checks.environments import Environment, ensure_packages
from tools.checks.job import StageFailed
from tools.checks.pythons import Python

PYTHON = Python(Path("/usr/bin/python3.11"), 11, True)


class Recorder:
    """A job that runs nothing and makes the folder that ``venv`` would make."""

    def __init__(self, says: str = "", broken: str = "nothing") -> None:
        self.commands: list[list[str]] = []
        self.says = says
        self.broken = broken

    def run(self, argv: Sequence[str | Path], **_how: Any) -> int:
        words = [str(word) for word in argv]
        self.commands.append(words)
        if self.broken in words:
            raise StageFailed("exit code 1")
        if words[1:3] == ["-m", "venv"]:
            Path(words[3]).mkdir(parents=True)
        return 0

    def say(self, _text: str) -> None:
        pass

    def output(self) -> str:
        return self.says


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(environments, "DEV", tmp_path / ".dev")
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/requirements-units.txt").write_text("pytest\n")
    return tmp_path


def commands_of_a_build(environment: Environment, broken: str = "nothing") -> list[list[str]]:
    job = Recorder(broken=broken)
    environment.build(job)  # type: ignore[arg-type]
    return job.commands


def test_an_environment_is_built_once(checkout: Path) -> None:
    environment = Environment("units", PYTHON, "2.19", ("requirements-units.txt",))
    first = commands_of_a_build(environment)
    assert [words[1:3] for words in first] == [["-m", "venv"], ["-m", "pip"]]
    assert first[1][-3:] == ["ansible-core~=2.19.0", "-r", str(checkout / "tests/requirements-units.txt")]
    assert commands_of_a_build(environment) == []


def test_it_is_built_again_when_its_recipe_changes(checkout: Path) -> None:
    environment = Environment("units", PYTHON, "2.19", ("requirements-units.txt",))
    commands_of_a_build(environment)
    (checkout / "tests/requirements-units.txt").write_text("pytest\nhypothesis\n")
    assert len(commands_of_a_build(environment)) == 2
    assert len(commands_of_a_build(Environment("units", PYTHON, "2.21", ("requirements-units.txt",)))) == 2


@pytest.mark.usefixtures("checkout")
def test_a_build_that_broke_off_starts_again() -> None:
    environment = Environment("units", PYTHON, "2.19", ("requirements-units.txt",))
    with pytest.raises(StageFailed):
        commands_of_a_build(environment, broken="install")
    assert len(commands_of_a_build(environment)) == 2


def test_a_complete_machine_gets_no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments.shutil, "which", lambda program: f"/usr/bin/{program}")
    job = Recorder()
    ensure_packages(job, PYTHON)  # type: ignore[arg-type]
    assert job.commands == []


def test_a_bare_debian_gets_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = Python(PYTHON.path, 11, False)
    monkeypatch.setattr(environments.shutil, "which", lambda program: program if program == "apt-get" else None)
    monkeypatch.setattr(environments.os, "geteuid", lambda: 0)
    monkeypatch.setattr(environments, "ask", lambda _path: PYTHON)
    job = Recorder()
    ensure_packages(job, bare)  # type: ignore[arg-type]
    assert [words[1] for words in job.commands] == ["update", "install"]
    assert job.commands[1][-3:] == ["git", "openssh-client", "python3.11-venv"]


def test_without_root_the_sentence_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments.os, "geteuid", lambda: 1000)
    with pytest.raises(StageFailed, match=r"this machine lacks python3\.11-venv; install it, or run \./test as root"):
        ensure_packages(Recorder(), Python(PYTHON.path, 11, False))  # type: ignore[arg-type]


def sanity_saying(says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sanity, "DEV", tmp_path)
    monkeypatch.setattr(sanity, "_prepare_home", lambda _environment: None)
    (tmp_path / "shellcheck").touch()
    sanity.sanity(Recorder(says), SimpleNamespace(bin=tmp_path), [PYTHON])  # type: ignore[arg-type]


def test_a_sanity_run_that_tests_nothing_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StageFailed, match=r'did not run: "ansible-doc", .*"import" on Python 3\.11'):
        sanity_saying("WARNING: All targets skipped.\n", tmp_path, monkeypatch)


def test_the_quick_sanity_run_has_pylint_look_at_plugins_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sanity, "DEV", tmp_path)
    monkeypatch.setattr(sanity, "_prepare_home", lambda _environment: None)
    (tmp_path / "shellcheck").touch()
    job = Recorder()
    with pytest.raises(StageFailed, match="did not run"):
        sanity.sanity(job, SimpleNamespace(bin=tmp_path), [PYTHON], quick=True)  # type: ignore[arg-type]
    first, second = (words[5:] for words in job.commands)
    assert first == ["--skip-test", "changelog", "--skip-test", "pylint"]
    assert second == ["--test", "pylint", "plugins/"]


def test_a_sanity_run_that_left_one_python_out_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["ansible-doc", "pep8", "pylint", "shellcheck", "validate-modules", "yamllint"]
    said = [f'Running sanity test "{name}"' for name in names] + ['Running sanity test "compile" on Python 3.11']
    with pytest.raises(StageFailed, match=r'did not run: "import" on Python 3\.11$'):
        sanity_saying("\n".join(said), tmp_path, monkeypatch)
    said.append('Running sanity test "import" on Python 3.11')
    sanity_saying("\n".join(said), tmp_path, monkeypatch)
