# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write what docs/takeover.md says of the state machine from its table.

python tests/tools/transitions.py           writes it between the page's marks
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "takeover.md"
BEGIN = "<!-- transitions: begin (tests/tools/transitions.py) -->\n"
END = "<!-- transitions: end -->\n"


def room() -> Any:
    """The table's room, loaded without Ansible: it imports nothing but its neighbours."""
    package = types.ModuleType("rooms")
    package.__path__ = [str(ROOT / "plugins" / "module_utils")]
    sys.modules.setdefault("rooms", package)
    return importlib.import_module("rooms._transitions")


def _where(before: tuple[str, ...], phases: dict[str, str]) -> str:
    anywhere = tuple(phase for phase in phases if phase != "unprotected")
    return "anywhere but `unprotected`" if before == anywhere else ", ".join(f"`{phase}`" for phase in before)


def markdown() -> str:
    """Phases, transitions and their diagram."""
    table, phases, closed = room().TABLE, room().PHASES, room().CLOSED
    lines = ["| phase | means | the active host may start it |", "|---|---|---|"]
    for phase, meaning in phases.items():
        free = "not watched" if phase == "unprotected" else "no" if phase in closed else "yes"
        lines.append(f"| `{phase}` | {meaning} | {free} |")
    lines += ["", "| transition | from | to | active host | epoch | when |", "|---|---|---|---|---|---|"]
    for step in table:
        host = "the other one" if step.swaps else "stays"
        epoch = "+1" if step.new_epoch else "stays"
        lines.append(
            f"| `{step.name}` | {_where(step.before, phases)} | `{step.after}` | {host} | {epoch} | {step.what} |"
        )
    lines += ["", "```mermaid", "stateDiagram-v2"]
    for step in table:
        # From everywhere is no arrow that helps anybody.
        if len(step.before) < len(phases) - 1:
            mark = " (epoch +1)" if step.new_epoch else ""
            lines += [f"    {phase} --> {step.after}: {step.name}{mark}" for phase in step.before]
    return "\n".join([*lines, "```", ""])


def written(page: str) -> str:
    """The page with what follows from the table between its marks."""
    head, _mark, rest = page.partition(BEGIN)
    _old, mark, tail = rest.partition(END)
    if not mark:
        raise SystemExit(f"{PAGE} lacks its marks: {BEGIN.strip()} … {END.strip()}")
    return head + BEGIN + markdown() + END + tail


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
