# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about a takeover without the backup storage: when it may be, and how the backup storage learns of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.fakes_cycle import STATE as WHOLE
from unit.fakes_cycle import plan
from unit.takeover_fakes import GENERATION, NEWER, PLAN, STATE, facts

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import (
    _look,
    _takeover,
    _takeover_report,
    _unwitnessed,
)
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._questions import questions
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._takeover import CONTROL, Facts, decide
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._transitions import PHASES
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._untold import untold

ALLOWED = {**PLAN, "without_backup_storage": True}
WORD = "erp@a#1-0badcafe"
SEES = {"b": {"a": "", "c": "", "its gateway": "answers an echo"}, CONTROL: {"a": ""}}
TAKEN = {
    **STATE,
    "epoch": 2,
    "active": "b",
    "standby": "a",
    "phase": "failed_over",
    "unwitnessed": "2026-01-14T10:00:00Z",
}


def dark(**changes: Any) -> Facts:
    """Neither a nor c is there."""
    return facts(silent=["c"], looks=changes.pop("looks", SEES), **changes)


# while it is decided


def test_the_refusal_says_how_to_go_on_and_what_it_costs() -> None:
    with pytest.raises(ResilientVmError) as refused:
        decide(PLAN, dark())
    said = str(refused.value)
    assert "backup storage c can't be reached, and it has to decide; bring it back; or, when erp can't wait" in said
    assert "run it again with -e resilient_vm_without_backup_storage=true: b decides by itself" in said
    assert "what was written since 2026-01-14T02:00:00Z is lost (9 h 30 min)" in said


def test_nothing_is_offered_where_there_is_nothing_to_start() -> None:
    with pytest.raises(ResilientVmError) as refused:
        decide(PLAN, dark(current=None, generations=[]))
    assert str(refused.value).endswith("and it has to decide; bring it back")


def test_the_word_is_asked_for_and_counts_where_it_is_decided() -> None:
    asked = decide(ALLOWED, dark())
    assert (asked.action, asked.decider, asked.unwitnessed, asked.new_epoch) == ("confirm", "b", True, 2)
    said = _takeover.demand(asdict(asked), "erp", "0badcafe", "failover --limit erp")
    assert "failover --limit erp -e resilient_vm_without_backup_storage=true -e resilient_vm_confirm=" + WORD in said
    assert "b decides by itself" in said and "a has to stay off until then" in said
    taken = decide(ALLOWED, dark(), WORD)
    assert (taken.action, taken.nonce, taken.decider) == ("take", "0badcafe", "b")


def test_where_the_backup_storage_answers_it_decides_all_the_same() -> None:
    decision = decide(ALLOWED, facts(), WORD)
    assert (decision.action, decision.decider, decision.unwitnessed) == ("take", "c", False)
    assert "without_backup" not in _takeover.demand(asdict(decision), "erp", "0badcafe", "x")


@pytest.mark.parametrize(
    "looks, why",
    [
        (
            {**SEES, "b": {"a": "", "c": ""}},
            "b can't reach c, nor its gateway or another witness: it may be b that is cut",
        ),
        ({**SEES, "b": {**SEES["b"], "c": "port 22 answers"}}, "b still reaches c, which decides: only the way to it"),
        ({**SEES, "b": {**SEES["b"], "a": "port 22 answers"}}, "b still reach a: only the way to it from here is cut"),
        ({**SEES, CONTROL: {"a": "ssh answers"}}, "a can be reached; shut erp down there"),
        ({**SEES, "b": {**SEES["b"], "erp": "port 443 answers"}}, "erp runs on a; shut it down there first"),
    ],
)
def test_the_evidence_holds_without_it(looks: dict[str, dict[str, str]], why: str) -> None:
    with pytest.raises(ResilientVmError, match="erp is not taken over: " + why):
        decide(ALLOWED, dark(looks=looks), WORD)


def test_a_configured_witness_counts_as_the_gateway_does() -> None:
    settings = {**PLAN["machine_settings"], "b": {"fence_agent": None, "witnesses": ["[2001:db8::1]:53"]}}
    given = {**ALLOWED, "machine_settings": settings}
    assert {"name": "witness [2001:db8::1]:53", "address": "2001:db8::1", "port": 53} in _takeover.targets(given, "b")
    sees = {**SEES, "b": {"a": "", "c": "", "witness [2001:db8::1]:53": "port 53 answers"}}
    assert decide(given, dark(looks=sees), WORD).action == "take"


def test_no_schedule_wants_it() -> None:
    with pytest.raises(ResilientVmError, match="resilient_vm_without_backup_storage is set in a scheduled job"):
        decide(ALLOWED, dark(), "", scheduled=True)


def test_a_run_that_was_cut_off_goes_on_by_the_hosts_own_document() -> None:
    begun = {**TAKEN, "phase": "failing_over"}
    decision = decide(ALLOWED, dark(own=begun))
    assert (decision.action, decision.resumed, decision.decider, decision.document) == ("take", True, "b", begun)
    # What the backup storage had decided, and can't confirm now, is from then on its host's own.
    decided = decide(ALLOWED, dark(own={**begun, "unwitnessed": None})).document
    assert decided["unwitnessed"] == "2026-01-14T11:30:00Z"
    # Over, it has nothing to do; and it is somebody else's without the permission.
    assert decide(ALLOWED, dark(own=TAKEN, domain="running")).action == "nothing"
    with pytest.raises(ResilientVmError, match="backup storage c can't be reached"):
        decide(PLAN, dark(own=begun))


def test_the_hosts_say_who_takes_it_where_the_backup_storage_is_silent() -> None:
    answers = {
        "results": [
            {"ansible_loop_var": "q", "q": {"machine": "c"}, "reachable": False, "msg": "no"},
            {"ansible_loop_var": "q", "q": {"machine": "b"}, "reachable": False, "msg": "no"},
            {"ansible_loop_var": "q", "q": {"machine": "a"}, "states": {"acme/erp": {**TAKEN, "phase": "protected"}}},
        ]
    }
    (question,) = questions([plan()], "taker", answers)
    assert question["machine"] == "a"
    assert [each["machine"] for each in questions([plan()], "hosts")] == ["a", "b"]


def test_a_machine_knows_its_way_out(tmp_path: Path) -> None:
    table = tmp_path / "route"
    head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n"
    local = "vmbr0\t00004D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n"
    table.write_text(head + local + "vmbr0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\n")
    assert _look.gateway(str(table)) == "192.0.2.1"
    table.write_text(head + local)
    assert _look.gateway(str(table)) is None


# how the backup storage learns of it


def hosts(a: str = "shut off", storage: dict[str, Any] | None = None, **taken: Any) -> dict[str, dict[str, Any]]:
    return {
        "a": {"answered": True, "state": dict(STATE), "domain": {"exists": True, "state": a}},
        "b": {"answered": True, "state": {**TAKEN, **taken}},
        "c": {"answered": True, "state": {**STATE, **(storage or {})}},
    }


def late(given: dict[str, dict[str, Any]], *images: dict[str, Any]) -> _unwitnessed.Late | None:
    held = {"b": {"generations": [GENERATION]}}
    return _unwitnessed.late(PLAN, given, list(images), held)


def test_the_backup_storage_takes_the_same_steps_from_where_it_is() -> None:
    found = late(hosts(), GENERATION)
    assert found and found.problem == ""
    assert [(step["transition"], step["epoch"]) for step in found.steps] == [("fail_over", 1), ("finish_failover", 2)]
    assert (found.state["epoch"], found.state["active"], found.state["unwitnessed"]) == (2, "b", None)
    begun = late(hosts(phase="failing_over"))
    assert begun and [step["transition"] for step in begun.steps] == ["fail_over"]


def test_of_a_silent_old_host_it_must_not_have_been_asked_since() -> None:
    given = {**hosts(), "a": {"answered": False}}
    found = late(given)
    assert found and found.steps[0]["unasked_since"] == TAKEN["unwitnessed"]
    there = late(hosts())
    assert there and not any(step["unasked_since"] for step in there.steps)


def test_what_it_had_decided_too_is_only_ended() -> None:
    storage = {"epoch": 2, "active": "b", "standby": "a", "phase": "failing_over"}
    found = late(hosts(storage=storage))
    assert found and [(step["transition"], step["epoch"]) for step in found.steps] == [("finish_failover", 2)]
    assert late(hosts(storage={**storage, "phase": "failed_over"})) is None
    # Told of it, it is witnessed, and the host is told that.
    assert untold({**TAKEN, "unwitnessed": None}, {"b": TAKEN, "a": STATE}) == ["b"]


@pytest.mark.parametrize(
    "given, images, why",
    [
        (hosts(a="running"), [], "it is running on a"),
        (
            hosts(),
            [{**NEWER, "id": "20260114T100500Z"}],
            "c holds image 20260114T100500Z of a, taken since or right before",
        ),
        (hosts(storage={"phase": "maintenance"}), [], "c holds epoch 1 with a active, phase maintenance"),
        (hosts(epoch=3), [], "c holds epoch 1 with a active, phase protected"),
        (hosts(storage={"epoch": 2}), [], "c holds epoch 2 with a active, phase protected"),
    ],
)
def test_what_lived_on_is_for_a_person_to_settle(
    given: dict[str, dict[str, Any]], images: list[dict[str, Any]], why: str
) -> None:
    found = late(given, *images)
    assert found and why in found.problem
    assert "run the resolve playbook with --limit erp -e resilient_vm_resolve_to=b (or a)" in found.problem
    with pytest.raises(ResilientVmError, match="look which disks count"):
        _unwitnessed.caught_up(PLAN, given, images, {})


def test_each_says_what_is_to_be_done() -> None:
    def told(given: dict[str, dict[str, Any]]) -> str:
        return _unwitnessed.told(PLAN, given, [], {})

    head = "b took erp over by itself at 2026-01-14T10:00:00Z (epoch 2), while c was out of reach"
    assert told(hosts()) == f"{head} and has still to be told; run the daily playbook, which does it"
    assert "run the failover playbook" in told(hosts(phase="failing_over"))
    silent = {**hosts(), "c": {"answered": False}}
    assert told(silent) == f"{head}; bring that back, and run the daily playbook, which has it written down there"
    assert told(hosts(unwitnessed=None)) == ""
    # A later decision of the backup storage counts for more.
    assert told(hosts(storage={"epoch": 3})) == ""


def test_failover_has_it_told_first_and_then_goes_on() -> None:
    begun = {**TAKEN, "phase": "failing_over"}
    decision = decide(PLAN, facts(own=begun))
    assert (decision.action, [step["transition"] for step in decision.late["steps"]]) == ("witness", ["fail_over"])
    after = {**begun, "unwitnessed": None}
    assert decide(PLAN, facts(state=after, own=begun)).action == "take"
    with pytest.raises(ResilientVmError, match="look which disks count"):
        decide(PLAN, facts(own=begun, newest={**NEWER, "id": "20260114T103000Z"}))


DOCUMENTS = st.builds(
    lambda epoch, active, phase, when: {
        **WHOLE,
        "changed": "2026-01-01T00:00:00Z",
        "epoch": epoch,
        "active": active,
        "standby": "b" if active == "a" else "a",
        "phase": phase,
        "unwitnessed": when,
    },
    st.integers(1, 3),
    st.sampled_from(["a", "b"]),
    st.sampled_from(sorted(PHASES)),
    st.sampled_from([None, "2026-01-14T10:00:00Z"]),
)


@given(own=DOCUMENTS, taken=DOCUMENTS, other=DOCUMENTS)
def test_it_only_ever_follows_by_one_epoch_to_what_a_host_decided_from_there(
    own: dict[str, Any], taken: dict[str, Any], other: dict[str, Any]
) -> None:
    given = {
        "a": {"state": other},
        "b": {"state": taken},
        "c": {"answered": True, "state": {**own, "unwitnessed": None}},
    }
    found = _unwitnessed.late(plan(), given, [], {})
    if found is None or found.problem:
        return
    newest = max((other, taken), key=lambda state: int(state["epoch"]))
    assert newest["unwitnessed"]
    if found.steps and found.steps[0]["transition"] == "fail_over":
        assert own["epoch"] + 1 == newest["epoch"] and own["active"] == newest["standby"]
        assert own["phase"] in ("protected", "switching", "restoring")
    else:
        assert (own["epoch"], own["active"], own["phase"]) == (newest["epoch"], newest["active"], "failing_over")


def test_the_report_says_that_nobody_witnessed_it() -> None:
    done = {"seconds": {}, "generation": "g", "data_time": "t", "guest": "not asked"}
    decision = decide(ALLOWED, dark(), WORD)
    report = _takeover_report.report(asdict(decision), "erp", done, 1.0)
    assert report["unwitnessed"] and any(
        "witness:" in line and "b decides by itself" in line for line in report["lines"]
    )
