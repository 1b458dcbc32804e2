# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the house, the copy that ansible-test gets, and the artifact."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tools.checks import artifact, rules, tree

HOST = ".".join(("pypi", "org"))
SPDX = "# SPDX-License-Identifier: GPL-3.0-or-later\n"


def write(root: Path, name: str, text: str) -> str:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return name


def test_a_file_beyond_the_limit_is_named(tmp_path: Path) -> None:
    long = write(tmp_path, "plugins/modules/long.py", "x\n" * 401)
    fits = write(tmp_path, "plugins/modules/fits.py", "x\n" * 400)
    page = write(tmp_path, "docs/page.md", "x\n" * 900)
    made = write(tmp_path, "roles/one/meta/argument_specs.yml", "# Written by tests/tools/settings.py\n" + "x\n" * 900)
    (sentence,) = rules.long_files([long, fits, page, made], tmp_path)
    assert sentence == "plugins/modules/long.py has 401 lines, and 400 is the limit; split it by concern"


@pytest.mark.parametrize(
    "text",
    [
        f"index-url = https://{HOST}/simple",
        f"files.{HOST}",
        "see " + "/".join(("", "work", "notes")),
        "cd " + "/".join(("", "home", "alice", "src")),
        "file://" + "/".join(("", "builds", "group", "project")),
    ],
)
def test_a_registry_or_a_place_on_one_machine_is_found(tmp_path: Path, text: str) -> None:
    name = write(tmp_path, "README.md", f"one\n{text}\n")
    (sentence,) = rules.forbidden_words([name], tmp_path)
    assert sentence.startswith("README.md:2 names ")


def test_the_checkouts_own_path_is_found(tmp_path: Path) -> None:
    name = write(tmp_path, "README.md", f"cd {tmp_path}/plugins\n")
    assert len(list(rules.forbidden_words([name], tmp_path))) == 1


@pytest.mark.parametrize(
    "text", ["tests/work/notes", "/var/lib/resilient-vm", "/home", f"my{HOST}", f"{HOST}anization"]
)
def test_what_only_looks_alike_is_not(tmp_path: Path, text: str) -> None:
    name = write(tmp_path, "README.md", text)
    assert list(rules.forbidden_words([name], tmp_path)) == []


def test_a_source_file_without_its_licence_is_named(tmp_path: Path) -> None:
    names = [
        write(tmp_path, "bare.py", "import os\n"),
        write(tmp_path, "script", "#!/bin/sh\nexit 0\n"),
        write(tmp_path, "good.yml", SPDX + "a: 1\n"),
        write(tmp_path, "page.md", "words\n"),
        write(tmp_path, "empty/__init__.py", ""),
    ]
    assert [sentence.split()[0] for sentence in rules.headers(names, tmp_path)] == ["bare.py", "script"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    write(root, ".gitignore", "ignored\n.dev/\n")
    write(root, "plugins/modules/one.py", "1")
    write(root, "ignored", "x")
    (root / "test").write_text("#!/bin/sh\n")
    (root / "test").chmod(0o755)
    (root / "link").symlink_to("test")
    return root


@pytest.mark.parametrize("versioned", [True, False])
def test_the_files_are_those_that_git_would_take(checkout: Path, tmp_path: Path, versioned: bool) -> None:
    if versioned:
        subprocess.run(["git", "init", "-q", checkout], check=True)
    found = tree.files(checkout, tmp_path)
    assert found == [".gitignore", "link", "plugins/modules/one.py", "test"]


def test_the_copy_follows_the_checkout(checkout: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", checkout], check=True)
    copy = tmp_path / "copy"
    tree.synchronize(checkout, copy)
    assert os.access(copy / "test", os.X_OK)
    assert os.readlink(copy / "link") == "test"
    assert not (copy / "ignored").exists()
    assert (copy / ".git").is_dir()

    (checkout / "plugins/modules/one.py").unlink()
    (checkout / "link").unlink()
    write(checkout, "link/file", "a folder now")
    write(checkout, "roles/new.yml", "a: 1")
    tree.synchronize(checkout, copy)
    assert tree.files(copy, tmp_path) == [".gitignore", "link/file", "roles/new.yml", "test"]
    assert not (copy / "plugins").exists()


def test_the_artifact_holds_what_users_need_and_nothing_else() -> None:
    inside = ["README.md", "plugins/modules/one.py", "tests/unit/test_one.py", "extensions/molecule/daily/verify.yml"]
    found = list(artifact.problems(inside, ["plugins/modules/one.py", "roles/cycle/tasks/main.yml", "test"]))
    assert [sentence.split()[0] for sentence in found] == [
        "extensions/molecule/daily/verify.yml",
        "tests/unit/test_one.py",
        "roles/cycle/tasks/main.yml",
    ]
