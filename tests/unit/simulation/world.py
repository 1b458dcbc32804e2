# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The world around the product: three machines, the links between them and the control node, time, people, guests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from unit.simulation import disks, product
from unit.simulation.machine import Domain, Machine, Unreachable, definition
from unit.simulation.product import CONTROL, Completed, Failed

__all__ = ["Life", "PowerCut", "World"]

_AGENT_SAYS = {"on": Completed(0, "", ""), "off": Completed(2, "", ""), "fails": Completed(1, "", "no route")}


class PowerCut(BaseException):
    """The machine that is at work goes down, at this write."""


@dataclass
class Life:
    """A disk from the first start of the VM upon it: what was written to it stays, wherever the file is moved."""

    host: str
    epoch: int
    file: int  # inode
    path: str
    content: bytes


class World:
    """Only what the product itself decides is not decided here."""

    def __init__(
        self, folder: Path, start_unconfirmed: bool = False, self_stop_seconds: int = 0, **settings: Any
    ) -> None:
        self._folder = folder
        self.seconds = 0.0
        self.control_ahead_seconds = 0.0
        self.log: list[str] = []
        self.cuts: set[tuple[str, str]] = set()
        self.machines = {name: Machine(name, folder / name, self) for name in "abc"}
        self.here = self.machines["c"]
        # What the fence agent does when it is asked: fails, hangs, lies, stays on, works.
        self.agent = "works"
        self.plan = product.plan(**settings)
        # Hosts of which somebody said that they are off, at this epoch, while they were not.
        self.lies: set[tuple[str, int]] = set()
        # The epoch that a host held when it last looked whether the VM was taken over.
        self.looked = {"a": 0, "b": 0}
        self.lives: list[Life] = []
        self.written = 0
        # {epoch: (transition, the disk as it was where the VM left)}
        self.moves: dict[int, tuple[str, bytes]] = {}
        self.calls: list[tuple[str, str]] = []
        # Called before each write of a document; may raise PowerCut.
        self.meanwhile: Callable[[Machine, str], None] | None = None
        self._gates = (start_unconfirmed, self_stop_seconds)
        self._inside = contextlib.ExitStack()

    def __enter__(self) -> World:
        self._inside.enter_context(product.installed(self))
        product.protect(self.machines, *self._gates)
        self._first_day()
        return self

    def __exit__(self, *_error: object) -> None:
        self._inside.close()

    def _first_day(self) -> None:
        """The VM as its owner made it, on a, where it runs."""
        a = self.machines["a"]
        disk = a.root / "erp.raw"
        disk.write_bytes(b"".ljust(disks.SIZE, b"\0"))
        a.domains[product.UUID] = Domain(definition(str(disk)))
        self.open_gates("a")
        self.log.clear()

    def say(self, sentence: str) -> None:
        self.log += [line.rstrip() for line in sentence.replace(str(self._folder), "").splitlines()]

    # time

    def control_now(self) -> datetime:
        return product.of_seconds(self.seconds + self.control_ahead_seconds)

    @contextlib.contextmanager
    def at(self, machine: Machine) -> Iterator[None]:
        """What is done now is done on this machine. A power cut ends it there and then."""
        before, self.here = self.here, machine
        try:
            yield
        except PowerCut:
            self.power_off(machine.name)
            raise Unreachable(f"machine {machine.name} can't be reached (it went down)") from None
        finally:
            self.here = before

    def before_writing(self, path: str) -> None:
        if self.meanwhile is not None:
            self.meanwhile(self.here, os.path.basename(path))

    # links

    def reaches(self, one: str, other: str) -> bool:
        """Whether a connection from one to the other is answered."""
        up = all(name == CONTROL or self.machines[name].up for name in (one, other))
        return up and (one, other) not in self.cuts

    def guest_answers(self, one: str) -> bool:
        return any(machine.runs and (one == name or self.reaches(one, name)) for name, machine in self.machines.items())

    def call(self, machine: str, what: Callable[..., Any], *given: Any, **more: Any) -> Any:
        """One module on one machine, from the control node."""
        if not self.reaches(CONTROL, machine):
            raise Unreachable(f"machine {machine} can't be reached")
        with self.at(self.machines[machine]):
            return what(self.machines[machine], *given, **more)

    def asked(self, asker: Machine, name: str) -> Completed:
        """The question after the epoch, from host to machine."""
        done = self._answer(asker, name)
        self.say(f"{asker.name} asks {name}: {(done.stdout or done.stderr).strip()}")
        return done

    def _answer(self, asker: Machine, name: str) -> Completed:
        if not self.reaches(asker.name, name):
            return Completed(255, "", "no route to it")
        machine = self.machines[name]
        try:
            with self.at(machine):
                return Completed(0, product.tell_epoch(machine) + "\n", "")
        except Failed as error:
            return Completed(1, "", f"{error}\n")

    def fence(self, name: str) -> Callable[[str], Completed | None]:
        """The fence agent of a host, whose own network none of ours is."""

        def answer(action: str) -> Completed | None:
            machine = self.machines[name]
            if self.agent == "hangs":
                return None
            if self.agent == "fails":
                return _AGENT_SAYS["fails"]
            if action == "off":
                if self.agent == "works":
                    self.power_off(name)
                return Completed(0, "", "")
            off = not machine.up or self.agent == "lies"
            return _AGENT_SAYS["off" if off else "on"]

        return answer

    # what happens to machines

    def power_off(self, name: str) -> None:
        if self.machines[name].up:
            self.say(f"{name} is off")
            self.machines[name].power_off()

    def power_on(self, name: str) -> None:
        """It boots; the first round of its gate's unit is a step of its own."""
        if not self.machines[name].up:
            self.say(f"{name} is on")
            self.machines[name].power_on()

    def open_gates(self, name: str) -> None:
        """A tick of the timer that runs after a boot until nothing is left to be settled."""
        machine = self.machines[name]
        if machine.up and name != "c":
            with contextlib.suppress(Unreachable), self.at(machine):
                said = product.open_gates(machine)
                if said:
                    self.say(f"{name}, gate: {said}")

    def minute(self, name: str) -> None:
        """The minute's look for a higher epoch, and the gate's timer while it runs."""
        machine = self.machines[name]
        if not machine.up or name == "c":
            return
        with contextlib.suppress(Unreachable), self.at(machine):
            said = product.stop_superseded(machine)
            if said:
                self.say(f"{name}, superseded: {said}")
            self.looked[name] = product.document(machine)["epoch"]
        if machine.waiting:
            self.open_gates(name)

    def virsh_start(self, name: str) -> None:
        machine = self.machines[name]
        if machine.up and machine.domain is not None:
            done = machine.run(["virsh", "-c", "", "start", product.UUID], check=False)
            if done.code != 0:
                self.say(f"{name}: {done.stderr}")

    def shutdown(self, name: str) -> None:
        """Its owner shuts the VM down."""
        if self.machines[name].runs:
            self.machines[name].run(["virsh", "-c", "", "shutdown", product.UUID])

    # what libvirt tells

    def started(self, machine: Machine) -> None:
        self.say(f"erp runs on {machine.name}")
        assert machine.domain is not None
        path = machine.domain.disk
        inode, content = os.stat(path).st_ino, Path(path).read_bytes()
        if not any(life.host == machine.name and life.file == inode for life in self.lives):
            epoch = product.document(machine)["epoch"]
            self.lives.append(Life(machine.name, epoch, inode, path, content))

    def stopped(self, machine: Machine, how: str) -> None:
        self.say(f"erp is {how} on {machine.name}")

    def write(self) -> None:
        """Each running guest writes something, which must not get lost."""
        for machine in self.machines.values():
            if machine.runs:
                self.written += 1
                life = self.life(machine)
                said = life.content.rstrip(b"\0") + b"%d," % self.written
                life.content = said.ljust(disks.SIZE, b"\0")
                # In place, as QEMU does.
                with open(life.path, "r+b") as stream:
                    stream.write(life.content)

    def life(self, machine: Machine) -> Life:
        """The one of the disk that the VM has there."""
        assert machine.domain is not None
        inode = os.stat(machine.domain.disk).st_ino
        (found,) = [life for life in self.lives if life.host == machine.name and life.file == inode]
        found.path = machine.domain.disk
        return found

    # what is decided

    def decide(self, machine: Machine, transition: str, epoch: int, why: str, **more: Any) -> dict[str, Any]:
        """M(vm_state) on the backup storage, or on the host that decides without it."""
        before = product.document(machine)
        after = product.change(machine, transition, epoch, why, **more)
        self.say(
            f"{machine.name} decides {transition}: epoch {after['epoch']}, active {after['active']}, {after['phase']}"
        )
        if after["epoch"] != before["epoch"] and after["epoch"] not in self.moves:
            left = self.machines[before["active"]]
            # One that took it over may have been cut off before it laid any.
            disk = left.domain.disk if left.domain else ""
            content = Path(disk).read_bytes() if os.path.exists(disk) else b""
            self.moves[after["epoch"]] = (transition, content)
        return after

    def follow(self, machine: Machine, decided: Mapping[str, Any]) -> None:
        """M(vm_state) on a host."""
        if product.follow(machine, decided):
            told = f"epoch {decided['epoch']}, active {decided['active']}, {decided['phase']}"
            self.say(f"{machine.name} is told: {told}")

    def status(self) -> str:
        """For people: where it runs, and what each machine holds."""
        runs = [name for name, machine in self.machines.items() if machine.runs]
        held = []
        for name, machine in self.machines.items():
            document = product.document(machine)
            mark = ", unwitnessed" * bool(document["unwitnessed"]) + ("" if machine.up else ", off")
            held.append(f"{name}: epoch {document['epoch']}, active {document['active']}, {document['phase']}{mark}")
        told = f"erp runs on {' and '.join(runs) or 'no host'}; {'; '.join(held)}"
        untold = self.untold()
        return f"{told}\nred: {untold}" if untold else told

    def untold(self) -> str:
        """What status says of a takeover that the backup storage has not heard of."""
        hosts: dict[str, Any] = {}
        for name, machine in self.machines.items():
            if self.reaches(CONTROL, name):
                with self.at(machine):
                    hosts[name] = disks.facts(machine, "")
        stored = self.machines["c"]
        images = disks.images_facts(stored)["images"] if "c" in hosts else []
        return product.untold(self, hosts, images)
