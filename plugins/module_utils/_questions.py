# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One question a machine about all its VMs, and of the answers what concerns one VM. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ._takeover import hosts_of
from ._unwitnessed import known

__all__ = ["gate_problems", "part_of", "plans_of", "questions", "told_of"]

# What an answer holds by "customer/vm", and the name one VM's entry gets.
_BY_VM = {"domains": "domain", "states": "state", "newest": "newest", "kept_aside": "kept_aside", "stops": "stopped"}
_WHOLE = ("images", "standbys")


def plans_of(
    hostvars: Mapping[str, Mapping[str, Any]], vms: Iterable[str], register: str, machine: str | None = None
) -> list[dict[str, Any]]:
    """The plans that vm_plan registered under a name for these VMs; only those of a machine when one is given.

    A VM whose plan failed has none.
    """
    plans = [(hostvars[vm].get(register) or {}).get("plan") for vm in vms]
    return [plan for plan in plans if plan and (machine is None or machine in plan["machines"])]


def questions(
    plans: Iterable[Mapping[str, Any]], part: str, answers: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """For each machine of a part (``all``, ``hosts``, ``taker``, ``backup_storage``) the arguments of one question.

    ``answers`` of host_info tell which of two hosts would take a VM over (without them the inventory does), and which
    machines it is no use to ask again.
    """
    asked: dict[str, dict[str, Any]] = {}
    silent = {_machine_of(answer) for answer in _results(answers) if answer.get("reachable") is False}
    for plan in plans:
        for machine in _machines(plan, part, answers):
            if machine in silent:
                continue
            question = asked.setdefault(
                machine,
                {
                    "machine": machine,
                    "root": plan["roots"][machine],
                    "now": plan["nows"][machine],
                    "libvirt": False,
                    "parts": [],
                    "vms": [],
                },
            )
            # A machine that only stores images has no libvirt to be asked about domains.
            hypervisor = machine != plan["backup_storage"]
            question["libvirt"] = question["libvirt"] or hypervisor
            # Which of two hosts is the standby is known only when all have answered: both are asked for it.
            question["parts"] = ["standbys"] if hypervisor else ["images"]
            names = ("customer", "vm") if part == "backup_storage" else ("customer", "vm", "domain")
            question["vms"].append({name: plan[name] for name in names})
    return [asked[machine] for machine in sorted(asked)]


def _machines(plan: Mapping[str, Any], part: str, answers: Mapping[str, Any] | None) -> list[str]:
    if part == "all":
        return list(plan["machines"])
    if part == "hosts":
        return [plan["production"], plan["standby"]]
    if part == "taker":
        told = told_of(answers or {}, plan)
        state = (told.get(plan["backup_storage"]) or {}).get("state")
        return [hosts_of(plan, state or known(plan, told))[1]]
    return [plan[part]]


def part_of(answers: Mapping[str, Any], part: str) -> dict[str, Any]:
    """What a loop over M(host_info) was told besides, as if each machine that answered had been asked for it alone."""
    found = []
    for answer in _results(answers):
        if part in (answer.get("parts") or {}):
            variable = answer.get("ansible_loop_var", "item")
            around = {name: answer[name] for name in ("reachable", "asked", "answered") if name in answer}
            found.append({"ansible_loop_var": variable, variable: answer[variable], **around, **answer["parts"][part]})
    return {"results": found}


def _results(answers: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    return list((answers or {}).get("results") or [])


def _machine_of(answer: Mapping[str, Any]) -> str:
    return str(answer[answer.get("ansible_loop_var", "item")]["machine"])


def gate_problems(answers: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """What is wrong with the gate of a VM's hosts: one sentence each, from a loop of M(gate) over ``questions``.

    Whoever gives no answer had given one when the run began: nobody has told of that yet.
    """
    if not plan:
        return []
    key = f"{plan['customer']}/{plan['vm']}"
    told = []
    # Where one of the hosts is down, that is told.
    heard = [_machine_of(answer) for answer in _results(answers) if answer.get("reachable") is not False]
    both = len(set(heard) & set(plan["machines"])) > 1
    for answer in _results(answers):
        machine = _machine_of(answer)
        if machine not in plan["machines"]:
            continue
        if "problems" not in answer:
            told.append(f"on {machine}: {answer.get('msg') or 'the gate gave no answer'}")
        elif key in answer["problems"]:
            told.append(f"{plan['vm']} could not be started on {machine}: {answer['problems'][key]}")
        elif key in answer.get("after_a_boot", {}) and both:
            told.append(f"if {machine} booted now, {plan['vm']} would stay down: {answer['after_a_boot'][key]}")
        elif key in answer["unregistered"]:
            told.append(f"the gate of {machine} does not know {plan['vm']}; run the site playbook")
    return told


def told_of(answers: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What each machine answered about one VM, by machine.

    ``answers`` is the registered result of a loop over ``questions``. ``answered`` in each says whether the machine
    did; if not, ``msg`` says why, and ``reachable`` whether it is there.
    """
    told = {}
    key = f"{plan['customer']}/{plan['vm']}"
    for answer in _results(answers):
        machine = _machine_of(answer)
        if machine not in plan["machines"]:
            continue
        names = [name for name in (*_BY_VM, *_WHOLE) if name in answer]
        entry: dict[str, Any] = {"answered": bool(names)}
        if not names:
            entry["msg"] = answer.get("msg") or f"machine {machine} gave no answer"
            # One that is there and can't tell is another matter than one that is gone.
            entry["reachable"] = answer.get("reachable") is not False
        for name in ("clock", "version", "account_missing", "root", "libvirt"):
            if name in answer:
                entry[name] = answer[name]
        if "asked" in answer:
            entry["between"] = [answer["asked"], answer["answered"]]
        for name in names:
            about = answer[name].get(key)
            if name in _BY_VM:
                entry[_BY_VM[name]] = about
            else:
                entry.update(about or {})
        told[machine] = entry
    return told
