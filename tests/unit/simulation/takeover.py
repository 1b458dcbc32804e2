# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks failover, failover_undo and failover_commit, task by task as the role failover has them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from unit.simulation import disks, product
from unit.simulation.machine import Machine
from unit.simulation.playbook import Run, Steps, ask, look
from unit.simulation.product import CONTROL, Failed

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._clock import iso

__all__ = ["commit", "failover", "undo"]


def _look(run: Run, without_c: bool) -> Generator[str, None, dict[str, Any]]:
    world = run.world
    now = iso(world.control_now())
    yield "look | Ask the backup storage about the VM"
    hosts = {"c": run.fact("c", disks.facts, now)}
    begun = _begin_to_look(run, "c")
    if without_c and not hosts["c"]["answered"]:
        yield "look | Ask the hosts where they may decide without it"
        hosts |= {name: run.fact(name, disks.facts, now) for name in "ab"}
    goes, comes = product.taker(world, hosts)
    yield "look | Ask the host that would take it over, about its generations too"
    hosts[comes] = run.fact(comes, disks.facts, now)
    standbys = {comes: run.fact(comes, disks.standby_facts)}
    begun |= _begin_to_look(run, comes)
    if comes in begun:
        begun[comes][1]["its gateway"] = "answers an echo" if (comes, "gateway") not in world.cuts else ""
    lie = world.machines[goes].up
    yield "look | Try the active host from the control node"
    tried = {goes: "ssh answers" if world.reaches(CONTROL, goes) else ""}
    yield "look | See what each of them saw"
    told = {name: found for name, found in begun.items() if world.reaches(CONTROL, name)}
    began = {name: when for name, (when, _seen) in told.items()}
    looks = {**{name: seen for name, (_when, seen) in told.items()}, CONTROL: tried}
    # Whoever says now that the host is off is wrong.
    return {"hosts": hosts, "standbys": standbys, "looks": looks, "began": began, "fenced": [], "lie": lie}


def _begin_to_look(run: Run, machine: str) -> dict[str, tuple[str, dict[str, str]]]:
    """{machine: (when, what it sees)}, of one that could be asked."""
    seen = look(run, (machine,), ("a", "b", "c"))
    return {name: (iso(run.world.machines[name].now()), found) for name, found in seen.items()}


def _fence(run: Run, goes: str, comes: str, without_c: bool) -> Generator[str, None, dict[str, Any]]:
    fenced: list[tuple[str, Any]] = []
    tasks = (
        "fence | Power it off from the backup storage",
        "fence | Power it off from the host that would take it over",
    )
    for machine, task in zip(("c", comes), tasks, strict=True):
        yield task
        if not fenced or fenced[0][1].get("power") != "off":
            fenced.append((machine, run.fact(machine, product.fence, run.world.fence(goes))))
    again = yield from _look(run, without_c)
    return {**again, "fenced": fenced}


def failover(run: Run, confirm: str = "", scheduled: bool = False, without_c: bool = False) -> Steps:
    world = run.world
    answers = yield from _look(run, without_c)
    yield "decide | Decide what may be done"
    decision = product.failover(world, answers, confirm, scheduled, without_c)
    if decision.action == "witness":
        for step in decision.late["steps"]:
            yield "witness | Tell the backup storage what was decided without it"
            run.call("c", world.decide, step["transition"], step["epoch"], "late")
        answers = yield from _look(run, without_c)
        yield "decide | Decide what may be done"
        decision = product.failover(world, answers, confirm, scheduled, without_c)
    if decision.action == "fence":
        answers = yield from _fence(run, decision.active, decision.taker, without_c)
        yield "decide | Decide what may be done"
        decision = product.failover(world, answers, confirm, scheduled, without_c)
    if decision.action == "nothing":
        return decision.why
    if decision.action == "confirm":
        yield from _ask_for_the_word(run, decision)
    return (yield from _take(run, decision, answers))


def _ask_for_the_word(run: Run, decision: Any) -> Steps:
    yield "ask | Keep what the word must end in"
    number = run.call(decision.decider, product.nonce, decision.epoch)
    if not decision.unwitnessed:
        yield "ask | See that nothing is under way there"
        run.call(decision.taker, _withdraw, decision.new_epoch)
    yield "ask | Ask for the operator's word"
    raise Failed(product.demand(decision, number))


def _take(run: Run, decision: Any, answers: dict[str, Any]) -> Steps:
    world, taker = run.world, decision.taker
    decided, alone = decision.document, decision.unwitnessed
    if not decision.resumed:
        lie = answers["lie"]
        try:
            if not alone:
                yield "take | Say there that it is about to be taken over"
                run.call(taker, _intend, decision.new_epoch, answers["began"][taker])
            yield "take | Decide it"
            since = "" if decision.nonce else answers["began"][decision.decider]
            words = {"nonce": decision.nonce, "unasked_since": since, "unwitnessed": alone}
            decided = run.call(decision.decider, world.decide, "fail_over", decision.epoch, "failover", **words)
            if lie:
                world.lies.add((decision.active, decision.epoch))
        except Failed:
            yield "take | See that nobody has decided it"
            undecided = run.fact(decision.decider, _undecided, decision.epoch)
            if undecided["answered"] and not alone:
                yield "take | Take it back there"
                run.call(taker, _withdraw, decision.new_epoch)
            raise
    yield "take | Start it"
    run.call(taker, product.promote, decided, decision.new_epoch)
    yield "take | Write it down where it was decided"
    over = run.call(
        decision.decider, world.decide, "finish_failover", decision.new_epoch, "failover", unwitnessed=alone
    )
    yield "take | Write it down there"
    run.call(taker, world.follow, over)
    witness = " and nobody witnessed it" if alone else ""
    return f"erp runs on {taker}{witness}, taken over from {decision.active}; {decision.why}"


def _intend(machine: Machine, epoch: int, began: str) -> None:
    product.intend(machine, epoch, began)
    machine.world.say(f"{machine.name} says that it takes erp over, at epoch {epoch}")


def _withdraw(machine: Machine, epoch: int) -> None:
    if product.withdraw(machine, epoch):
        machine.world.say(f"{machine.name} takes back that it would take erp over")


def _undecided(machine: Machine, epoch: int) -> dict[str, Any]:
    return {"answered": True, "nonce": product.nonce(machine, epoch)}


def undo(run: Run, confirm: bool = False) -> Steps:
    """failover_undo. ``confirm``: with the word that it asks for."""
    world = run.world
    answers = yield from ask(run)
    yield "undo | Decide whether it goes back"
    decision = product.undo(world, answers, "")
    if decision.action == "confirm":
        if not confirm:
            raise Failed(f"{decision.why}; when that is what you want, run again with the word")
        decision = product.undo(world, answers, decision.word)
    document = answers["hosts"]["c"]["state"]
    if decision.action == "undo":
        yield "go_back | Shut it down where it was taken over"
        run.call(decision.active, product.shut_down)
        yield "go_back | Have it live where it was taken from"
        document = run.call("c", world.decide, "undo_failover", decision.epoch, "failover_undo")
    yield "go_back | Tell the host that it leaves"
    run.call(document["standby"], world.follow, document)
    if answers["hosts"][document["standby"]]["domain"]["exists"]:
        yield "go_back | See that it is down there"
        run.call(document["standby"], product.shut_down)
    yield "go_back | Tell the host that it lives on again"
    run.call(document["active"], world.follow, document)
    yield "go_back | Start it"
    run.call(document["active"], product.start)
    return f"erp runs on {document['active']}"


def commit(run: Run) -> Steps:
    """failover_commit."""
    world = run.world
    answers = yield from ask(run)
    yield "commit | Decide whether it stays"
    decision = product.commit(world, answers)
    if decision.action == "commit":
        yield "commit | Give up the way back"
        document = run.call("c", world.decide, "begin_reprotect", decision.epoch, "failover_commit")
        for follower in decision.followers:
            yield "commit | Tell the hosts that answer"
            run.call(follower, world.follow, document)
    return decision.why
