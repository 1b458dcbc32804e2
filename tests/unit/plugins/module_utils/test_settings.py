# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the table of settings, and about the role that repeats it for Ansible."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._settings import (
    PREFIX,
    TABLE,
    read_all,
    unknown,
)

ROLE = Path(__file__).resolve().parents[4] / "roles" / "resilient_vm"
DEFAULTS = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
OPTIONS = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
MINIMAL = {"resilient_vm_customer": "acme"}


def problem(name: str, value: Any, scope: str = "vm") -> str:
    _values, problems = read_all({**MINIMAL, PREFIX + name: value}, scope, "erp")
    assert len(problems) == 1, problems
    return problems[0]


def accepted(name: str, value: Any, scope: str = "vm") -> Any:
    values, problems = read_all({**MINIMAL, PREFIX + name: value}, scope, "erp")
    assert problems == []
    return values[name]


def test_the_roles_defaults_are_the_tables_in_the_tables_order() -> None:
    assert list(DEFAULTS.items()) == [(row.variable, row.default) for row in TABLE if row.default is not None]


def test_the_roles_arguments_are_the_tables_in_the_tables_order() -> None:
    assert list(OPTIONS) == [row.variable for row in TABLE]
    for row in TABLE:
        option = OPTIONS[row.variable]
        assert (option["type"], option.get("default")) == (row.type, row.default)
        assert option["description"].startswith(row.description)
        assert row.unit in option["description"]


def test_the_roles_own_defaults_pass_its_argument_check() -> None:
    assert ArgumentSpecValidator(OPTIONS).validate(DEFAULTS).error_messages == []


@pytest.mark.parametrize("scope", ["vm", "machine"])
def test_every_default_is_a_value_the_table_accepts(scope: str) -> None:
    given = {**MINIMAL, **{row.variable: row.default for row in TABLE}, **MINIMAL}
    values, problems = read_all(given, scope, "erp")
    assert problems == []
    assert values == {
        row.name: row.default if row.name != "customer" else "acme" for row in TABLE if row.scope in (scope, "both")
    }


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_every_number_has_a_unit_in_its_name_and_its_row(row: Any) -> None:
    if row.type == "int" and row.name not in ("port", "nice"):
        assert row.unit
        assert row.unit.replace(" ", "_") in row.name or row.unit in ("images", "generations")


@pytest.mark.parametrize("value", [0, -3, "two weeks", 1.5, True, [14], "0"])
def test_retention_takes_whole_days_from_one_on(value: Any) -> None:
    said = problem("retention_days", value)
    assert f"resilient_vm_retention_days of erp is {value!r}, but" in said
    assert "it takes a whole number of days, 1 or more (default 14)" in said


@pytest.mark.parametrize(("value", "expected"), [(3, 3), ("3", 3), (" 7 ", 7), (None, 14), ("", 14)])
def test_numbers_may_come_as_texts_from_the_command_line(value: Any, expected: int) -> None:
    assert accepted("retention_days", value) == expected


@pytest.mark.parametrize(("value", "expected"), [(True, True), ("yes", True), ("False", False), (0, False), ("1", 1)])
def test_booleans_may_come_as_words(value: Any, expected: bool) -> None:
    assert accepted("force", value) is bool(expected)


def test_a_word_that_is_no_boolean_is_refused() -> None:
    assert "takes true or false (default false)" in problem("force", "perhaps")


@pytest.mark.parametrize("value", [None, "", "Acme", "acme corp", "-acme", "a" * 29, 5, "acme/../x"])
def test_a_customer_is_a_name_that_can_be_an_account(value: Any) -> None:
    said = problem("customer", value)
    assert "resilient_vm_customer" in said
    assert "a name of 1 to 28 characters out of a-z, 0-9 and -" in said


@pytest.mark.parametrize("value", ["var/lib", "/var/lib/", "/", "/a b", "/a'b", "/a/$HOME", 5])
def test_a_root_that_a_unit_file_would_have_to_quote_is_refused(value: Any) -> None:
    assert "resilient_vm_root of erp" in problem("root", value, "machine")


def test_a_wrong_time_zone_is_said() -> None:
    said = problem("timezone", "Amsterdam")
    assert said.startswith("resilient_vm_timezone of erp is 'Amsterdam', which is not a time zone; use a name like UTC")


@pytest.mark.parametrize(
    "value", ["2026-01-14T02:00:00Z", datetime(2026, 1, 14, 2, tzinfo=timezone.utc), "2026-01-14T03:00:00+01:00"]
)
def test_a_clock_may_be_set_with_and_without_quotes(value: Any) -> None:
    assert accepted("now", value) == "2026-01-14T02:00:00Z"
    assert accepted("now", value, "machine") == "2026-01-14T02:00:00Z"


def test_a_clock_without_a_zone_is_refused() -> None:
    assert "resilient_vm_now" in problem("now", "2026-01-14T02:00:00")


@pytest.mark.parametrize(("value", "expected"), [(["vdc"], ["vdc"]), ("vdc, vdd", ["vdc", "vdd"]), ([], [])])
def test_excluded_disks_are_named_by_target(value: Any, expected: list[str]) -> None:
    assert accepted("exclude_disks", value) == expected


@pytest.mark.parametrize("value", ["vdc,,vdd", [1], {"vdc": True}])
def test_what_is_no_disk_target_is_refused(value: Any) -> None:
    assert "list of disk targets" in problem("exclude_disks", value)


@pytest.mark.parametrize("value", ["br0", {"br0": 1}, ["br0"]])
def test_networks_map_names_to_names(value: Any) -> None:
    assert "a mapping like" in problem("networks", value)


def test_all_problems_are_told_at_once() -> None:
    _values, problems = read_all({"resilient_vm_retention_days": 0, "resilient_vm_timezone": "X"}, "vm", "erp")
    assert len(problems) == 3


def test_a_slip_of_the_pen_is_told_with_the_right_name() -> None:
    assert unknown(["resilient_vm_retention_day", "resilient_vm_root", "other"]) == [
        "resilient_vm_retention_day is no setting of this collection; resilient_vm_retention_days is"
    ]


@pytest.mark.parametrize(
    ("name", "value"), [("compression", 3), ("compression", "19"), ("streams", 4), ("streams", "auto")]
)
def test_a_number_is_taken_with_and_without_quotes(name: str, value: Any) -> None:
    assert accepted(name, value) == str(value)


@pytest.mark.parametrize(("name", "value"), [("compression", 20), ("streams", 0), ("streams", 9), ("streams", True)])
def test_what_is_too_much_or_no_number_is_refused(name: str, value: Any) -> None:
    assert "auto" in problem(name, value)
