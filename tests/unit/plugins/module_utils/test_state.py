# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the state document and what the site playbook may do to it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._state import Inventory, State, settle
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._transitions import PHASES

NOW = datetime(2026, 1, 14, 2, tzinfo=timezone.utc)
UUID = "6e1f3c0a-3a5f-4c50-9f7e-3a3f0d9a2c11"
WANTED = Inventory("acme", "erp", "erp", "a", "b", uuid=UUID, max_age_hours=26, alarm_command="/bin/alarm")
FIRST = State("acme", "erp", "erp", UUID, 1, "a", "b", "protected", "2026-01-14T02:00:00Z", "site", 26, "/bin/alarm")
MOVED = replace(FIRST, epoch=2, active="b", standby="a", phase="failed_over", why="failover")


def test_a_first_protection_starts_at_epoch_1_on_the_production_host() -> None:
    assert settle(WANTED, "c", None, {}, NOW) == FIRST


def test_a_document_that_is_right_stays_as_it_is() -> None:
    later = datetime(2026, 5, 1, tzinfo=timezone.utc)
    assert settle(WANTED, "c", FIRST, {"a": FIRST}, later) is not None
    assert settle(WANTED, "c", FIRST, {"a": FIRST}, later) == FIRST
    assert settle(WANTED, "c", MOVED, {"b": MOVED, "a": FIRST}, later) == MOVED


def test_a_machine_that_lost_its_document_gets_the_newest_of_the_others() -> None:
    settled = settle(WANTED, "c", None, {"a": FIRST, "b": MOVED}, NOW)
    assert (settled.epoch, settled.active, settled.standby, settled.phase) == (2, "b", "a", "failed_over")


def test_a_new_backup_storage_hears_both_hosts_before_it_says_who_is_active() -> None:
    with pytest.raises(ResilientVmError) as failure:
        settle(WANTED, "c", None, {"a": FIRST}, NOW, silent=["b"])
    for words in ("c knows nothing of acme/erp", "a says a is its active host", "b can't be asked", '["b"]'):
        assert words in str(failure.value)
    # Nothing to be older than, or a document of its own: nobody is waited for.
    assert settle(WANTED, "c", None, {}, NOW, silent=["b"]) == FIRST
    assert settle(WANTED, "c", MOVED, {"b": MOVED}, NOW, silent=["a"]) == MOVED


@pytest.mark.parametrize(
    "wanted",
    [
        replace(WANTED, domain="erp2"),
        replace(WANTED, standby="b2"),
        replace(WANTED, max_age_hours=50),
        replace(WANTED, alarm_command=None),
    ],
)
def test_what_the_inventory_owns_follows_the_inventory_and_nothing_else_does(wanted: Inventory) -> None:
    settled = settle(wanted, "c", FIRST, {}, NOW)
    assert settled != FIRST
    assert settled == replace(
        FIRST,
        domain=wanted.domain,
        standby=wanted.standby,
        max_age_hours=wanted.max_age_hours,
        alarm_command=wanted.alarm_command,
    )


def test_a_uuid_that_was_unknown_is_filled_in() -> None:
    assert settle(WANTED, "c", replace(FIRST, uuid=None), {}, NOW).uuid == UUID
    assert settle(replace(WANTED, uuid=None), "c", None, {"a": FIRST}, NOW).uuid == UUID


@pytest.mark.parametrize(
    ("wanted", "machine", "own", "others", "words"),
    [
        (replace(WANTED, uuid="other"), "c", FIRST, {}, ["acme/erp", UUID, "other", "unprotect"]),
        (WANTED, "c", FIRST, {"a": replace(FIRST, uuid="other")}, ["acme/erp", "a: other"]),
        (WANTED, "c", FIRST, {"b": MOVED}, ["c holds epoch 1", "b holds epoch 2"]),
        (WANTED, "a", FIRST, {"c": MOVED}, ["a holds epoch 1", "c holds epoch 2", "b active"]),
        (WANTED, "c", MOVED, {"a": replace(MOVED, active="a", standby="b")}, ["epoch 2", "acme/erp"]),
        (replace(WANTED, production="x", standby="y"), "c", FIRST, {}, ["active host", "a", "x", "y"]),
        (WANTED, "c", replace(FIRST, vm="crm"), {}, ["acme/crm", "acme/erp"]),
    ],
    ids=["new uuid", "uuids differ", "storage behind", "host behind", "two actives", "active gone", "other vm"],
)
def test_a_disagreement_is_one_sentence_naming_who_says_what(
    wanted: Inventory, machine: str, own: State | None, others: dict[str, State], words: list[str]
) -> None:
    with pytest.raises(ResilientVmError) as failure:
        settle(wanted, machine, own, others, NOW)
    assert all(word in str(failure.value) for word in words)
    assert "\n" not in str(failure.value)


@given(
    own_epoch=st.integers(0, 4),
    epochs=st.dictionaries(st.sampled_from(["a", "b"]), st.integers(1, 4)),
    machine=st.just("c"),
)
def test_the_site_never_lowers_an_epoch(own_epoch: int, epochs: dict[str, int], machine: str) -> None:
    def at(epoch: int) -> State:
        active, standby = ("a", "b") if epoch % 2 else ("b", "a")
        return replace(FIRST, epoch=epoch, active=active, standby=standby)

    own = at(own_epoch) if own_epoch else None
    others = {name: at(epoch) for name, epoch in epochs.items()}
    highest = max([own_epoch, *epochs.values()]) or 1
    try:
        settled = settle(WANTED, machine, own, others, NOW)
    except ResilientVmError:
        assert 0 < own_epoch < highest
    else:
        assert settled.epoch == highest
        assert settled.active == at(highest).active


def test_a_document_comes_back_as_it_was_written() -> None:
    assert State.from_json(json.loads(json.dumps(MOVED.as_dict())), "state.json") == MOVED


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"schema": "1"},
        {"epoch": 0},
        {"epoch": "1"},
        {"epoch": True},
        {"phase": "sleeping"},
        {"active": None},
        {"active": "b"},
        {"uuid": 7},
        {"max_age_hours": "26"},
    ],
    ids=str,
)
def test_a_document_we_do_not_understand_is_named_and_never_guessed_at(change: dict[str, object]) -> None:
    with pytest.raises(ResilientVmError, match=r"erp/state\.json"):
        State.from_json({**FIRST.as_dict(), **change}, "erp/state.json")


@pytest.mark.parametrize("document", [None, [], "x", {}])
def test_what_is_no_document_is_refused(document: object) -> None:
    with pytest.raises(ResilientVmError, match="is not a state document"):
        State.from_json(document, "state.json")


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_is_understood(phase: str) -> None:
    assert State.from_json(replace(FIRST, phase=phase).as_dict(), "x").phase == phase
