# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks daily, reprotect, resolve and switchover, task by task as their roles have them."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from unit.simulation import disks, product
from unit.simulation.machine import Machine
from unit.simulation.playbook import Run, Steps, ask
from unit.simulation.product import Failed

__all__ = ["daily", "reprotect", "resolve", "switchover"]


@dataclass
class Night:
    """What the role cycle leaves for those that use it."""

    failures: list[str] = field(default_factory=list)
    decision: Any = None
    image: disks.Copy | None = None
    brought: bool = False


def _copied(run: Run, copy: disks.Copy, source: str, target: str) -> None:
    """M(image_transfer): between the two machines, whoever else is out of sight."""
    world = run.world
    pair = (source, target) if source == "c" else (target, source)
    if not world.reaches(*pair):
        raise Failed(f"{target if source == 'c' else source} can't be reached from c; run again")
    machine = world.machines[target]
    with world.at(machine):
        if target != "c":
            disks.refuse_when_active(machine)
        disks.publish(machine, copy)


def _fetch(machine: Machine, run: Run, copy: disks.Copy) -> None:
    _copied(run, copy, copy.source, machine.name)
    run.world.say(f"c keeps image {copy.id} of {copy.source}, epoch {copy.epoch}")


def _refresh(machine: Machine, run: Run, image_id: str, target: str) -> None:
    _copied(run, disks.stored(machine, image_id), machine.name, target)


def _cycle(run: Run, answers: dict[str, Any], force: bool = False) -> Generator[str, None, Night]:
    """Role cycle, main.yml."""
    night = Night()
    try:
        night.decision = decision = product.cycle(run.world, answers, force)
        decided = answers["hosts"]["c"]["state"]
        for step in (decision.late or {}).get("steps", []):
            yield "Tell the backup storage what was decided without it"
            try:
                decided = run.call("c", run.world.decide, why="late", **step)
            except Failed as error:
                raise Failed(f"c was not told ({error}); look at a, then run the failover playbook") from error
        for name in decision.untold:
            yield "Tell the hosts what they could not hear when it was decided"
            run.call(name, run.world.follow, decided)
        if decision.take_image:
            yield "Open a snapshot of all its disks"
            copy = run.call(decision.active, disks.open_snapshot, decision.epoch, decision.newest_id)
            yield "Copy the snapshot to the backup storage"
            run.call("c", _fetch, run, copy)
            night.image = copy
    except Failed as error:
        night.failures.append(str(error))
        if night.decision is None:
            return night
    decision = night.decision
    up_to_date = night.image is not None or not decision.take_image
    newest = night.image.id if night.image else decision.newest_complete_id
    if up_to_date and decision.refresh_standby:
        try:
            yield "Copy the newest image to the standby host"
            run.call("c", _refresh, run, newest, decision.standby)
            yield "Make it the current generation, defined and ready to start"
            run.call(decision.standby, disks.make_current, newest, decision.epoch)
            run.world.say(f"{decision.standby} stands by with {newest}")
            night.brought = True
            if decision.reprotects:
                yield "reprotected | Write down that somebody stands by again"
                over = run.call("c", run.world.decide, "finish_reprotect", decision.epoch, "daily")
                for follower in (decision.active, decision.standby):
                    yield "reprotected | Tell the hosts"
                    run.call(follower, run.world.follow, over)
        except Failed as error:
            night.failures.append(str(error))
    if up_to_date and decision.prune:
        yield "Erase images that are old enough"
        run.call("c", disks.prune, newest, newest if night.brought else decision.standby_generation)
    return night


def daily(run: Run) -> Steps:
    answers = yield from ask(run)
    return (yield from _daily(run, answers))


def _daily(run: Run, answers: dict[str, Any]) -> Steps:
    night = yield from _cycle(run, answers)
    if night.decision is not None:
        for name in (night.decision.active, night.decision.standby):
            yield "gate | See on every host that it starts no VM it must not start, and those that live there"
            run.fact(name, product.look_at_gate)
    # What is told in the morning of what did not stop it.
    told = [*night.failures, *(night.decision.later if night.decision else [])]
    if told:
        raise Failed("\n".join(told))
    return night.decision.why


def reprotect(run: Run) -> Steps:
    answers = yield from ask(run)
    yield "Decide whether somebody is to stand by"
    decision = product.reprotect(run.world, answers)
    if decision.action == "prepare":
        document = answers["hosts"]["c"]["state"]
        if not decision.begun:
            yield "prepare | Write down that somebody is to stand by"
            document = run.call("c", run.world.decide, "begin_reprotect", decision.epoch, "reprotect")
        for follower in (decision.active, decision.standby):
            yield "prepare | Tell the hosts"
            run.call(follower, run.world.follow, document)
        yield "prepare | Put aside what it had before"
        if run.call(decision.standby, disks.put_aside, decision.epoch, decision.image_id):
            run.world.say(f"what {decision.standby} had of erp is kept aside there")
    return (yield from daily(run))


def switchover(run: Run, goal: str) -> Steps:
    world = run.world
    answers = yield from ask(run)
    yield "Decide what is done"
    decision = product.switchover(world, answers, goal)
    if decision.action == "give_up":
        yield from _give_up(run, decision, answers["hosts"]["c"]["state"])
    elif decision.action in ("switch", "resume"):
        yield from _move(run, decision, answers)
    elif decision.action == "start":
        yield from _start(run, decision, answers["hosts"]["c"]["state"])
    return (yield from reprotect(run))


def _tell(run: Run, decision: Any, document: dict[str, Any], *followers: str) -> Steps:
    for follower in followers or (decision.standby, decision.active):
        yield "follow | Tell the hosts"
        run.call(follower, run.world.follow, document)


def _change(run: Run, decision: Any, transition: str, seen: Mapping[str, Any]) -> Generator[str, None, dict[str, Any]]:
    yield "change | Change the VM's state on the backup storage"
    changed: dict[str, Any] = run.call(
        "c", run.world.decide, transition, decision.epoch, "switchover", seen=seen["changed"]
    )
    return changed


def _give_up(run: Run, decision: Any, seen: Mapping[str, Any]) -> Steps:
    document = yield from _change(run, decision, "give_up_switch", seen)
    yield from _tell(run, decision, document, decision.active)
    yield "give_up | Start it again"
    run.call(decision.active, product.start)
    yield from _tell(run, decision, document, decision.standby)


def _stays(decision: Any, error: Exception) -> Failed:
    return Failed(f"erp stays on {decision.active}: {error}")


def _move(run: Run, decision: Any, answers: dict[str, Any]) -> Steps:
    document = answers["hosts"]["c"]["state"]
    if decision.action == "switch":
        night = yield from _cycle(run, answers, force=True)
        if night.failures:
            raise Failed("\n".join(night.failures))
        document = yield from _change(run, decision, "begin_switch", document)
    try:
        yield from _tell(run, decision, document)
        yield "stop | Shut it down"
        run.call(decision.active, product.shut_down)
    except Failed as error:
        yield from _give_up(run, decision, document)
        raise _stays(decision, error) from error
    again = yield from ask(run)
    night = yield from _cycle(run, again, force=True)
    try:
        if night.failures:
            raise Failed("\n".join(night.failures))
        yield "swap | See that all three machines hold the same"
        image = night.image
        if image is None or image.consistency != "offline" or not night.brought:
            raise Failed(f"{decision.standby} does not hold what {decision.active} had; run it again")
        yield "swap | See that it is still down"
        if run.call(decision.active, _runs):
            raise Failed("it was started there meanwhile")
        document = yield from _change(run, decision, "switch", document)
    except Failed as error:
        yield from _give_up(run, decision, document)
        raise _stays(decision, error) from error
    yield from _start(run, decision, document)


def _runs(machine: Machine) -> bool:
    return machine.runs


def _start(run: Run, decision: Any, document: dict[str, Any]) -> Steps:
    goal = document["active"]
    yield "swap | Start it there"
    run.call(goal, product.promote, document, document["epoch"])
    yield from _tell(run, decision, document)
    run.world.say(f"erp lives on {goal}")


def resolve(run: Run, goal: str) -> Steps:
    answers = yield from ask(run)
    yield "resolve | Decide whose disks count"
    decision = product.resolve(run.world, answers, goal)
    if decision.action == "nothing":
        return decision.why
    if decision.newer is not None:
        yield "resolve | Have the backup storage know the newest epoch"
        run.call("c", run.world.follow, decision.newer)
    document: dict[str, Any] = {}
    for step in decision.steps:
        yield "resolve | Decide it on the backup storage"
        document = run.call("c", run.world.decide, step, decision.epoch, "resolve")
    for follower in (decision.standby, decision.active):
        yield "resolve | Tell the hosts"
        run.call(follower, run.world.follow, document)
    for name in (decision.active, decision.standby):
        yield "gate | See on every host that it starts no VM it must not start, and those that live there"
        run.fact(name, product.look_at_gate)
    return decision.why
