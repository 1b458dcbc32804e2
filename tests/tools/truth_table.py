# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write what docs/takeover.md says of who sees whom, and what a takeover does then, from the decision itself.

python tests/tools/truth_table.py           writes it between the page's marks
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "takeover.md"
BEGIN = "<!-- truth table: begin (tests/tools/truth_table.py) -->\n"
END = "<!-- truth table: end -->\n"

# What can be seen, in the order of the table's columns; None: that machine can't be reached itself.
COLUMNS: dict[str, tuple[bool | None, ...]] = {
    "control sees A": (False, True),
    "B sees A": (False, True, None),
    "C sees A": (False, True, None),
    "B sees C": (False, True),
    "guest answers": (False, True),
}
# How the power of A is, and whether somebody gave the word.
POWER = {
    "none": (False, "unknown"),
    "not asked yet": (True, "unknown"),
    "says off": (True, "off"),
    "says on": (True, "on"),
    "can't say": (True, "failed"),
}
# Whether it may be decided without C, and by what B knows then that it is not cut off.
WITHOUT = {
    "not allowed": (False, False),
    "B sees its gateway": (True, True),
    "B sees nothing": (True, False),
}
_SAID = {"off": "C: off", "on": "C: on", "failed": "C: no answer"}
_MARKS = {None: "out of reach", False: "no", True: "yes"}
_ANY = "any"

Cell = tuple[Any, ...]


@dataclass(frozen=True)
class Row:
    """Cells of one outcome: for each column the values that it may have."""

    values: tuple[frozenset[Any], ...]
    outcome: tuple[str, str]

    def covers(self, cell: Cell) -> bool:
        return all(value in allowed for value, allowed in zip(cell, self.values, strict=True))


def room() -> Any:
    """The decision's room, loaded without Ansible: it imports nothing but its neighbours."""
    package = types.ModuleType("rooms")
    package.__path__ = [str(ROOT / "plugins" / "module_utils")]
    sys.modules.setdefault("rooms", package)
    return importlib.import_module("rooms._evidence")


def domains() -> tuple[tuple[Any, ...], ...]:
    """The values of each column: who sees whom, A's power, the word, whether C may be done without."""
    return (*COLUMNS.values(), tuple(POWER), (False, True), tuple(WITHOUT))


def cells() -> Iterator[Cell]:
    """Every combination there is."""
    return product(*domains())


def outcome(cell: Cell) -> tuple[str, str]:
    """(action, why) of one cell, decided by the product."""
    control, standby, storage, link, guest, power, word, without = cell
    fencing, state = POWER[power]
    allowed, witness = WITHOUT[without]
    seen = room().Evidence(
        vm="erp",
        active="A",
        standby="B",
        backup_storage="C",
        vm_answers=guest,
        seen_by_control=control,
        seen_by_standby=standby,
        seen_by_backup_storage=storage,
        standby_sees_backup_storage=link,
        fencing=fencing,
        power=state,
        confirmed=word,
        fenced=_SAID.get(state, ""),
        without_backup_storage=allowed,
        standby_sees_witness=witness,
    )
    decision = room().decide(seen)
    return decision.action, decision.why


def rows() -> list[Row]:
    """The cells in rows: one row, and no other, for each cell."""
    left = {cell: outcome(cell) for cell in cells()}
    found = []
    while left:
        first = next(iter(left))
        row = _grown(first, left)
        found.append(row)
        left = {cell: what for cell, what in left.items() if not row.covers(cell)}
    return found


def _grown(first: Cell, left: dict[Cell, tuple[str, str]]) -> Row:
    """As many cells of the same outcome as can be told by one row, among those that no row tells yet."""
    wanted, values = left[first], [{value} for value in first]
    # Last columns first: they are of no account wherever something is refused for what is seen.
    for column in reversed(range(len(values))):
        for value in domains()[column]:
            tried = [*values[:column], values[column] | {value}, *values[column + 1 :]]
            if all(left.get(cell) == wanted for cell in product(*tried)):
                values[column].add(value)
    return Row(tuple(frozenset(each) for each in values), wanted)


def _told(column: int, allowed: frozenset[Any]) -> str:
    domain = domains()[column]
    if len(allowed) == len(domain):
        return _ANY
    return " or ".join(_MARKS.get(value, value) for value in domain if value in allowed)


def markdown() -> str:
    """The table, with how many cells each row stands for."""
    heads = [*COLUMNS, "A's fence agent", "word given", "without C"]
    lines = [f"| {' | '.join(heads)} | then | because | cells |", "|---" * (len(heads) + 3) + "|"]
    total = 0
    for row in rows():
        count = sum(row.covers(cell) for cell in cells())
        total += count
        told = [_told(column, allowed) for column, allowed in enumerate(row.values)]
        action, why = row.outcome
        lines.append(f"| {' | '.join(told)} | **{action}** | {why} | {count} |")
    return "\n".join([*lines, "", f"{total} cells in all, each in one row.", ""])


def written(page: str) -> str:
    """The page with the table between its marks."""
    head, _mark, rest = page.partition(BEGIN)
    _old, mark, tail = rest.partition(END)
    if not mark:
        raise SystemExit(f"{PAGE} lacks its marks: {BEGIN.strip()} … {END.strip()}")
    return head + BEGIN + markdown() + END + tail


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
