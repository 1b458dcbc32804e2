# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what an unplanned takeover decides, and about the operator's word."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.takeover_fakes import DARK, GENERATION, NOW, PLAN, STATE, facts

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import (
    _change,
    _clock,
    _takeover,
    _takeover_report,
    _word,
)
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._state import State
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._takeover import CONTROL, Facts, decide, looks_of


def test_it_asks_for_a_word_that_names_vm_host_and_epoch_and_what_is_lost() -> None:
    decision = decide(PLAN, facts())
    assert (decision.action, decision.active, decision.taker) == ("confirm", "a", "b")
    assert (decision.epoch, decision.new_epoch, decision.lost_seconds) == (1, 2, 34200)
    text = _takeover.demand(vars(decision), "erp", "0badcafe", "ansible-playbook failover --limit erp")
    assert "ansible-playbook failover --limit erp -e resilient_vm_confirm=erp@a#1-0badcafe\n" in text
    assert "is lost (9 h 30 min)" in text


def test_with_the_word_it_takes_over() -> None:
    decision = decide(PLAN, facts(), "crm@a#1-00000000, erp@a#1-0badcafe")
    assert (decision.action, decision.nonce, decision.resumed) == ("take", "0badcafe", False)
    assert decision.evidence["confirmed"] is True


def test_a_run_that_was_cut_off_goes_on_and_looks_again() -> None:
    """From where the state was changed, the word has been used; whoever sees the old host stops it all the same."""
    begun = {"epoch": 2, "active": "b", "standby": "a", "phase": "failing_over"}
    decision = decide(PLAN, facts(state=begun, own=STATE))
    assert (decision.action, decision.resumed, decision.epoch, decision.new_epoch) == ("take", True, 2, 2)
    assert (decision.active, decision.taker) == ("a", "b")
    with pytest.raises(ResilientVmError, match="a can be reached"):
        decide(PLAN, facts(state=begun, own=STATE, looks={**DARK, CONTROL: {"a": "ssh answers"}}))


def test_a_run_that_was_cut_off_after_the_start_only_ends() -> None:
    """The guest that answers is the one at b, and whether a is up again is of no account any more."""
    begun = {"epoch": 2, "active": "b", "standby": "a", "phase": "failing_over"}
    up = {**DARK, "b": {"a": "", "c": "x", "erp": "port 443 answers"}, CONTROL: {"a": "ssh answers"}}
    decision = decide(PLAN, facts(state=begun, domain="running", looks=up))
    assert (decision.action, decision.resumed, decision.why) == ("take", True, "erp runs on b already")
    with pytest.raises(ResilientVmError, match="shut it down there"):
        decide(PLAN, facts(state=begun, own=STATE, domain="running", looks=up))


def test_the_limit_of_what_may_be_lost_is_the_operators_and_binds_nobody_half_way() -> None:
    begun = {"epoch": 2, "active": "b", "standby": "a", "phase": "failing_over"}
    assert decide({**PLAN, "max_data_loss_hours": 1}, facts(state=begun, own=STATE)).action == "take"
    with pytest.raises(ResilientVmError, match="-e resilient_vm_max_data_loss_hours=10 to go on"):
        decide({**PLAN, "max_data_loss_hours": 9}, facts(), "erp@a#1-0badcafe")
    assert decide({**PLAN, "max_data_loss_hours": 10}, facts(), "erp@a#1-0badcafe").action == "take"


def test_what_was_taken_over_stays_where_it_is() -> None:
    over = {"epoch": 2, "active": "b", "standby": "a", "phase": "failed_over"}
    assert decide(PLAN, facts(state=over, domain="running")).action == "nothing"
    with pytest.raises(ResilientVmError, match="is shut off; start it with: virsh start erp"):
        decide(PLAN, facts(state=over))


REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"silent": ["c"]}, "backup storage c can't be reached, and it has to decide"),
    ({"silent": ["b"]}, "standby host b can't be reached, and nothing else can run erp"),
    ({"errs": ["c"]}, "c can't tell what it knows: state.json on c is damaged"),
    ({"errs": ["b"]}, "b can't tell what it knows: state.json on b is damaged"),
    ({"looks": {"b": DARK["b"], CONTROL: DARK[CONTROL]}}, "c answered, but has not told whether it sees a; run again"),
    ({"looks": {"c": DARK["c"], CONTROL: DARK[CONTROL]}}, "b answered, but has not told whether it sees a; run again"),
    ({"looks": {**DARK, "c": {"a": "port 22 answers"}}}, "c still reach a: only the way to it from here is cut"),
    ({"looks": {**DARK, "b": {"a": "", "c": ""}}}, "it may be b that is cut off"),
    ({"looks": {**DARK, "b": {"a": "", "c": "x", "erp": "port 443 answers"}}}, "erp runs on a; shut it down there"),
    ({"state": {"phase": "maintenance"}}, "is in phase maintenance, from which there is no failover"),
    ({"own": None}, "erp has no state document on b; run the site playbook"),
    ({"own": {**STATE, "epoch": 3}}, "that was put back to an older day"),
    ({"current": None, "generations": []}, "b holds no complete generation of erp, so nothing can be started there"),
    (
        {"current": {**GENERATION, "id": "20260115T020000Z", "complete": False}},
        "generation 20260115T020000Z of erp on b is damaged; have it mended by the verify playbook, or start one "
        "that is whole: run it again with -e resilient_vm_takeover_point=20260114T020000Z",
    ),
    (
        {"current": {**GENERATION, "id": "20260113T020000Z", "instant": "2026-01-13T02:00:00Z"}},
        "generation 20260113T020000Z of erp on b is 1 d 9 h old, and what was written since would be lost; "
        "resilient_vm_max_data_loss_hours allows 10: run it again with -e resilient_vm_max_data_loss_hours=34 to go on",
    ),
    ({"domain": "running"}, "erp is running on b already, which only stands by"),
    ({"version": "2+y"}, "the mover on b is 1+x protocol 1, not this collection's"),
]


def test_an_older_generation_is_started_by_its_id_where_the_current_one_is_damaged() -> None:
    damaged = {**GENERATION, "id": "20260115T020000Z", "instant": "2026-01-14T10:00:00Z", "complete": False}
    there = facts(current=damaged, generations=[GENERATION, damaged])
    decision = decide({**PLAN, "takeover_point": GENERATION["id"]}, there, "erp@a#1-0badcafe")
    assert (decision.action, decision.generation) == ("take", GENERATION["id"])
    assert (decision.data_time, decision.lost_seconds) == (GENERATION["instant"], 9.5 * 3600)
    with pytest.raises(ResilientVmError, match=r"b holds no generation 20260101T020000Z of erp; .*=20260114T020000Z"):
        decide({**PLAN, "takeover_point": "20260101T020000Z"}, there, "erp@a#1-0badcafe")
    with pytest.raises(ResilientVmError, match="generation 20260115T020000Z of erp on b is damaged"):
        decide({**PLAN, "takeover_point": "20260115T020000Z"}, there, "erp@a#1-0badcafe")
    with pytest.raises(ResilientVmError, match="-e resilient_vm_max_data_loss_hours=10 to go on"):
        decide({**PLAN, "takeover_point": GENERATION["id"], "max_data_loss_hours": 9}, there, "erp@a#1-0badcafe")


@pytest.mark.parametrize(("changes", "why"), REFUSALS)
def test_what_stops_it_is_told_before_anything_is_touched(changes: dict[str, Any], why: str) -> None:
    for word in ("", "erp@a#1-0badcafe"):
        with pytest.raises(ResilientVmError) as refused:
            decide(PLAN, facts(**changes), word)
        assert why in str(refused.value)


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("erp@b#1-0badcafe", "is about host b at epoch 1, and erp lives on a since epoch 1"),
        ("erp@a#2-0badcafe", "is about host a at epoch 2, and erp lives on a since epoch 1"),
        ("yes", "'yes' is not a confirmation"),
        ("erp@a#1-0badcafe; reboot", "is not a confirmation"),
    ],
)
def test_a_word_about_something_else_is_refused(word: str, why: str) -> None:
    with pytest.raises(ResilientVmError) as refused:
        decide(PLAN, facts(), word)
    assert why in str(refused.value)


def test_no_word_is_taken_from_a_schedule() -> None:
    with pytest.raises(ResilientVmError, match="in a scheduled job"):
        decide(PLAN, facts(), "erp@a#1-0badcafe", scheduled=True)
    assert decide(PLAN, facts(), scheduled=True).action == "confirm"


FENCED_PLAN = {**PLAN, "machine_settings": {name: {"fence_agent": "fence_x"} for name in "abc"}}
OFF, ON, SILENT = ({"power": power, "told": f"fence_x: {power}"} for power in ("off", "on", "failed"))


def test_what_b_could_not_start_is_not_taken_over_unless_somebody_knows_better() -> None:
    short = facts()
    short.standbys["b"]["unfit"] = ["the VM takes 2.0 GiB of memory, and 1.0 GiB is free here; stop something here"]  # type: ignore[index]
    with pytest.raises(ResilientVmError) as refused:
        decide(PLAN, short, "erp@a#1-0badcafe")
    said = str(refused.value).splitlines()
    assert said[0].startswith("b could not start erp: the VM takes 2.0 GiB of memory, and 1.0 GiB is free here")
    assert "run it again with -e resilient_vm_despite_findings=true" in said[1]
    assert decide({**PLAN, "despite_findings": True}, short, "erp@a#1-0badcafe").action == "take"
    # It was found fit when it was decided; now nothing else may run it.
    begun = facts(state={"epoch": 2, "active": "b", "standby": "a", "phase": "failing_over"}, own=STATE)
    begun.standbys["b"]["unfit"] = ["a bridge is missing"]  # type: ignore[index]
    assert decide(PLAN, begun).action == "take"


def fenced(*results: dict[str, str], **changes: Any) -> Facts:
    return replace(facts(**changes), fenced=list(zip("cb"[: len(results)], results, strict=True)))


def test_where_it_can_be_powered_off_nobody_is_asked() -> None:
    assert decide(FENCED_PLAN, facts()).action == "fence"
    # One who gives a word all the same does not keep it from being sure; an old word does no harm.
    assert decide(FENCED_PLAN, facts(), "erp@a#1-0badcafe").action == "fence"
    for word in ("", "erp@a#1-0badcafe"):
        decision = decide(FENCED_PLAN, fenced(SILENT, OFF), word)
        assert (decision.action, decision.nonce) == ("take", "")
        assert decision.evidence["fenced"] == "c: fence_x: failed; b: fence_x: off"
    assert decide(FENCED_PLAN, facts(), scheduled=True).action == "fence"


def test_where_that_fails_the_word_is_needed_and_counts() -> None:
    asked = decide(FENCED_PLAN, fenced(SILENT, SILENT))
    assert (asked.action, asked.nonce) == ("confirm", "")
    given = decide(FENCED_PLAN, fenced(SILENT, SILENT), "erp@a#1-0badcafe")
    assert (given.action, given.nonce) == ("take", "0badcafe")
    with pytest.raises(ResilientVmError, match=r"a could not be powered off .*; switch it off by hand"):
        decide(FENCED_PLAN, fenced(ON, SILENT), "erp@a#1-0badcafe")


@pytest.mark.parametrize("machine", ["b", "c", CONTROL])
def test_an_agent_that_lies_is_not_believed(machine: str) -> None:
    looks = {**DARK, machine: {**DARK[machine], "a": "port 22 answers"}}
    with pytest.raises(ResilientVmError, match=r"is not taken over: .*reach"):
        decide(FENCED_PLAN, fenced(OFF, looks=looks))


def test_nothing_is_powered_off_for_a_takeover_that_would_not_come() -> None:
    for changes, why in REFUSALS:
        with pytest.raises(ResilientVmError) as refused:
            decide(FENCED_PLAN, facts(**changes))
        assert why in str(refused.value)


def test_a_run_that_was_cut_off_makes_sure_again() -> None:
    begun = {"epoch": 2, "active": "b", "standby": "a", "phase": "failing_over"}
    assert decide(FENCED_PLAN, facts(state=begun, own=STATE)).action == "fence"
    assert decide(FENCED_PLAN, fenced(OFF, state=begun, own=STATE)).action == "take"
    # The word was used, or the host was off, when it was decided.
    assert decide(FENCED_PLAN, fenced(SILENT, SILENT, state=begun, own=STATE)).action == "take"


LOOK = st.dictionaries(st.sampled_from(["a", "c", "erp"]), st.sampled_from(["", "answers"]))


@given(
    looks=st.fixed_dictionaries({}, optional={"b": LOOK, "c": LOOK, CONTROL: LOOK}),
    silent=st.sets(st.sampled_from(["b", "c"])),
    phase=st.sampled_from(["protected", "failing_over", "failed_over", "switching", "split_brain"]),
    word=st.sampled_from(["", "erp@a#1-0badcafe"]),
)
def test_nothing_is_taken_over_while_anybody_sees_the_old_host(
    looks: dict[str, dict[str, str]], silent: set[str], phase: str, word: str
) -> None:
    moved = {"active": "b", "standby": "a", "epoch": 2} if phase in ("failing_over", "failed_over") else {}
    try:
        decision = decide(PLAN, facts(looks=looks, silent=silent, state={"phase": phase, **moved}), word)
    except ResilientVmError:
        return
    assert decision.action in ("confirm", "take")
    assert not silent and phase in ("protected", "switching", "failing_over")
    assert not any(how for look in looks.values() for name, how in look.items() if name != "c")
    assert {"b", "c"} <= set(looks) and looks["b"].get("c")
    assert (decision.action == "take") == (bool(word) or phase == "failing_over")


@pytest.mark.parametrize(
    ("tried", "up"),
    [
        ({"rc": 0}, True),
        ({"rc": 127, "msg": "non-zero return code"}, True),
        ({"unreachable": True, "msg": "ssh: connect to host a port 22: Connection refused"}, True),
        ({"unreachable": True, "msg": "mary@a: Permission denied (publickey)."}, True),
        ({"unreachable": True, "msg": "Host key verification failed."}, True),
        ({"unreachable": True, "msg": "ssh: connect to host a port 22: Connection timed out"}, False),
        ({"unreachable": True, "msg": "Connection timed out during banner exchange"}, False),
        ({"unreachable": True, "msg": "ssh: connect to host a port 22: No route to host"}, False),
        ({"unreachable": True, "msg": "kex_exchange_identification: read: Connection reset by peer"}, True),
        ({"unreachable": True, "msg": "Connection closed by 192.0.2.11 port 22"}, True),
        # What a proxy that finds nobody there makes ssh say, and a jump host.
        (
            {
                "unreachable": True,
                "msg": "nc: can't connect to remote host (192.0.2.11): No route to host\n"
                "kex_exchange_identification: Connection closed by remote host\n"
                "Connection closed by UNKNOWN port 65535",
            },
            False,
        ),
        (
            {
                "unreachable": True,
                "msg": "channel 0: open failed: connect failed: No route to host\nstdio forwarding failed\n"
                "Connection closed by UNKNOWN port 65535",
            },
            False,
        ),
        (
            {
                "unreachable": True,
                "msg": "channel 0: open failed: connect failed: Connection refused\nstdio forwarding failed\n"
                "Connection closed by UNKNOWN port 65535",
            },
            True,
        ),
    ],
)
def test_what_the_control_node_makes_of_an_attempt(tried: dict[str, Any], up: bool) -> None:
    answers = {"results": [{"failover_job": {"machine": "c"}, "seen": {"a": ""}}, {"skipped": True}]}
    looks = looks_of(answers, tried, "a")
    assert looks["c"] == {"a": ""}
    assert bool(looks[CONTROL]["a"]) == up


def test_targets_are_the_other_machines_and_the_guest() -> None:
    plan = {**deepcopy(PLAN), "guest_address": "[2001:db8::80]:443"}
    assert _takeover.targets(plan, "c") == [
        {"name": "a", "address": "192.0.2.11", "port": 22},
        {"name": "b", "address": "192.0.2.12", "port": 22},
        {"name": "erp", "address": "2001:db8::80", "port": 443},
    ]


@pytest.mark.parametrize(
    ("guest", "said"),
    [
        ("answers", "its agent answers after 3.0 s"),
        ("silent", "did not answer within"),
        ("not asked", "no agent to ask"),
    ],
)
def test_the_report_says_what_is_lost_and_how_long_it_took(guest: str, said: str) -> None:
    seconds = {"disks": 0.1, "start": 0.6, "guest": 3.0}
    done = {"generation": "20260114T020000Z", "data_time": "2026-01-14T02:00:00Z", "guest": guest, "seconds": seconds}
    decision = vars(decide(PLAN, facts(), "erp@a#1-0badcafe"))
    report = _takeover_report.report(decision, "erp", done, 9.25)
    assert (report["seconds_to_running"], report["lost_seconds"], report["to"]) == (6.2, 34200, "b")
    text = "\n".join(report["lines"])
    assert "2026-01-14T02:00:00Z; what was written since is lost (9 h 30 min)" in text
    assert "6.2 s from the command until it ran (disks 0.1 s, start 0.6 s)" in text
    assert said in text


# the word


@pytest.fixture
def storage(tmp_path: Path) -> Layout:
    layout = Layout("acme", "erp", str(tmp_path))
    Path(layout.directory).mkdir(parents=True)
    Path(layout.lock).touch()
    holds(layout)
    return layout


def holds(layout: Layout, **changes: Any) -> None:
    state = State("acme", "erp", "erp", "u", 1, "a", "b", "protected", "2026-01-01T00:00:00Z", "site")
    Path(layout.state).write_text(json.dumps({**state.as_dict(), **changes}))


def test_only_the_last_nonce_is_good_at_its_epoch_and_for_its_minutes(storage: Layout) -> None:
    first, last = (_word.renew(storage, 1, NOW) for _time in (1, 2))
    assert _word.check(storage, last, 1, NOW + timedelta(minutes=15)) == NOW
    for nonce, epoch in ((first, 1), (last, 2), ("00000000", 1)):
        with pytest.raises(ResilientVmError, match="was used already, or is not the last one"):
            _word.check(storage, nonce, epoch, NOW)
    with pytest.raises(ResilientVmError, match="is good for 15 minutes"):
        _word.check(storage, last, 1, NOW + timedelta(minutes=15, seconds=1))


def test_a_word_is_asked_for_only_while_nobody_else_has_taken_it_over(storage: Layout) -> None:
    """What a run that was refused takes back on the other host hangs on this: from here on no earlier word is good."""
    nonce = _change.ask(storage, 1)
    holds(storage, epoch=2, active="b", standby="a", phase="failing_over")
    with pytest.raises(ResilientVmError, match="is at epoch 2 with b active: somebody else was faster"):
        _change.ask(storage, 1)
    assert _word.check(storage, nonce, 1, _clock.now()) <= _clock.now()


def test_without_one_issued_no_nonce_is_good(storage: Layout) -> None:
    with pytest.raises(ResilientVmError, match="is not the last one"):
        _word.check(storage, "0badcafe", 1, NOW)


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(vm=NAMES, host=NAMES, epoch=st.integers(1, 10**8), nonce=st.from_regex(r"[0-9a-f]{8}", fullmatch=True))
def test_a_word_is_read_as_it_was_written(vm: str, host: str, epoch: int, nonce: str) -> None:
    word = _word.Word(vm, host, epoch, nonce)
    assert _word.parse(f" other@{host}#1-00000000,{word} ", vm, host, epoch) == word
