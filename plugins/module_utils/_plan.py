# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory says about one protected VM, checked as a whole before any machine is touched. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable

from . import _settings, _steps
from ._errors import ResilientVmError, refusal
from ._layout import Layout

__all__ = ["GROUP", "make_plan"]

GROUP = "protected_vms"
_SECRETS = [setting.name for setting in _settings.TABLE if setting.secret]
# Part in the plan, which is the group's name too: A, B, C.
_PARTS = ("production", "standby", "backup_storage")


def make_plan(
    vm: str,
    variables: Mapping[str, Any],
    groups: Mapping[str, Sequence[str]],
    variables_of: Callable[[str], Mapping[str, Any]],
) -> dict[str, Any]:
    """The plan of a VM: its settings, its three machines, their addresses and roots.

    ``groups`` are the inventory's, never a play's hosts: --limit must not take a machine away.
    Raises ResilientVmError with one sentence a line; ``problems`` has them as a list.
    """
    if vm not in groups.get(GROUP, ()):
        raise refusal([f"{vm} is no protected VM of this inventory; add it to group {GROUP} or name another"])
    values, problems = _settings.read_all(variables, "vm", vm)
    problems += _steps.problems(values["takeover_steps"], vm)
    machines = {part: _machine(vm, part, values, groups, problems) for part in _PARTS}
    names = sorted(set(machines.values()) - {""})
    found = {name: _machine_settings(name, variables_of(name), problems) for name in names}
    _check_apart(vm, machines, found, problems)
    _check_lend_to(vm, values["lend_to"], machines, problems)
    if values["self_stop_seconds"] and values["start_unconfirmed"]:
        problems.append(
            f"resilient_vm_self_stop_seconds stops {vm} when nobody answers, and resilient_vm_start_unconfirmed starts "
            "it then; set one of them"
        )
    for entry in found.values():
        _check_names(vm, values, entry["root"], problems)
    if problems:
        raise refusal(list(dict.fromkeys(problems)))
    named = {f"{part}_host" for part in _PARTS} | {"now"}
    return {
        "vm": vm,
        **{name: value for name, value in values.items() if name not in named},
        "domain": values["domain"] or vm,
        **machines,
        "active": machines["production"],
        "machines": [machines[part] for part in _PARTS],
        "machine_settings": found,
        "addresses": {name: {"address": entry["address"], "port": entry["port"]} for name, entry in found.items()},
        "roots": {name: entry["root"] for name, entry in found.items()},
        "nows": {**{name: entry["now"] for name, entry in found.items()}, "localhost": values["now"]},
    }


def _machine(
    vm: str, part: str, values: Mapping[str, Any], groups: Mapping[str, Sequence[str]], problems: list[str]
) -> str:
    """The machine that plays a part for the VM, or "" with the reason among the problems."""
    variable = f"{_settings.PREFIX}{part}_host"
    members = list(groups.get(part, ()))
    named = values[f"{part}_host"]
    if named in members:
        return named
    if named:
        problems.append(
            f"{variable} of {vm} names {named}, which is not in group {part} of this inventory; "
            "add it there or correct the name (a sliced inventory may have lost it)"
        )
    elif len(members) == 1:
        return members[0]
    elif members:
        problems.append(
            f"group {part} has several machines ({', '.join(members)}) and {vm} names none of them; "
            f"set {variable} for {vm}"
        )
    else:
        problems.append(
            f"group {part} of this inventory has no machine, and {vm} needs one; "
            "add it there (a sliced inventory may have lost it)"
        )
    return ""


def _machine_settings(name: str, variables: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    given = dict.fromkeys(("resilient_vm_address", "resilient_vm_port"))
    for setting in _settings.TABLE:
        if setting.scope != "vm" and setting.variable in variables and not setting.secret:
            given[setting.variable] = variables[setting.variable]
    if given["resilient_vm_address"] is None:
        given["resilient_vm_address"] = variables.get("ansible_host") or name
    if given["resilient_vm_port"] is None:
        given["resilient_vm_port"] = variables.get("ansible_port") or 22
    values, wrong = _settings.read_all(given, "machine", name)
    problems.extend(wrong)
    # Whoever needs a secret takes it from the inventory; a plan is shown.
    return {name: value for name, value in values.items() if name not in _SECRETS}


def _check_apart(
    vm: str, machines: Mapping[str, str], found: Mapping[str, Mapping[str, Any]], problems: list[str]
) -> None:
    for first, second in ((0, 2), (0, 1), (1, 2)):
        one, other = machines[_PARTS[first]], machines[_PARTS[second]]
        if not one or not other:
            continue
        what = f"the {_words(first)} and the {_words(second)} of {vm}"
        if one == other:
            problems.append(
                f"{what} are both {one}; they must be different machines: correct the groups or resilient_vm_*_host"
            )
        elif _place(found[one]) == _place(found[other]):
            problems.append(
                f"{what}, {one} and {other}, both have the address {found[one]['address']}; "
                "they must be different machines: correct ansible_host or resilient_vm_address"
            )


def _check_lend_to(vm: str, names: Sequence[str], machines: Mapping[str, str], problems: list[str]) -> None:
    hosts = [machines["production"], machines["standby"]]
    problems.extend(
        f"resilient_vm_lend_to of {vm} names {name}, which is no host of it; name {' or '.join(hosts)}"
        for name in names
        if name not in hosts
    )


def _words(part: int) -> str:
    return ("production host", "standby host", "backup storage")[part]


def _place(entry: Mapping[str, Any]) -> tuple[Any, Any]:
    return entry["address"], entry["port"]


def _check_names(vm: str, values: Mapping[str, Any], root: str, problems: list[str]) -> None:
    if not values["customer"]:
        return
    try:
        Layout(values["customer"], vm, root)
    except ResilientVmError as error:
        problems.append(str(error))
