# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about which data a takeover starts from, who must not have its address, and what its report tells."""

from __future__ import annotations

from typing import Any

import pytest
from unit.takeover_fakes import DARK, GENERATION, NEWER, PLAN, USED, facts

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _takeover, _takeover_report
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._takeover import CONTROL, decide

REFUSALS: list[tuple[dict[str, Any], str]] = [
    (
        {"address": USED},
        "erp is not taken over: 52:54:00:00:00:02 answers at 192.0.2.80 on vmbr0 of b, and two would have the address",
    ),
    ({"address": {**USED, "own": True}}, "which is erp's own MAC address: it runs somewhere"),
    (
        {"current": None, "newest": NEWER},
        "c holds 20260114T080000Z, which b has not; -e resilient_vm_prefer=newest brings",
    ),
]


@pytest.mark.parametrize(("changes", "why"), REFUSALS)
def test_what_stops_it_is_told_before_anything_is_touched(changes: dict[str, Any], why: str) -> None:
    for word in ("", "erp@a#1-0badcafe"):
        with pytest.raises(ResilientVmError) as refused:
            decide(PLAN, facts(**changes), word)
        assert why in str(refused.value)


def test_newer_data_is_brought_first_where_that_is_wanted() -> None:
    """Also where the standby host has nothing to start from, or what it has is too old."""
    newest = {**PLAN, "prefer": "newest"}
    for current in (
        GENERATION,
        None,
        {**GENERATION, "instant": "2026-01-10T02:00:00Z"},
        {**GENERATION, "damaged": [1]},
    ):
        decision = decide(newest, facts(newest=NEWER, current=current), "erp@a#1-0badcafe")
        assert (decision.action, decision.generation, decision.nonce) == ("bring", NEWER["id"], "")
        assert decision.why == "c holds 20260114T080000Z, newer than what b has; it is brought there first"
    # Nothing is brought for what would be refused all the same.
    for changes, why in (
        ({"looks": {**DARK, CONTROL: {"a": "ssh answers"}}}, "a can be reached"),
        ({"domain": "running"}, "erp is running on b already"),
        ({"address": USED}, "two would have the address"),
    ):
        with pytest.raises(ResilientVmError, match=why):
            decide(newest, facts(newest=NEWER, **changes), "erp@a#1-0badcafe")
    assert decide(newest, facts(newest={**NEWER, "id": GENERATION["id"]})).action == "confirm"
    assert decide(newest, facts(newest={**NEWER, "epoch": 0})).action == "confirm"


def test_what_could_not_be_brought_stops_nothing_and_is_said() -> None:
    newest = {**PLAN, "prefer": "newest"}
    brought = {"image": NEWER["id"], "seconds": 12.5, "problem": "no space"}
    decision = decide(newest, facts(newest=NEWER, brought=brought), "erp@a#1-0badcafe")
    assert (decision.action, decision.generation) == ("take", GENERATION["id"])
    told = "c holds 20260114T080000Z, which could not be brought to b (no space); it goes on from what b has"
    assert decision.remarks == [told]
    assert told in _takeover.demand(vars(decision), "erp", "0badcafe", "x")
    decision = decide(newest, facts(current=NEWER, newest=NEWER, brought={**brought, "problem": ""}))
    assert decision.remarks == ["20260114T080000Z was brought from c first, in 12.5 s"]


def test_another_machine_that_answers_is_not_taken_for_the_guest() -> None:
    answers = {**DARK, "b": {"a": "", "c": "x", "erp": "port 443 is closed"}}
    with pytest.raises(ResilientVmError, match=r"52:54:00:00:00:02 answers at 192\.0\.2\.80"):
        decide(PLAN, facts(looks=answers, address=USED))
    assert decide({**PLAN, "despite_findings": True}, facts(looks=answers, address=USED)).action == "confirm"
    with pytest.raises(ResilientVmError, match="own MAC address"):
        decide({**PLAN, "despite_findings": True}, facts(looks=answers, address={**USED, "own": True}))


def test_without_that_wish_it_is_said_what_it_would_save() -> None:
    decision = decide(PLAN, facts(newest=NEWER), "erp@a#1-0badcafe")
    assert (decision.action, decision.generation) == ("take", GENERATION["id"])
    assert decision.remarks == [
        "c holds 20260114T080000Z, 6 h 0 min newer, which b has not; -e resilient_vm_prefer=newest brings it there "
        "first"
    ]


def test_what_a_run_has_started_before_it_was_cut_off_is_nobody_else() -> None:
    """The guest answers, and has its address: it runs where it shall."""
    begun = {"epoch": 2, "active": "b", "standby": "a", "phase": "failing_over"}
    answers = {**DARK, "b": {"a": "", "c": "x", "erp": "port 443 answers"}}
    used = {**USED, "own": True}
    decision = decide(PLAN, facts(state=begun, own=begun, domain="running", looks=answers, address=used))
    assert (decision.action, decision.resumed) == ("take", True)
    with pytest.raises(ResilientVmError, match="erp runs on a; shut it down there"):
        decide(PLAN, facts(state=begun, own=begun, looks=answers))
    with pytest.raises(ResilientVmError, match="own MAC address"):
        decide(PLAN, facts(state=begun, own=begun, address=used))


def test_the_report_has_every_check_and_step() -> None:
    seconds = {"disks": 0.1, "start": 0.6, "guest": 3.0, "port": 1.0}
    done = {"generation": "g", "data_time": "2026-01-14T02:00:00Z", "guest": "answers", "port": "silent"}
    decision = vars(decide(PLAN, facts(newest=NEWER), "erp@a#1-0badcafe"))
    steps = [
        {"name": "name", "passed": True, "seconds": 0.4, "said": ""},
        {"name": "route", "passed": False, "seconds": 2.0, "said": "step on b said no"},
    ]
    noted = {**done, "seconds": seconds, "remarks": ["its new place could not be announced"]}
    report = _takeover_report.report(decision, "erp", noted, 9.25, steps)
    assert report["seconds_to_running"] == 5.2
    assert (report["port"], report["steps"]) == ("silent", steps)
    text = "\n".join(report["lines"])
    for line in (
        "port:           its address did not answer within 1.0 s",
        "address:        not checked: resilient_vm_guest_address is not set",
        "step:           name: done in 0.4 s",
        "step:           route: FAILED after 2.0 s: step on b said no",
        "note:           c holds 20260114T080000Z, 6 h",
        "note:           its new place could not be announced",
    ):
        assert line in text
