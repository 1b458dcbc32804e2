# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenarios as an administrator reads them: what happens, and under it, indented, what is seen of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from unit.simulation import planned, takeover
from unit.simulation.invariants import Watch
from unit.simulation.machine import Machine
from unit.simulation.playbook import Run
from unit.simulation.product import CONTROL
from unit.simulation.world import PowerCut, World

__all__ = ["FOLDER", "Scenario", "play", "read"]

FOLDER = Path(__file__).parent / "scenarios"
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "year": 31536000}
_WORD = re.compile(r"resilient_vm_confirm=(\S+)")
_PLAYBOOKS = {
    "commit": takeover.commit,
    "daily": planned.daily,
    "failover": takeover.failover,
    "reprotect": planned.reprotect,
    "resolve": planned.resolve,
    "switchover": planned.switchover,
    "undo": takeover.undo,
}


@dataclass
class Scenario:
    """``lines``: as they stand in the file, without those that are expected."""

    name: str
    given: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)


def read(path: Path) -> list[Scenario]:
    """The scenarios of a file. ``== name`` begins one; ``given …`` says how its world differs."""
    found: list[Scenario] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("== "):
            found.append(Scenario(line[3:]))
        elif found and line.strip():
            found[-1].expected.append(line)
            if not line.startswith(" "):
                found[-1].lines.append(line)
    return found


def play(scenario: Scenario, folder: Path) -> list[str]:
    """The scenario with what was seen, in the form of its file. Raises AssertionError when an invariant is broken."""
    given = {line.removeprefix("given ") for line in scenario.lines if line.startswith("given ")}
    settings = {
        "fencing": "a fence agent" in given,
        "start_unconfirmed": "start_unconfirmed" in given,
        "self_stop_seconds": 600 if "self-stop after 10 minutes" in given else 0,
        "guest_address": "192.0.2.80:443" if "a guest address" in given else None,
    }
    seen = []
    with World(folder, **settings) as world:
        player = _Player(world)
        for line in scenario.lines:
            world.log.clear()
            if not line.startswith(("#", "given ")):
                player.do(line)
            seen += [line, *(f"    {said}" for said in world.log)]
    return seen


class _Player:
    def __init__(self, world: World) -> None:
        self.world = world
        self.watch = Watch(world)
        self.word = ""
        self.standing: list[Run] = []
        self._commands: list[tuple[str, Callable[..., None]]] = [
            (r"power ([abc]) off", world.power_off),
            (r"power ([abc]) on", world.power_on),
            (r"boot ([ab])", self._boot),
            (r"minute ([ab])", world.minute),
            (r"cut (\w+)([->])(\w+)", self._cut),
            (r"heal", world.cuts.clear),
            (r"write", world.write),
            (r"wait (\d+) (\w+?)s?", self._wait),
            (r"clock of (\w+) (\d+) (\w+?)s? (ahead|behind)", self._clock),
            (r"fence agent (.+)", self._agent),
            (r"virsh start ([ab])", world.virsh_start),
            (r"shut down on ([ab])", world.shutdown),
            (r"stubborn guest on ([ab])", self._stubborn),
            (r"the next write of (\S+) on ([abc]): (.+)", self._meanwhile),
            (r"status", lambda: world.say(world.status())),
            (r"go on", self._go_on),
            (r"(commit|daily|failover|reprotect|resolve|switchover|undo)\b(.*)", self._playbook),
        ]

    def do(self, line: str) -> None:
        for pattern, what in self._commands:
            match = re.fullmatch(pattern, line)
            if match:
                what(*match.groups())
                self.world.seconds += 1
                self.watch.look()
                return
        raise ValueError(f"nobody knows what is meant by: {line}")

    def _boot(self, name: str) -> None:
        self.world.power_on(name)
        self.world.open_gates(name)

    def _cut(self, one: str, how: str, other: str) -> None:
        first, second = (CONTROL if name == "control" else name for name in (one, other))
        self.world.cuts |= {(first, second)} | ({(second, first)} if how == "-" else set())

    def _wait(self, number: str, unit: str) -> None:
        self.world.seconds += int(number) * _SECONDS[unit]

    def _clock(self, name: str, number: str, unit: str, how: str) -> None:
        ahead = int(number) * _SECONDS[unit] * (1 if how == "ahead" else -1)
        if name == "control":
            self.world.control_ahead_seconds = ahead
        else:
            self.world.machines[name].ahead_seconds = ahead

    def _agent(self, what: str) -> None:
        self.world.agent = what

    def _stubborn(self, name: str) -> None:
        self.world.machines[name].stubborn = True

    def _meanwhile(self, document: str, name: str, command: str) -> None:
        """Between two lines of the product's code: before it writes a document."""

        def happens(machine: Machine, written: str) -> None:
            if (machine.name, written) == (name, document):
                self.world.meanwhile = None
                if command == "power cut":
                    raise PowerCut
                self.world.say(f"(meanwhile: {command})")
                self.do(command)

        self.world.meanwhile = happens

    def _playbook(self, name: str, rest: str) -> None:
        """``failover with the word, killed before: take | Start it``; ``until:`` leaves it there until ``go on``."""
        rest, _colon, task = rest.strip().partition(": ")
        words, _comma, how = rest.rpartition(", ") if task else (rest, "", "")
        if task and not words:
            how = how or rest.lstrip(", ")
        run = Run(self.world, name, _PLAYBOOKS[name], *self._given(name, words.strip()))
        while not run.told and not (task and run.task == task):
            self._step(run)
        if task and run.told:
            raise ValueError(f"{name} never got to: {task}")
        if how == "killed before":
            run.kill()
        elif task:
            self.standing.append(run)

    def _given(self, name: str, words: str) -> tuple[object, ...]:
        if name in ("switchover", "resolve"):
            return (words.removeprefix("to "),)
        if name == "undo":
            return (words == "with the word",)
        if name == "failover":
            if words.startswith("with the word "):
                return (words.removeprefix("with the word "),)
            return (self.word if "with the word" in words else "", "scheduled" in words, "without c" in words)
        return ()

    def _go_on(self) -> None:
        run = self.standing.pop(0)
        while not run.told:
            self._step(run)

    def _step(self, run: Run) -> None:
        run.step()
        self.world.seconds += 1
        self.watch.look()
        if run.told:
            self.watch.finished(run)
            self.word = (_WORD.findall(run.told) or [self.word])[-1]
