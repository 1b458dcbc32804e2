# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the table of who sees whom: it leaves nothing out, and a takeover does what it says."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime, timezone
from typing import Any

from tools import truth_table
from unit.fakes_cycle import STATE, plan

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _evidence, _takeover
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError

NOW = datetime(2026, 1, 14, 11, 30, tzinfo=timezone.utc)
GENERATION = {"id": "20260114T020000Z", "instant": "2026-01-14T02:00:00Z", "complete": True, "damaged": []}


def test_every_cell_is_in_exactly_one_row() -> None:
    rows = truth_table.rows()
    cells = list(truth_table.cells())
    assert len(set(cells)) == len(cells) == 2160
    for cell in cells:
        (row,) = [row for row in rows if row.covers(cell)]
        assert row.outcome == truth_table.outcome(cell)


def test_all_that_can_be_seen_is_in_the_table() -> None:
    seen = [name for name, kind in _evidence.Evidence.__annotations__.items() if kind in ("bool", "bool | None")]
    # One column each; fencing with its power, the word, and what is done without C are the last three.
    assert len(seen) == len(truth_table.COLUMNS) + len(("fencing", "confirmed")) + len(("allowed", "witness"))
    assert {power for _fencing, power in truth_table.POWER.values()} == set(_evidence.POWER)
    actions = Counter(truth_table.outcome(cell)[0] for cell in truth_table.cells())
    assert set(actions) == set(_evidence.ACTIONS)


def test_a_takeover_does_what_the_table_says() -> None:
    for cell in truth_table.cells():
        action, why = truth_table.outcome(cell)
        try:
            decision = _decided(cell)
            found = decision.action, decision.why
        except ResilientVmError as error:
            # How to go on without C, which the table leaves out.
            found = "refuse", str(error).removeprefix("erp is not taken over: ").partition("; or, when")[0]
        assert found == (action, _small(why)), cell


def _decided(cell: truth_table.Cell) -> _takeover.Decision:
    control, standby, storage, link, guest, power, word, without = cell
    fencing, said = truth_table.POWER[power]
    allowed, witness = truth_table.WITHOUT[without]
    given = plan(max_data_loss_hours=24, without_backup_storage=allowed)
    given["machine_settings"]["a"]["fence_agent"] = "fence_x" if fencing else None
    answers = {"answered": True, "version": "1", "state": dict(STATE), "domain": {"exists": True, "state": "shut off"}}
    silent = {"answered": False, "msg": "no answer"}
    looks: dict[str, dict[str, str]] = {_takeover.CONTROL: {"a": "ssh answers" if control else ""}}
    sees: dict[str, Any] = {"b": standby, "c": storage}
    for name, seen in sees.items():
        if seen is not None:
            looks[name] = {"a": "port 22 answers" if seen else "", "erp": "port 443 answers" if guest else ""}
    if standby is not None:
        looks["b"] |= {"c": "port 22 answers" if link else "", "its gateway": "answers an echo" if witness else ""}
    facts = _takeover.Facts(
        {name: silent if seen is None else answers for name, seen in sees.items()},
        {"b": {"answered": True, "current": GENERATION, "generations": [GENERATION]}},
        looks,
        NOW,
        fenced=[("c", {"power": said, "told": {"failed": "no answer"}.get(said, said)})] if said != "unknown" else [],
    )
    return _takeover.decide(given, facts, "erp@a#1-0badcafe" if word else "")


def _small(why: str) -> str:
    """The page calls machines A, B and C."""
    return re.sub(r"\b[ABC]\b", lambda match: match.group().lower(), why)
