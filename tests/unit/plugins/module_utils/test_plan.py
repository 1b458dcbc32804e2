# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what an inventory must say before any machine is touched."""

from __future__ import annotations

from typing import Any

import pytest
from unit.fakes_cycle import GROUPS

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._plan import make_plan

MACHINES = {name: {"ansible_host": f"192.0.2.{number}"} for number, name in enumerate("abc", 1)}


def plan(
    given: dict[str, Any] | None = None,
    groups: dict[str, list[str]] | None = None,
    machines: dict[str, dict[str, Any]] | None = None,
    vm: str = "erp",
) -> dict[str, Any]:
    known = {**MACHINES, **(machines or {})}
    variables = {"resilient_vm_customer": "acme", **(given or {})}
    return make_plan(vm, variables, {**GROUPS, **(groups or {})}, lambda name: known.get(name, {}))


def problems(*args: Any, **named: Any) -> list[str]:
    with pytest.raises(ResilientVmError) as failure:
        plan(*args, **named)
    said = failure.value.facts["problems"]
    assert str(failure.value).splitlines() == said, "one line a problem"
    return said


def test_a_minimal_inventory_makes_a_whole_plan() -> None:
    found = plan()
    assert (found["vm"], found["customer"], found["domain"]) == ("erp", "acme", "erp")
    assert (found["production"], found["standby"], found["backup_storage"]) == ("a", "b", "c")
    assert found["active"] == "a"
    assert found["machines"] == ["a", "b", "c"]
    assert found["addresses"]["b"] == {"address": "192.0.2.2", "port": 22}
    assert found["roots"]["c"] == "/var/lib/resilient-vm"
    assert found["nows"] == {"a": None, "b": None, "c": None, "localhost": None}
    assert (found["retention_days"], found["retention_minimum"], found["min_interval_hours"]) == (14, 3, 18)
    assert found["machine_settings"]["c"]["reserve_bytes"] == 1 << 30


def test_machines_and_the_vm_have_settings_and_clocks_of_their_own() -> None:
    found = plan(
        {"resilient_vm_now": "2026-01-14T02:00:00Z", "resilient_vm_retention_days": "3"},
        machines={
            "b": {
                "ansible_host": "b.lan",
                "ansible_port": "2222",
                "resilient_vm_root": "/srv/rvm",
                "resilient_vm_now": "2027-01-14T02:00:00Z",
            },
            "c": {"ansible_host": "127.0.0.1", "resilient_vm_address": "192.0.2.33", "resilient_vm_port": 2022},
        },
    )
    assert found["retention_days"] == 3
    assert found["addresses"]["b"] == {"address": "b.lan", "port": 2222}
    assert found["addresses"]["c"] == {"address": "192.0.2.33", "port": 2022}
    assert found["roots"]["b"] == "/srv/rvm"
    assert found["nows"] == {"a": None, "b": "2027-01-14T02:00:00Z", "c": None, "localhost": "2026-01-14T02:00:00Z"}


@pytest.mark.parametrize("secrets", [{"password": "grapes"}, "grapes", ["grapes"]])
def test_a_plan_which_is_shown_holds_no_secret(secrets: Any) -> None:
    fencing = {"resilient_vm_fence_agent": "fence_x", "resilient_vm_fence_secrets": secrets}
    found = plan(machines={"a": {"ansible_host": "192.0.2.1", **fencing}})
    assert found["machine_settings"]["a"]["fence_agent"] == "fence_x"
    assert "grapes" not in str(found)
    assert "fence_secrets" not in found["machine_settings"]["a"]


def test_a_vm_chooses_among_several_machines() -> None:
    found = plan({"resilient_vm_production_host": "a2"}, {"production": ["a", "a2"]})
    assert (found["production"], found["active"]) == ("a2", "a2")


def test_several_machines_and_none_named() -> None:
    assert problems(groups={"production": ["a", "a2"]}) == [
        "group production has several machines (a, a2) and erp names none of them; "
        "set resilient_vm_production_host for erp"
    ]


@pytest.mark.parametrize("group", ["production", "standby", "backup_storage"])
@pytest.mark.parametrize("members", [[], None])
def test_a_missing_machine_is_named_by_its_group(group: str, members: list[str] | None) -> None:
    said = problems(groups={group: members or []})
    assert len(said) == 1
    assert said[0].startswith(f"group {group} of this inventory has no machine, and erp needs one")


def test_a_named_machine_that_a_slice_lost() -> None:
    said = problems({"resilient_vm_backup_storage_host": "c9"})
    assert said == [
        "resilient_vm_backup_storage_host of erp names c9, which is not in group backup_storage of this inventory; "
        "add it there or correct the name (a sliced inventory may have lost it)"
    ]


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"backup_storage": ["a"]}, "the production host and the backup storage of erp are both a;"),
        ({"standby": ["a"]}, "the production host and the standby host of erp are both a;"),
        ({"standby": ["c"]}, "the standby host and the backup storage of erp are both c;"),
    ],
)
def test_one_machine_cannot_play_two_parts(groups: dict[str, list[str]], said: str) -> None:
    found = problems(groups=groups)
    assert len(found) == 1
    assert found[0].startswith(said)


@pytest.mark.parametrize(("one", "other"), [("a", "c"), ("a", "b"), ("b", "c")])
def test_two_names_of_one_address_are_one_machine(one: str, other: str) -> None:
    same = {"ansible_host": "192.0.2.9"}
    found = problems(machines={one: same, other: same})
    assert len(found) == 1
    assert f"{one} and {other}, both have the address 192.0.2.9" in found[0]


def test_one_address_with_two_ports_is_two_machines() -> None:
    plan(
        machines={
            "a": {"ansible_host": "gate", "ansible_port": 2201},
            "b": {"ansible_host": "gate", "ansible_port": 2202},
        }
    )


@pytest.mark.parametrize("value", [0, -3, "two weeks"])
def test_a_wrong_retention_is_refused(value: Any) -> None:
    assert len(problems({"resilient_vm_retention_days": value})) == 1


def test_a_vm_is_not_both_stopped_and_started_where_nobody_answers() -> None:
    both = {"resilient_vm_self_stop_seconds": 600, "resilient_vm_start_unconfirmed": True}
    assert problems(both) == [
        "resilient_vm_self_stop_seconds stops erp when nobody answers, and resilient_vm_start_unconfirmed starts it "
        "then; set one of them"
    ]


def test_images_are_lent_to_hosts_of_the_vm_alone() -> None:
    assert plan({"resilient_vm_lend_to": ["b"]})["lend_to"] == ["b"]
    for name in ("c", "d"):
        assert problems({"resilient_vm_lend_to": ["b", name]}) == [
            f"resilient_vm_lend_to of erp names {name}, which is no host of it; name a or b"
        ]


def test_a_wrong_time_zone_is_refused() -> None:
    assert problems({"resilient_vm_timezone": "Mars/Olympus"}) == [
        "resilient_vm_timezone of erp is 'Mars/Olympus', which is not a time zone; "
        "use a name like UTC or Europe/Amsterdam"
    ]


@pytest.mark.parametrize("customer", [None, ""])
def test_a_missing_customer_is_one_problem_and_not_four(customer: Any) -> None:
    said = problems({"resilient_vm_customer": customer})
    assert len(said) == 1
    assert said[0].startswith("resilient_vm_customer is not set for erp; set it in the inventory (group_vars/all.yml)")


def test_a_machines_wrong_setting_names_the_machine() -> None:
    said = problems(machines={"c": {"ansible_host": "c", "resilient_vm_root": "rvm"}})
    assert len(said) == 1
    assert "resilient_vm_root of c is 'rvm'" in said[0]


def test_a_name_that_cannot_be_a_folder_is_refused() -> None:
    said = problems(vm="erp one", groups={"protected_vms": ["erp one"]})
    assert said == ["VM name 'erp one' is not made of letters, digits, dot, - and _; rename the inventory host"]


def test_a_host_outside_the_group_is_no_protected_vm() -> None:
    assert problems(vm="b") == ["b is no protected VM of this inventory; add it to group protected_vms or name another"]


def test_all_problems_are_told_at_once() -> None:
    said = problems({"resilient_vm_customer": "ACME", "resilient_vm_retention_days": 0}, {"standby": ["c"]})
    assert len(said) == 3
