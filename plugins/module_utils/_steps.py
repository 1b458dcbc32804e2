# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an owner wants done when a VM changes its host: resilient_vm_takeover_steps, checked and resolved. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["BEFORE", "RUNNING", "actions_of", "left", "line", "problems"]

# When a step is taken: before the machine starts, or when its guest is up.
BEFORE, RUNNING = MOMENTS = ("before_start", "running")
UNDO = "failover_undo"
VARIABLE = "resilient_vm_takeover_steps"
# Whose machine: the one that runs the VM from now on, the backup storage, the control node.
_PLACES = ("active", "backup_storage", "control")
_FORMS = ("command", "nsupdate", "tasks")
_FORM_KEYS = (*_FORMS, "host", "seconds")
_STEP_KEYS = ("name", "when", *_FORM_KEYS, "verify", "undo")
_SECONDS = 60
_DNS = ("server", "record", "type", "ttl", "value")
_DNS_KEYS = (*_DNS, "zone", "key_file")
_CHECKS = "guest checks"


def problems(steps: Sequence[Mapping[str, Any]], owner: str) -> list[str]:
    """A sentence for each thing that is wrong with them."""
    found = []
    names = [str(step.get("name") or "") for step in steps]
    for number, (step, name) in enumerate(zip(steps, names), 1):
        where = f"step {name or number} in {VARIABLE} of {owner}"
        if not name or names.count(name) > 1 or name == _CHECKS:
            found.append(f"{where} has no name of its own; give it one")
        if step.get("when", RUNNING) not in MOMENTS:
            found.append(f"{where} has when: {step['when']}; it takes {' or '.join(MOMENTS)}")
        found += _unknown(step, _STEP_KEYS, where)
        found += _form_problems(step, where)
        if step.get("when") == "before_start" and any("tasks" in part for part in _parts(step)):
            found.append(
                f"{where} has tasks before the start, where a machine that they can't reach would end the takeover; "
                "write a command, or leave out when"
            )
        for part in ("verify", "undo"):
            if part in step:
                inner, place = step[part], f"{part} of {where}"
                if not isinstance(inner, Mapping):
                    found.append(f"{place} is no mapping; write one of {', '.join(_FORMS)} in it")
                    continue
                found += [*_unknown(inner, _FORM_KEYS, place), *_form_problems(inner, place)]
    return found


def _parts(step: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [part for part in (step, step.get("verify"), step.get("undo")) if isinstance(part, Mapping)]


def _unknown(given: Mapping[str, Any], known: Sequence[str], where: str) -> list[str]:
    return [f"{where} has {key}, which is none of {', '.join(known)}" for key in given if key not in known]


def _form_problems(form: Mapping[str, Any], where: str) -> Iterator[str]:
    named = [kind for kind in _FORMS if kind in form]
    if len(named) != 1:
        yield f"{where} has {' and '.join(named) or 'nothing to do'}; write exactly one of {', '.join(_FORMS)}"
    if form.get("host", "active") not in _PLACES:
        yield f"{where} has host: {form['host']}; it takes {' or '.join(_PLACES)}"
    seconds = form.get("seconds", _SECONDS)
    if not isinstance(seconds, int) or isinstance(seconds, bool) or seconds < 1:
        yield f"{where} has seconds: {seconds}; it takes a whole number of seconds, 1 or more"
    words = form.get("command", ["x"])
    if not isinstance(words, (list, tuple)) or not words or not all(isinstance(word, str) and word for word in words):
        yield f"{where} has no list of texts as its command; write it like [/usr/local/sbin/move-route, erp]"
    path = form.get("tasks", "/x")
    if not isinstance(path, str) or not path.startswith("/"):
        yield f"{where} names no file of tasks; write its absolute path on the control node"
    for key in ("host", "seconds"):
        if "tasks" in form and key in form:
            yield f"{where} has {key} beside tasks, which run on the control node; take it out"
    if "nsupdate" in form:
        yield from _dns_problems(form["nsupdate"], where)


def _dns_problems(given: Any, where: str) -> Iterator[str]:
    if not isinstance(given, Mapping):
        yield f"nsupdate of {where} is no mapping; write {', '.join(_DNS)} in it"
        return
    missing = [key for key in _DNS if given.get(key) in (None, "", {})]
    if missing:
        yield f"nsupdate of {where} lacks {', '.join(missing)}"
    yield from _unknown(given, _DNS_KEYS, f"nsupdate of {where}")
    for key, value in given.items():
        # They end up as words of one line.
        several = value.values() if key == "value" and isinstance(value, Mapping) else [value]
        kept = r"[^\r\n]+" if key == "value" else r"\S+"
        if not all(re.fullmatch(kept, str(each)) for each in several):
            yield f"{key} in nsupdate of {where} is {value!r}, which is no word of one line"


def left(
    plan: Mapping[str, Any], recorded: Mapping[str, Any], active: str, standby: str, epoch: int, moment: str = ""
) -> list[dict[str, Any]]:
    """The steps that have not succeeded yet, in their order, each with its ``actions``.

    ``recorded`` is what M(takeover_record) returned on the active host: which move it is, what came of steps before.
    Nothing is left of a move that took none.
    """
    move = recorded["move"]
    passed = {step["mark"] for step in recorded["steps"] if step["passed"]}
    found = []
    for step in _of(plan, move) if move else ():
        mark = hashlib.sha256(json.dumps(step, sort_keys=True).encode()).hexdigest()[:12]
        if mark not in passed and moment in ("", step.get("when", RUNNING)):
            actions = actions_of(step, plan, active)
            environment = {
                "RESILIENT_VM_VM": plan["vm"],
                "RESILIENT_VM_ACTIVE_HOST": active,
                "RESILIENT_VM_STANDBY_HOST": standby,
                "RESILIENT_VM_EPOCH": str(epoch),
                "RESILIENT_VM_MOVE": move,
            }
            found.append({"name": step["name"], "mark": mark, "actions": actions, "environment": environment})
    return found


def _of(plan: Mapping[str, Any], move: str) -> list[Mapping[str, Any]]:
    """All steps of a move. What was done last is undone first."""
    steps: list[Mapping[str, Any]] = list(plan["takeover_steps"])
    if move == UNDO:
        steps = [{"name": f"undo {step['name']}", **step["undo"]} for step in reversed(steps) if "undo" in step]
    checks = plan["guest_checks"]
    return [*steps, {"name": _CHECKS, "tasks": checks}] if checks else steps


def actions_of(step: Mapping[str, Any], plan: Mapping[str, Any], active: str) -> list[dict[str, Any]]:
    """What a step does, and what verifies it, each on its machine."""
    forms = [("step", step), *([("verify", step["verify"])] if "verify" in step else [])]
    return [{"what": what, **_action(form, plan, active)} for what, form in forms]


def _action(form: Mapping[str, Any], plan: Mapping[str, Any], active: str) -> dict[str, Any]:
    machines = {"active": active, "backup_storage": plan["backup_storage"], "control": "localhost"}
    action: dict[str, Any] = {
        "machine": machines[form.get("host", "active")],
        "seconds": form.get("seconds", _SECONDS),
        "argv": list(form.get("command", [])),
        "stdin": "",
        "tasks": form.get("tasks", ""),
    }
    if "nsupdate" in form:
        given = form["nsupdate"]
        action["argv"] = ["nsupdate", *(["-k", given["key_file"]] if given.get("key_file") else [])]
        action["stdin"] = _dns_script(given, active)
    return action


def _dns_script(given: Mapping[str, Any], active: str) -> str:
    name, kind = given["record"], given["type"]
    value = given["value"].get(active) if isinstance(given["value"], Mapping) else given["value"]
    lines = [
        f"server {given['server']}",
        *([f"zone {given['zone']}"] if given.get("zone") else []),
        f"update delete {name} {kind}",
        # A record that has no value for this host is only for the others.
        *([f"update add {name} {given['ttl']} {kind} {value}"] if value else []),
        "send",
    ]
    return "\n".join(lines) + "\n"


def line(step: Mapping[str, Any]) -> str:
    """What came of it, for people."""
    if step["passed"]:
        return f"{step['name']}: done in {step['seconds']} s"
    return f"{step['name']}: FAILED after {step['seconds']} s: {step['said']}"
