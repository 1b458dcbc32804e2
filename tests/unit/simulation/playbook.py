# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A playbook that runs: a generator that yields the name of each task before it is carried out.

Between any two tasks anything else may happen, and the control node may be gone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from unit.simulation import disks
from unit.simulation.machine import Unreachable
from unit.simulation.product import CONTROL, Failed, of_seconds

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._clock import iso

if TYPE_CHECKING:
    from unit.simulation.world import World

__all__ = ["Run", "Steps", "ask"]

Steps = Generator[str, None, Any]


class Run:
    """One run of one playbook. ``told`` is how it ended: "" while it goes on."""

    def __init__(self, world: World, name: str, tasks: Callable[..., Steps], *given: Any, **more: Any) -> None:
        self.world = world
        self.name = name
        self.told = ""
        self.failed = False
        self.task = ""
        # (machine, what was asked of it), for who wants to know on whom it depends.
        self.calls: list[tuple[str, str]] = []
        self._steps = tasks(self, *given, **more)
        self.step()

    def step(self) -> bool:
        """Carry out the next task; False when it was the last one."""
        if self.told:
            return False
        try:
            self.task = next(self._steps)
        except StopIteration as end:
            self._end(str(end.value or "done"), False)
        except (Failed, Unreachable) as error:
            self._end(str(error), True)
        return not self.told

    def _end(self, told: str, failed: bool) -> None:
        self.told, self.failed = told, failed
        self.world.say(f"{self.name} {'fails' if failed else 'ends'}: {told}")

    def finish(self) -> Run:
        while self.step():
            self.world.seconds += 1
        return self

    def kill(self) -> None:
        """The control node is gone; what it has begun on machines goes on there."""
        self._steps.close()
        self.told, self.failed = "killed", True
        self.world.say(f"{self.name} is killed before: {self.task}")

    def call(self, machine: str, what: Callable[..., Any], *given: Any, **more: Any) -> Any:
        self.calls.append((machine, what.__name__))
        return self.world.call(machine, what, *given, **more)

    def fact(self, machine: str, what: Callable[..., Any], *given: Any) -> dict[str, Any]:
        """Of a module that may find its machine silent."""
        try:
            found: dict[str, Any] = self.call(machine, what, *given) or {}
        except (Failed, Unreachable) as error:
            return {"answered": False, "msg": str(error)}
        return found


def ask(run: Run) -> Generator[str, None, dict[str, Any]]:
    """Role cycle, ask.yml: everybody about everything."""
    yield "ask | Ask every machine about itself and its VMs"
    now = iso(of_seconds(run.world.seconds + run.world.control_ahead_seconds))
    hosts = {name: run.fact(name, disks.facts, now) for name in "abc"}
    images = {"c": run.fact("c", disks.images_facts)}
    return {"hosts": hosts, "images": images, "standbys": {name: run.fact(name, disks.standby_facts) for name in "ab"}}


def look(run: Run, machines: tuple[str, ...], names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """M(vm_look) on these machines: how each of them reaches the others, and the guest."""
    world, found = run.world, {}
    for machine in machines:
        if world.reaches(CONTROL, machine):
            others = [name for name in names if name != machine]
            found[machine] = {name: "port 22 answers" if world.reaches(machine, name) else "" for name in others}
            if world.plan["guest_address"]:
                found[machine]["erp"] = "port 443 answers" if world.guest_answers(machine) else ""
    return found
