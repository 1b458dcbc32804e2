# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the simulation itself: its playbooks go through the tasks of the roles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from unit.simulation import planned, playbook, takeover
from unit.simulation.product import ROLES

# {role: files of tasks whose order a playbook of the simulation follows}
FILES = {
    "failover": ("look", "witness", "fence", "ask", "take", "undo", "go_back", "commit", "resolve"),
    "switchover": ("stop", "swap", "give_up", "follow", "change", "main"),
    "reprotect": ("main", "prepare"),
    "cycle": ("ask", "main", "reprotected", "gate"),
}
TEXT = "\n".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in (playbook, planned, takeover))
YIELDED = re.findall(r'"((?:[a-z_]+ \| )?[A-Z][^"\n]+)"', TEXT)


def names(tasks: list[dict[str, object]]) -> Iterator[str]:
    for task in tasks:
        yield str(task["name"])
        for part in ("block", "rescue", "always"):
            yield from names(task.get(part) or [])  # type: ignore[arg-type]


@pytest.mark.parametrize(("role", "file"), [(role, file) for role, files in FILES.items() for file in files])
def test_the_simulation_goes_through_the_tasks_in_the_order_of_the_role(role: str, file: str) -> None:
    tasks = yaml.safe_load((ROLES / role / "tasks" / f"{file}.yml").read_text(encoding="utf-8"))
    there = list(names(tasks))
    ours = [name for name in dict.fromkeys(YIELDED) if name in there]
    assert ours, f"nothing of {file}.yml is simulated"
    assert ours == sorted(ours, key=there.index)


def test_every_task_of_the_simulation_is_one_of_a_role() -> None:
    there = {
        name
        for role, files in FILES.items()
        for file in (*files, "decide")
        if (ROLES / role / "tasks" / f"{file}.yml").exists()
        for name in names(yaml.safe_load((ROLES / role / "tasks" / f"{file}.yml").read_text(encoding="utf-8")))
    }
    assert [name for name in YIELDED if name not in there and " | " in name] == []
