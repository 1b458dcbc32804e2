# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an unplanned takeover does for one VM: decided on the control node from what three machines say. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from . import _address, _clock, _evidence, _fence, _newer, _unwitnessed
from ._domain import STOPPED
from ._errors import ResilientVmError
from ._human import human_age
from ._look import GATEWAY
from ._word import VALID_MINUTES, Word, parse

__all__ = [
    "CONTROL",
    "Decision",
    "Facts",
    "age",
    "decide",
    "demand",
    "hosts_of",
    "looks_of",
    "targets",
    "unfit",
]

_SITE = "run the site playbook"
# Phases that a takeover may be found in: not begun (a host may go down while it restores, or while the VM leaves it),
# begun by a run that was cut off, over.
_FIRST, _RESUMED, _OVER = ("protected", "switching", "restoring"), "failing_over", "failed_over"
CONTROL = "localhost"
# What ssh says when something at the other end answered: refused, or let in no further.
_UP = re.compile(r"refused|denied|verification failed", re.IGNORECASE)
# The same of a connection that ended, but only of one to an address: behind a jump host or another ProxyCommand ssh
# names port 65535 of UNKNOWN, and what closed it is the proxy, as it does when it finds nobody there.
_ENDED, _BEHIND_PROXY = re.compile(r"closed by|reset by|kex_exchange", re.IGNORECASE), "UNKNOWN port"


@dataclass(frozen=True)
class Facts:
    """What was answered: by M(host_info) and M(standby_info) of this VM, and by everybody's look, by machine.

    ``looks`` has for each machine that could look {name: how it reached it, or ""}.
    """

    hosts: Mapping[str, Mapping[str, Any]]
    standbys: Mapping[str, Mapping[str, Any]]
    looks: Mapping[str, Mapping[str, str]]
    now: datetime
    version: str = ""
    # (machine, result of M(host_fence)) of those that were to power the active host off, in turn.
    fenced: Sequence[tuple[str, Mapping[str, Any]]] = ()
    # What M(vm_look) heard at the guest's address; empty when nobody was to be asked.
    address: Mapping[str, Any] = field(default_factory=dict)
    # What became of bringing the backup storage's newest image over: ``image``, ``seconds``, ``problem``. Empty before.
    brought: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """``action``: nothing (it runs there already), bring (the backup storage's newer image, then look and decide
    again), fence (power the old host off, then the same), witness (tell the backup storage of what was decided without
    it, then the same), confirm (ask for the operator's word), take."""

    action: str
    why: str
    # From which host it is taken, and which one takes it.
    active: str
    taker: str
    # The one at which this was decided, and the one the VM will have at the taker.
    epoch: int
    new_epoch: int
    resumed: bool
    uuid: str | None
    nonce: str
    generation: str | None
    # How much is lost, by the generation's own time.
    data_time: str | None
    lost_seconds: int | None
    evidence: dict[str, Any] = field(default_factory=dict)
    # Who uses the guest's address, as M(vm_look) says; empty when nobody was asked.
    address: dict[str, Any] = field(default_factory=dict)
    # Sentences for people.
    remarks: list[str] = field(default_factory=list)
    # Where it is decided: on the backup storage, or, without that, on the host that takes it.
    decider: str = ""
    unwitnessed: bool = False
    # The document that is followed when it was decided before this run.
    document: dict[str, Any] = field(default_factory=dict)
    # With "witness": what the backup storage missed.
    late: dict[str, Any] = field(default_factory=dict)


def hosts_of(plan: Mapping[str, Any], state: Mapping[str, Any] | None) -> tuple[str, str]:
    """(the host it is taken from, the host that takes it), by the document that counts, else by the inventory."""
    if not state:
        return str(plan["production"]), str(plan["standby"])
    if state["phase"] in (_RESUMED, _OVER):
        return str(state["standby"]), str(state["active"])
    return str(state["active"]), str(state["standby"])


def targets(plan: Mapping[str, Any], machine: str) -> list[dict[str, Any]]:
    """What a machine looks for: the VM's other machines, and the guest itself."""
    others = [name for name in plan["machines"] if name != machine]
    found = [{"name": name, **plan["addresses"][name]} for name in others]
    found += _unwitnessed.witnesses(plan, machine)
    if plan["guest_address"]:
        address, port = _address.host_and_port(plan["guest_address"])
        found.append({"name": plan["vm"], "address": address, "port": port})
    return found


def decide(plan: Mapping[str, Any], facts: Facts, confirm: str = "", scheduled: bool = False) -> Decision:
    """The decision for one VM. Raises ResilientVmError, one sentence a line, when nothing may be done."""
    storage = plan["backup_storage"]
    alone = _alone(plan, facts, scheduled)
    state = _unwitnessed.known(plan, facts.hosts) if alone else (facts.hosts.get(storage) or {}).get("state")
    active, taker = hosts_of(plan, state)
    known, held = facts.hosts.get(taker) or {}, facts.standbys.get(taker) or {}
    phase = (state or {}).get("phase")
    resumed = phase == _RESUMED
    late = _unwitnessed.late(plan, facts.hosts, _newest(facts, storage), facts.standbys)
    newer = _newer.than(held, facts.hosts.get(storage) or {}) if phase in _FIRST else None
    remarks = _newer.remarks(plan, taker, held, newer, facts.brought)
    brings = bool(newer) and not (facts.brought or plan["takeover_point"]) and plan["prefer"] == "newest"
    if brings:
        # Decided for the data that it will have.
        held = {**held, "current": newer}
        facts = replace(facts, standbys={**facts.standbys, taker: held})
    stranger = facts.address.get("mac") and not facts.address["own"] and plan["despite_findings"]
    seen = {**_seen(plan, facts, active, taker), **({"vm_answers": False} if stranger else {})}
    if late and late.problem:
        raise ResilientVmError(late.problem)
    if (
        state
        and not late
        and seen["seen_by_standby"] is not None
        and (alone or seen["seen_by_backup_storage"] is not None)
    ):
        problems = unfit(plan, facts, state, taker)
        if problems:
            raise ResilientVmError("\n".join([*problems, *remarks]), problems=problems)
    epoch = state["epoch"] if state else 1
    current = chosen(plan, held)
    found: dict[str, Any] = {
        "active": active,
        "taker": taker,
        "epoch": epoch,
        "new_epoch": epoch if phase in (_RESUMED, _OVER) else epoch + 1,
        "resumed": resumed,
        "uuid": (state or {}).get("uuid"),
        "generation": current.get("id"),
        "data_time": current.get("instant"),
        "lost_seconds": age(current, facts.now),
        "decider": taker if alone else storage,
        "unwitnessed": alone,
        "document": _to_follow(state, alone, facts.now),
    }
    if late:
        why = f"{storage} is told that {late.host} took {plan['vm']} over by itself at {late.when}"
        return Decision("witness", why, nonce="", late=asdict(late), **found)
    if state and phase == _OVER:
        return _over(plan, state, known, found)
    if scheduled and confirm:
        raise ResilientVmError(
            f"resilient_vm_confirm is set in a scheduled job: it is somebody's word that {active} is off now; start "
            "failover by hand"
        )
    runs = (known.get("domain") or {}).get("state") == "running"
    if resumed and runs and (known.get("state") or {}).get("epoch") == epoch:
        # Started by a run that was cut off afterwards: it is the one whose guest answers, and only its end is missing.
        return Decision("take", f"{plan['vm']} runs on {taker} already", nonce="", **found)
    _refuse_half_an_answer(plan, facts, active)
    # A run that was cut off after the change of state had the word for it: it was used then.
    word = None if resumed else parse(confirm, plan["vm"], active, epoch)
    power, fenced = _fence.verdict(facts.fenced)
    evidence = _evidence.Evidence(
        vm=plan["vm"],
        active=active,
        standby=taker,
        backup_storage=storage,
        fencing=bool(plan["machine_settings"][active]["fence_agent"]),
        power=power,
        fenced=fenced,
        confirmed=resumed or word is not None,
        without_backup_storage=plan["without_backup_storage"],
        **seen,
    )
    verdict = _evidence.decide(evidence)
    used = _address.objection(plan["vm"], taker, facts.address, plan["despite_findings"])
    # Where its address answers it is worth more who that is.
    if used and (verdict.action != "refuse" or evidence.vm_answers):
        raise ResilientVmError(f"{plan['vm']} is not taken over: {used}")
    if verdict.action == "refuse":
        offer = _unwitnessed.offer(plan, evidence, current, facts.now) if _whole(current) else ""
        raise ResilientVmError(f"{plan['vm']} is not taken over: {verdict.why}{offer}")
    found.update(evidence=evidence.as_dict(), address=dict(facts.address), remarks=remarks)
    if brings:
        return Decision("bring", _newer.why(storage, taker, held), nonce="", **found)
    # A host that is off needs nobody's word, which may be too old by now.
    nonce = word.nonce if word and power != _fence.OFF else ""
    return Decision(verdict.action, verdict.why, nonce=nonce, **found)


def _refuse_half_an_answer(plan: Mapping[str, Any], facts: Facts, active: str) -> None:
    """A machine that answers and doesn't tell what it sees is not one that is gone, for which others may stand in."""
    for machine, told in facts.hosts.items():
        if machine != active and told.get("reachable") and not told.get("answered"):
            said = f"{plan['vm']} is not taken over: {machine} can't tell what it knows: {told['msg']}"
            way = f"; mend that, or switch {machine} off to go on without it"
            raise ResilientVmError(said + (way if machine == plan["backup_storage"] else ""))
        if machine in (active, *facts.looks) or not _answered(facts, machine):
            continue
        raise ResilientVmError(
            f"{plan['vm']} is not taken over: {machine} answered, but has not told whether it sees {active}; run again"
        )


def _seen(plan: Mapping[str, Any], facts: Facts, active: str, taker: str) -> dict[str, Any]:
    def reaches(machine: str, name: str) -> bool | None:
        look = facts.looks.get(machine)
        return None if look is None else bool(look.get(name))

    storage = plan["backup_storage"]
    looked = (CONTROL, taker, storage)
    return {
        "vm_answers": any(reaches(machine, plan["vm"]) for machine in looked),
        "seen_by_control": bool(reaches(CONTROL, active)),
        "seen_by_standby": reaches(taker, active) if _answered(facts, taker) else None,
        "seen_by_backup_storage": reaches(storage, active) if _answered(facts, storage) else None,
        "standby_sees_backup_storage": bool(reaches(taker, storage)),
        "standby_sees_witness": any(
            reaches(taker, name) for name in [GATEWAY, *(each["name"] for each in _unwitnessed.witnesses(plan, taker))]
        ),
    }


def _alone(plan: Mapping[str, Any], facts: Facts, scheduled: bool) -> bool:
    """Whether the host that takes it decides by itself."""
    if scheduled and plan["without_backup_storage"]:
        raise ResilientVmError(
            "resilient_vm_without_backup_storage is set in a scheduled job: what nobody witnesses is for somebody to "
            "want; start failover by hand"
        )
    return bool(plan["without_backup_storage"]) and not _answered(facts, plan["backup_storage"])


def _newest(facts: Facts, storage: str) -> list[dict[str, Any]]:
    newest = (facts.hosts.get(storage) or {}).get("newest")
    return [newest] if newest else []


def _to_follow(state: Mapping[str, Any] | None, alone: bool, now: datetime) -> dict[str, Any]:
    """Of a run that was cut off. What the backup storage decided, and can't confirm now, is its host's own to say."""
    if not state:
        return {}
    return {**state, "unwitnessed": state.get("unwitnessed") or _clock.iso(now)} if alone else dict(state)


def _answered(facts: Facts, machine: str) -> bool:
    return bool((facts.hosts.get(machine) or {}).get("answered"))


def unfit(plan: Mapping[str, Any], facts: Facts, state: Mapping[str, Any], taker: str) -> list[str]:
    """What would stop the takeover half-way is told before anything is touched."""
    vm, phase, problems = plan["vm"], state["phase"], []
    if phase not in (*_FIRST, _RESUMED, _OVER):
        problems.append(f"{vm} is in phase {phase}, from which there is no failover; bring that to its end first")
    known, held = facts.hosts[taker], facts.standbys.get(taker) or {}
    own = known.get("state")
    if not own:
        problems.append(f"{vm} has no state document on {taker}; {_SITE}")
    elif own["epoch"] > state["epoch"]:
        problems.append(
            f"{taker} holds epoch {own['epoch']} of {vm}, and the backup storage epoch {state['epoch']}: that was put "
            "back to an older day; find out where the VM ran last"
        )
    for name in (name for name in (taker, plan["backup_storage"]) if _answered(facts, name)):
        version = facts.hosts[name].get("version")
        if not version or (facts.version and version.split()[0] != facts.version):
            problems.append(f"the mover on {name} is {version or 'missing'}, not this collection's; {_SITE}")
    domain = known.get("domain") or {}
    if phase != _OVER:
        current = chosen(plan, held)
        if not _whole(current):
            problems.append(_nothing_to_start(plan, held, current, taker))
        elif phase in _FIRST:
            _refuse_old(plan, facts, current, taker, problems)
        if phase in _FIRST and domain.get("exists") and domain["state"] not in STOPPED:
            problems.append(f"{vm} is {domain['state']} on {taker} already, which only stands by; shut it down there")
        if phase in _FIRST and held.get("unfit") and not plan["despite_findings"]:
            problems += [f"{taker} could not start {vm}: {sentence}" for sentence in held["unfit"]]
            problems.append(f"mend that on {taker}, or run it again with -e resilient_vm_despite_findings=true")
    return problems


def chosen(plan: Mapping[str, Any], held: Mapping[str, Any]) -> Mapping[str, Any]:
    """The generation that a takeover starts: the one that was asked for, else the current one; empty without it."""
    point = plan["takeover_point"]
    if not point:
        return held.get("current") or {}
    return next((each for each in held.get("generations") or [] if each["id"] == point), {})


def _whole(generation: Mapping[str, Any]) -> bool:
    return bool(generation.get("complete")) and not generation.get("damaged")


def _nothing_to_start(plan: Mapping[str, Any], held: Mapping[str, Any], current: Mapping[str, Any], taker: str) -> str:
    vm, point = plan["vm"], plan["takeover_point"]
    others = [each["id"] for each in held.get("generations") or [] if _whole(each)]
    missing = f"generation {point}" if point else "current generation" if others else "complete generation"
    which = f"{taker} holds no {missing} of {vm}"
    if current:
        which = f"generation {current['id']} of {vm} on {taker} is damaged"
    if not others:
        return (
            f"{which}, so nothing can be started there; have it mended by the verify playbook, or restore an image "
            "from the backup storage"
        )
    return (
        f"{which}; have it mended by the verify playbook, or start one that is whole: run it again with "
        f"-e resilient_vm_takeover_point={others[-1]}" + (f" (or {', '.join(others[:-1])})" if others[:-1] else "")
    )


def _refuse_old(
    plan: Mapping[str, Any], facts: Facts, current: Mapping[str, Any], taker: str, problems: list[str]
) -> None:
    limit = timedelta(hours=plan["max_data_loss_hours"])
    lost = timedelta(seconds=age(current, facts.now) or 0)
    if lost > limit:
        enough = lost // timedelta(hours=1) + 1
        problems.append(
            f"generation {current['id']} of {plan['vm']} on {taker} is {human_age(lost)} old, and what was "
            f"written since would be lost; resilient_vm_max_data_loss_hours allows {plan['max_data_loss_hours']}: "
            f"run it again with -e resilient_vm_max_data_loss_hours={enough} to go on all the same"
        )


def _over(
    plan: Mapping[str, Any], state: Mapping[str, Any], known: Mapping[str, Any], found: dict[str, Any]
) -> Decision:
    running = (known.get("domain") or {}).get("state")
    if running != "running":
        raise ResilientVmError(
            f"{plan['vm']} was taken over by {state['active']} at {state['changed']} (epoch {state['epoch']}) and is "
            f"{running or 'not there'}; start it with: virsh start {plan['domain']}"
        )
    told = f"{plan['vm']} runs on {state['active']} since it was taken over at {state['changed']}"
    return Decision("nothing", told, nonce="", **found)


def age(current: Mapping[str, Any], now: datetime) -> int | None:
    if not current.get("instant"):
        return None
    return max(0, round((now - _clock.parse(current["instant"], "the generation's time")).total_seconds()))


def looks_of(answers: Mapping[str, Any], tried: Mapping[str, Any], active: str) -> dict[str, dict[str, str]]:
    """{machine: what it saw} of those that could look, the control node's by whether Ansible got to the active host.

    ``answers`` is the registered loop that collects what vm_look said on the machines, ``tried`` the registered task.
    """
    looks = {
        answer["failover_job"]["machine"]: dict(answer["seen"])
        for answer in answers.get("results") or []
        if "seen" in answer
    }
    said = str(tried.get("msg") or "") if tried.get("unreachable") else "ssh answers"
    up = not tried.get("unreachable") or _UP.search(said) or (_ENDED.search(said) and _BEHIND_PROXY not in said)
    return {**looks, CONTROL: {active: " ".join(said.split()) if up else ""}}


def demand(decision: Mapping[str, Any], vm: str, nonce: str, command: str) -> str:
    """The refusal that asks for the operator's word: what to see to, what to type, what it costs."""
    word = Word(vm, decision["active"], decision["epoch"], nonce)
    if decision.get("unwitnessed"):
        command = f"{command} {_unwitnessed.ALLOW}"
    return "\n".join(
        [
            f"{decision['why']}. See that {decision['active']} is off and stays off, then run within {VALID_MINUTES} "
            "minutes:",
            f"  {command} -e resilient_vm_confirm={word}",
            f"That starts {vm} on {decision['taker']} from {decision['generation']}: what was written since "
            f"{decision['data_time']} is lost ({human_age(timedelta(seconds=decision['lost_seconds']))}).",
            *([_unwitnessed.WARNING.format(**decision)] if decision.get("unwitnessed") else []),
            *decision.get("remarks", ()),
        ]
    )
