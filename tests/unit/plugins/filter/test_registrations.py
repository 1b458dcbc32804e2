# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what each machine is told at its registration."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.filter.machines_of import machines_of
from ansible_collections.edgecloud.resilient_vm.plugins.filter.registrations import registrations

PLAN = {
    "customer": "acme",
    "who": "mary",
    "autostart": None,
    "lost_hosts": [],
    "start_unconfirmed": False,
    "self_stop_seconds": 0,
    "vm": "erp",
    "domain": "erp-prod",
    "production": "a",
    "standby": "b",
    "backup_storage": "c",
    "max_age_hours": 26,
    "alarm_command": None,
    "addresses": {name: {"address": f"192.0.2.{number}", "port": 22} for number, name in enumerate("abc", 11)},
    "machines": ["a", "b", "c"],
    "networks": {"br-lan": "vmbr0"},
    "guest_address": None,
    "guest_wait_seconds": 120,
    "max_data_loss_hours": 48,
    "max_clock_skew_seconds": 300,
    "prefer": "time",
    "lend_to": [],
    "timezone": "UTC",
    "transfer_bytes_per_second": 0,
    "takeover_steps": [],
    "machine_settings": {
        name: {
            "fence_agent": "fence_ipmilan",
            "witnesses": [],
            "reserve_bytes": 5,
            "fence_options": {"ip": "192.0.2.111"},
            "fence_seconds": 60,
        }
        for name in "abc"
    },
}
UUIDS = {"a": "uuid-on-a", "b": "uuid-on-b"}
FIRST = {"epoch": 1, "active": "a"}
MOVED = {"epoch": 2, "active": "b"}


def answers(**states: Any) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "told": {
                "public_keys": {"acme/erp": f"key of {name}"},
                "uuids": {"acme/erp": UUIDS.get(name)},
                "states": {"acme/erp": states[name]} if name in states else {},
                "host_keys": [f"host key of {name}"],
            }
        }
        for name in "abc"
    }


@pytest.mark.parametrize(
    ("machine", "holders"),
    [("a", {"b", "c"}), ("b", {"a", "c"}), ("c", {"a", "b"})],
    ids=["host", "other host", "storage"],
)
def test_hosts_let_the_storage_in_and_the_storage_lets_the_hosts_in(machine: str, holders: set[str]) -> None:
    (item,) = registrations([PLAN], answers(), machine, "told")
    assert item["keys"] == {holder: f"key of {holder}" for holder in holders}


def test_without_answers_only_the_vm_is_named() -> None:
    (item,) = registrations([PLAN], answers(), "a")
    assert set(item) == {"customer", "vm", "domain", "production", "standby", "backup_storage", "who"}


@pytest.mark.parametrize("machine", ["a", "b", "c"])
def test_all_are_told_what_a_takeover_without_the_control_node_needs(machine: str) -> None:
    (item,) = registrations([PLAN], answers(), machine, "told")
    assert (item["plan"]["networks"], item["plan"]["addresses"]) == (PLAN["networks"], PLAN["addresses"])
    # That there is a fence agent, and nothing of how it is used.
    kept = {"fence_agent": "fence_ipmilan", "witnesses": [], "reserve_bytes": 5}
    assert item["plan"]["machine_settings"]["a"] == kept


@pytest.mark.parametrize(
    ("states", "uuid"),
    [({}, "uuid-on-a"), ({"c": FIRST}, "uuid-on-a"), ({"a": FIRST, "c": MOVED}, "uuid-on-b")],
    ids=["first time", "at home", "after a takeover"],
)
def test_the_uuid_is_the_active_hosts(states: dict[str, Any], uuid: str) -> None:
    (item,) = registrations([PLAN], answers(**states), "c", "told")
    assert item["uuid"] == uuid


def test_a_machine_is_told_the_states_of_those_it_deals_with() -> None:
    told = answers(a=FIRST, b=FIRST, c=MOVED)
    assert registrations([PLAN], told, "c", "told")[0]["states"] == {"a": FIRST, "b": FIRST}
    assert registrations([PLAN], told, "a", "told")[0]["states"] == {"c": MOVED}


@pytest.mark.parametrize(("wanted", "found", "told"), [(None, True, True), (None, False, False), (False, True, False)])
def test_a_vm_starts_with_its_host_as_the_owner_says_or_as_libvirt_had_it(
    wanted: bool | None, found: bool, told: bool
) -> None:
    machines = answers()
    machines["a"]["told"]["autostarts"] = {"acme/erp": found}
    for machine in ("a", "b"):
        assert registrations([{**PLAN, "autostart": wanted}], machines, machine, "told")[0]["autostart"] is told


def test_what_the_watchdog_needs_goes_to_the_storage_alone() -> None:
    assert registrations([PLAN], answers(), "c", "told")[0]["max_age_hours"] == 26
    assert "max_age_hours" not in registrations([PLAN], answers(), "a", "told")[0]


def test_a_machine_that_gave_no_answer_has_no_key_and_is_not_pinned() -> None:
    told: dict[str, dict[str, Any]] = {**answers(), "b": {}}
    assert registrations([PLAN], told, "c", "told")[0]["keys"] == {"a": "key of a", "b": None}
    assert set(machines_of([PLAN], told, "c", "told")) == {"a"}


def test_the_others_are_pinned_with_their_addresses_and_never_oneself() -> None:
    assert machines_of([PLAN, {**PLAN, "vm": "web"}], answers(), "c", "told") == {
        "a": {"address": "192.0.2.11", "port": 22, "host_keys": ["host key of a"]},
        "b": {"address": "192.0.2.12", "port": 22, "host_keys": ["host key of b"]},
    }
