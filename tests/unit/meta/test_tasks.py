# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about every task of the roles and playbooks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted([*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/*.yml")])


def tasks(listed: list[dict[str, Any]] | None) -> Iterator[dict[str, Any]]:
    for task in listed or []:
        yield task
        for part in ("block", "rescue", "always", "tasks"):
            yield from tasks(task.get(part))


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_condition_of_failing_still_fails_where_the_module_does(file: Path) -> None:
    """It takes the place of what the module itself said: a machine that gave no answer would be one that agreed."""
    conditions = [
        (task["name"], str(task["failed_when"]))
        for task in tasks(yaml.safe_load(file.read_text(encoding="utf-8")))
        if task.get("failed_when", False) is not False
    ]
    assert [name for name, condition in conditions if "failed" not in condition and ".rc" not in condition] == []
