# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A random world: whatever can happen to three machines, their links, their VM and the people around them."""

from __future__ import annotations

import random
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from unit.simulation import planned, product, takeover
from unit.simulation.invariants import Watch
from unit.simulation.machine import Machine
from unit.simulation.playbook import Run, Steps
from unit.simulation.product import CONTROL
from unit.simulation.world import PowerCut, World

__all__ = ["Chaos", "simulate"]

_WORD = re.compile(r"resilient_vm_confirm=(\S+)")
_RESOLVE = re.compile(r"resilient_vm_resolve_to=(\w) \(or (\w)\)")
_LIKELY = {
    "protected": ("failover", "failover", "failover", "switchover", "switchover", "daily"),
    "switching": ("switchover", "switchover", "failover", "daily"),
    "failing_over": ("failover",),
    "failed_over": ("undo", "undo", "reprotect", "reprotect", "daily", "failover", "commit"),
    "reprotecting": ("reprotect", "reprotect", "daily", "switchover", "undo"),
    "any": ("daily", "failover", "switchover", "reprotect", "undo", "commit", "resolve"),
}
_MEMORY = Path("/dev/shm")  # a world is thousands of small files that nobody keeps


class Chaos:
    """One world, driven by one random number generator."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.chance = chance
        self.world = world
        self.watch = Watch(world)
        self.runs: list[Run] = []
        self.words: list[str] = []
        self._racing = False
        self.world.meanwhile = self._meanwhile
        self._happen: list[tuple[int, Callable[[], None]]] = [
            (100, self._go_on),
            (20, self._begin),
            (2, self._kill),
            (6, world.write),
            (4, self._power),
            (2, self._cut),
            (5, self._heal),
            (8, self._minute),
            (4, lambda: world.virsh_start(self.chance.choice("ab"))),
            (1, lambda: world.shutdown(self.chance.choice("ab"))),
            (2, self._wait),
            (1, self._clock),
            (2, self._agent),
        ]

    def run(self, steps: int) -> None:
        # Most worlds begin with a night that went well.
        if self.chance.random() < 0.9:
            Run(self.world, "daily", planned.daily).finish()
            self.watch.look()
        weights = [weight for weight, _what in self._happen]
        for _step in range(steps):
            (_weight, what) = self.chance.choices(self._happen, weights)[0]
            what()
            self.world.seconds += self.chance.choice((1, 1, 1, 5))
            self.watch.look()
        self._calm_down()

    # what happens

    def _go_on(self) -> None:
        going = [run for run in self.runs if not run.told]
        if going:
            self._step(self.chance.choice(going))

    def _step(self, run: Run) -> None:
        if not run.step():
            self.watch.finished(run)
            self.words += _WORD.findall(run.told)

    def _begin(self) -> None:
        """Somebody starts a playbook: mostly one that has to do with how things are, now and then any."""
        self.runs = [run for run in self.runs if not run.told]
        if len(self.runs) > 1 or (self.runs and self.chance.random() < 0.8):
            return
        if self.words and self.chance.random() < 0.7:
            self._fail_over(self._word())
            return
        phase = product.document(self.world.machines["c"])["phase"]
        name = self.chance.choice(_LIKELY[phase if self.chance.random() < 0.9 else "any"])
        if name == "failover":
            if self.chance.random() < 0.8:
                self._darken()
            if self.chance.random() < 0.3:
                self._darken_storage()
            self._fail_over("")
        elif name == "undo":
            self._start(name, takeover.undo, self.chance.random() < 0.8)
        elif name in ("switchover", "resolve"):
            tasks = planned.switchover if name == "switchover" else planned.resolve
            self._start(name, tasks, self.chance.choice("ab"))
        else:
            tasks = {"commit": takeover.commit, "daily": planned.daily, "reprotect": planned.reprotect}[name]
            self._start(name, tasks)

    def _start(self, name: str, tasks: Callable[..., Steps], *given: object) -> None:
        self.runs.append(Run(self.world, name, tasks, *given))

    def _fail_over(self, word: str) -> None:
        """Where the backup storage is out of reach, mostly without it."""
        without_c = self.chance.random() < (0.1 if self.world.reaches(CONTROL, "c") else 0.8)
        self._start("failover", takeover.failover, word, self.chance.random() < 0.02, without_c)

    def _darken(self) -> None:
        """The active host goes down, or out of sight with its VM running."""
        active = product.document(self.world.machines["c"])["active"]
        if self.chance.random() < 0.6:
            self.world.power_off(active)
            return
        for other in sorted({CONTROL, "a", "b", "c"} - {active}):
            if self.chance.random() < 0.9:
                self.world.cuts.add((other, active))
            if self.chance.random() < 0.7:
                self.world.cuts.add((active, other))

    def _darken_storage(self) -> None:
        """The backup storage goes down as well, or out of sight with or without the active host."""
        if self.chance.random() < 0.5:
            self.world.power_off("c")
            return
        for other in sorted({CONTROL, "a", "b"}):
            if self.chance.random() < 0.9 - 0.5 * (other == "a"):
                self.world.cuts |= {(other, "c"), ("c", other)}

    def _word(self) -> str:
        """What the operator says: mostly the word that was asked for, after seeing to it."""
        if not self.words or self.chance.random() < 0.2:
            return ""
        word = self.words[-1] if self.chance.random() < 0.9 else self.chance.choice(self.words)
        if self.chance.random() < 0.3:
            self.words.clear()
        if self.chance.random() < 0.05:
            word = re.sub("#[0-9]", f"#{self.chance.randrange(1, 4)}", word)
        if self.chance.random() < 0.8:
            self.world.power_off(word.partition("@")[2][0])
        return word

    def _kill(self) -> None:
        going = [run for run in self.runs if not run.told]
        if going:
            self.chance.choice(going).kill()

    def _power(self) -> None:
        off = [name for name, machine in self.world.machines.items() if not machine.up]
        name = self.chance.choice(off or ["a", "a", "b", "b", "c"])
        if name in off:
            self.world.power_on(name)
            if self.chance.random() < 0.7:
                self.world.open_gates(name)
        elif self.chance.random() < 0.5:
            self.world.power_off(name)

    def _cut(self) -> None:
        one, other = self.chance.sample([CONTROL, "a", "b", "c"], 2)
        self.world.cuts.add((one, other))
        if self.chance.random() < 0.7:
            self.world.cuts.add((other, one))

    def _heal(self) -> None:
        if self.chance.random() < 0.5:
            self.world.cuts.clear()
        elif self.world.cuts:
            self.world.cuts.remove(self.chance.choice(sorted(self.world.cuts)))

    def _minute(self) -> None:
        self.world.minute(self.chance.choice("ab"))

    def _wait(self) -> None:
        self.world.seconds += self.chance.choice((60, 60, 600, 1000, 7200, 86400))

    def _clock(self) -> None:
        name = self.chance.choice(["a", "b", "c", CONTROL])
        ahead = self.chance.choice((0, 0, -30, 200, 3600, -86400, 31536000))
        if name == CONTROL:
            self.world.control_ahead_seconds = ahead
        else:
            self.world.machines[name].ahead_seconds = ahead

    def _agent(self) -> None:
        self.world.agent = self.chance.choice(("works", "works", "fails", "hangs", "lies", "stays on"))

    def _meanwhile(self, machine: Machine, name: str) -> None:
        """Between the steps of one module: a power cut, or somebody else's question."""
        del name
        if self._racing or self.chance.random() > 0.05:
            return
        if self.chance.random() < 0.3:
            raise PowerCut
        self._racing = True
        try:
            other = self.world.machines[self.chance.choice("ab")]
            if other is not machine and other.up:
                self.chance.choice((self.world.minute, self.world.virsh_start))(other.name)
        finally:
            self._racing = False

    # the end

    def _calm_down(self) -> None:
        """Everything is mended, and an administrator does what he is told: it must come to rest."""
        world = self.world
        world.meanwhile = None
        world.cuts.clear()
        world.agent = "works"
        for run in self.runs:
            while run.step():
                self.watch.look()
        for name, machine in world.machines.items():
            world.power_on(name)
            machine.ahead_seconds = 0.0
        world.control_ahead_seconds = 0.0
        # Past every clock that ran ahead.
        world.seconds += 2 * 31536000
        told: list[str] = []
        for _round in range(12):
            for name in "ab":
                world.minute(name)
                self.watch.look()
            if self._at_rest():
                return
            run = self._what_an_administrator_would_do()
            while run.step():
                self.watch.look()
            told.append(f"{run.name}: {run.told}")
            world.seconds += 60
        raise AssertionError("\n".join(["it does not come to rest", *told, "---", *world.log[-60:], world.status()]))

    def _at_rest(self) -> bool:
        state = product.document(self.world.machines["c"])
        runs = [name for name, machine in self.world.machines.items() if machine.runs]
        same = all(product.document(machine)["epoch"] == state["epoch"] for machine in self.world.machines.values())
        return state["phase"] == "protected" and runs == [state["active"]] and same and self._stands_by()

    def _stands_by(self) -> bool:
        run = Run(self.world, "daily", planned.daily)
        while run.step():
            self.watch.look()
        return not run.failed

    def _what_an_administrator_would_do(self) -> Run:
        world = self.world
        state = product.document(world.machines["c"])
        active, standby = str(state["active"]), str(state["standby"])
        untold = world.untold()
        if untold:
            return self._what_it_says(untold, active)
        if world.machines[standby].runs:
            world.shutdown(standby)
        if state["phase"] == "failing_over":
            # It says of the other host that it is up, and to shut it down.
            world.power_off(standby)
            run = Run(world, "failover", takeover.failover, "")
            while run.step():
                self.watch.look()
            world.power_on(standby)
            return run
        if state["phase"] == "switching":
            return Run(world, "switchover", planned.switchover, active)
        if not world.machines[active].runs:
            world.virsh_start(active)
        if state["phase"] == "reprotecting" and not world.machines[active].runs:
            if state["why"] == "failover_undo":
                return Run(world, "undo", takeover.undo)
            if state["why"] in ("failover_commit", "reprotect"):
                # It was never down to be moved, and can be started once its host has heard of all that it missed.
                if product.document(world.machines[active])["epoch"] != state["epoch"]:
                    return Run(world, "resolve", planned.resolve, active)
                return Run(world, "daily", planned.daily)
            # A planned move that was cut off after it was decided.
            return Run(world, "switchover", planned.switchover, active)
        return Run(world, "reprotect", planned.reprotect)

    def _what_it_says(self, untold: str, left: str) -> Run:
        """Of a takeover that the backup storage was not told of."""
        found = _RESOLVE.search(untold)
        if found:
            goal = self.chance.choice((found.group(1), found.group(2)))
            self.world.shutdown(found.group(2) if goal == found.group(1) else found.group(1))
            return Run(self.world, "resolve", planned.resolve, goal)
        if "failover playbook" not in untold:
            return Run(self.world, "daily", planned.daily)
        self.world.power_off(left)
        run = Run(self.world, "failover", takeover.failover, "")
        while run.step():
            self.watch.look()
        self.world.power_on(left)
        return run


def simulate(seed: int, steps: int = 100) -> None:
    """One world from its beginning to its end. Raises AssertionError, naming what happened."""
    folder = Path(tempfile.mkdtemp(prefix="rvm-simulation-", dir=_MEMORY if _MEMORY.is_dir() else None))
    try:
        chance = random.Random(seed)
        guest = chance.choice([None, "192.0.2.80:443"])
        fencing, self_stop = chance.random() < 0.4, 600 if chance.random() < 0.3 else 0
        with World(folder, guest_address=guest, fencing=fencing, self_stop_seconds=self_stop) as world:
            Chaos(world, chance).run(steps)
    finally:
        shutil.rmtree(folder)
