# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what people read: pages and roles say what the code does."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab.rvmlab.cli import build_parser
from tools import transitions, truth_table
from tools.checks.main import _arguments

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _mover

ROOT = Path(__file__).resolve().parents[3]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "roles").glob("*/README.md"))]
PAGES.append(ROOT / "tests/lab/README.md")
ROLES = sorted(path.parent.parent for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def document(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def test_the_variables_table_is_the_settings() -> None:
    """If not: put what tests/tools/settings.py --markdown prints between the two marks."""
    text = README.read_text(encoding="utf-8")
    _before, _mark, rest = text.partition("<!-- settings: begin (tests/tools/settings.py --markdown) -->\n")
    table = rest.partition("<!-- settings: end -->")[0]
    words = [sys.executable, str(ROOT / "tests/tools/settings.py"), "--markdown"]
    assert table == subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_the_page_on_takeover_shows_the_table_of_transitions() -> None:
    """If not: run tests/tools/transitions.py."""
    assert transitions.written(transitions.PAGE.read_text(encoding="utf-8")) == transitions.PAGE.read_text(
        encoding="utf-8"
    )


def test_the_page_on_takeover_shows_the_truth_table() -> None:
    """If not: run tests/tools/truth_table.py."""
    page = truth_table.PAGE.read_text(encoding="utf-8")
    assert truth_table.written(page) == page


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line[:1] == "#"
    }
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_playbooks_and_roles_and_variables_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    known = set(document(ROOT / "roles/resilient_vm/meta/argument_specs.yml")["argument_specs"]["main"]["options"])
    assert set(re.findall(r"\bresilient_vm_[a-z_]*[a-z]\b", text)) <= known | {"resilient_vm_mover"}
    for name in re.findall(r"playbooks/(\w+)\.yml", text):
        assert (ROOT / f"playbooks/{name}.yml").is_file(), name
    for name in re.findall(r"-i acme edgecloud\.resilient_vm\.(\w+)", text):
        assert (ROOT / f"playbooks/{name}.yml").is_file(), name
    for name in re.findall(r"-t role edgecloud\.resilient_vm\.(\w+)", text):
        assert (ROOT / "roles" / name).is_dir(), name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    (lab,) = (action.choices for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert set(re.findall(r"(?:tests/lab/|`)lab ([a-z]+)", text)) <= set(lab)
    assert set(re.findall(r"(?:bin/|`)resilient-vm ([a-z]+)", text)) <= {*_mover._COMMANDS, "root"}
    for option in re.findall(r"\./test (--\w+)", text):
        _arguments([option])  # exits when there is none
    for name in re.findall(r"(?<![\w/.])(?:tests|plugins|changelogs|collections|inventory\.example)/[\w./-]*\w", text):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("role", ROLES, ids=name_of)
def test_defaults_are_the_roles_arguments_in_the_same_order(role: Path) -> None:
    options = document(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults = document(role / "defaults/main.yml") or {}
    assert list(defaults) == [name for name in options if name in defaults]
    for name, option in options.items():
        if "default" in option:
            assert defaults[name] == option["default"], name


def test_every_role_has_a_page_and_arguments() -> None:
    for role in (ROOT / "roles").iterdir():
        assert (role / "README.md").is_file(), role.name
        assert (role / "meta/argument_specs.yml").is_file(), role.name
