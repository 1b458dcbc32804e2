# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test shares: the collection under its full name, and a way to run a module in-process."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
from ansible.module_utils import basic
from ansible.plugins.loader import init_plugin_loader

ROOT = Path(__file__).resolve().parents[1]
COLLECTION = "ansible_collections.edgecloud.resilient_vm"


def _collection_tree() -> Path:
    """The folder that holds ``ansible_collections``: around the checkout, or linked inside it."""
    if "ansible_collections" in ROOT.parts:
        return ROOT.parents[2]
    subprocess.run([ROOT / "tests/tools/dev-link"], check=True)
    return ROOT / ".dev/collections"


def pytest_configure() -> None:
    """Make ``ansible_collections.edgecloud.resilient_vm`` importable before tests are collected."""
    if any(path for path in sys.path if path.endswith("ansible_collections")) or COLLECTION in sys.modules:
        return  # ansible-test has done it
    init_plugin_loader([str(_collection_tree())])


@contextlib.contextmanager
def _module_args(args: dict[str, Any]) -> Iterator[None]:
    try:
        from ansible.module_utils.testing import patch_module_args
    except ImportError:  # ansible-core before 2.19
        document = json.dumps({"ANSIBLE_MODULE_ARGS": args}).encode()
        with mock.patch.object(basic, "_ANSIBLE_ARGS", document):
            yield
    else:
        with patch_module_args(args):
            yield


def _result(printed: str) -> dict[str, Any]:
    try:
        from ansible.module_utils.common.json import Direction, get_module_decoder
    except ImportError:  # ansible-core before 2.19
        return json.loads(printed)
    return json.loads(printed, cls=get_module_decoder("legacy", Direction.MODULE_TO_CONTROLLER))


@pytest.fixture
def run_module(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run a module's ``main`` as Ansible would and return what it answers.

    ``run_module("image_info", {"vms": []}, check_mode=True)``; a failure has ``failed: True``, an
    exception leaves through the caller. The module may also be given as an imported module.
    """

    def run(
        module: str | ModuleType, args: dict[str, Any], *, check_mode: bool = False, diff: bool = False
    ) -> dict[str, Any]:
        if isinstance(module, str):
            module = importlib.import_module(f"{COLLECTION}.plugins.modules.{module}")
        given = {
            **args,
            "_ansible_check_mode": check_mode,
            "_ansible_diff": diff,
            "_ansible_remote_tmp": str(tmp_path),
        }
        printed = io.StringIO()
        with _module_args(given), contextlib.redirect_stdout(printed):
            try:
                module.main()
            except SystemExit:
                return _result(printed.getvalue())
        raise AssertionError(f"{module.__name__}.main() came back without exit_json or fail_json")

    return run
