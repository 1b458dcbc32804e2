# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening the gate after a boot of a host: what it asks other machines, and what follows from their answers."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Callable

from . import _clock
from ._asking import AT_ONCE, CONFIGURATION, Answer, Asking
from ._domain import STOPPED
from ._errors import ResilientVmError
from ._files import read_json, write_json
from ._hook import BOOT_ID, CLOSED
from ._process import Runner
from ._registry import Entry, Place, Registry
from ._state import INTENDED, State
from ._virsh import Virsh

__all__ = ["Gate", "Opening", "boot", "verdict"]

TIMER = "resilient-vm-gate.timer"
# Phases in which the other host has nothing to take the VM over with, by itself or otherwise.
_NOBODY_STANDS_BY = ("failing_over", "failed_over", "reprotecting")
# A first look after a boot goes on so long before it is left to the timer: machines often boot together.
_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Opening:
    """Whether the gate is open for a VM that is active here. ``final``: asking again would not change it."""

    entry: Entry
    open: bool
    why: str
    final: bool = False
    changed: bool = False


def verdict(
    own: State, answers: list[Answer], start_unconfirmed: bool, lost: Sequence[str] = ()
) -> tuple[bool, bool, str]:
    """(open, final, why) from what all who were asked answer. Pure.

    The other host may have taken the VM over by itself while the backup storage was out of its reach: so that host's
    own word is what counts, and the backup storage's alone only while there is nothing that it could take over with,
    or when it is among the ``lost``: its owner's word that it is gone for good.
    """
    given = [answer for answer in answers if answer.epoch is not None]
    for answer in given:
        told = f"{answer.machine} says the active host of {own.name} is {answer.active} since epoch {answer.epoch}"
        if (answer.epoch or 0) > own.epoch:
            return False, True, f"{told}: the VM moved while this host was away"
        # Older ones can't know of a takeover that this host has decided by itself.
        behind = own.unwitnessed is not None and answer.epoch != own.epoch
        if (answer.epoch, answer.active) != (own.epoch, own.active) and not behind:
            return False, False, f"{told}, and here it is {own.active} since epoch {own.epoch}; find out where it runs"
    if own.unwitnessed is not None:
        return True, True, f"this host took it over by itself at {own.unwitnessed}, and confirms nothing to another"
    if _suffice(own, given) or (given and own.standby in lost):
        return True, True, f"confirmed by {' and '.join(answer.machine for answer in given)}"
    if start_unconfirmed:
        who = f"{own.standby} could not be asked" if given else "nobody could be asked"
        return True, True, f"{who}, and resilient_vm_start_unconfirmed is set"
    silent = "; ".join(f"{answer.machine}: {answer.said}" for answer in answers if answer.epoch is None)
    if not given:
        return False, False, f"nobody could confirm that this host is the active one of {own.name} ({silent})"
    if given[0].machine == own.standby:
        why = f"{own.standby} is about to take {own.name} over, and only the backup storage knows whether it may"
    else:
        why = (
            f"{given[0].machine} knows of nothing new, but {own.standby} has to say that it has not taken {own.name} "
            "over by itself meanwhile"
        )
    return False, False, f"{why} ({silent})"


def _settles(own: State, answer: Answer) -> bool:
    """Whether one machine's answer is all that has to be known."""
    return answer.epoch is not None and (answer.epoch > own.epoch or _suffice(own, [answer]))


def _suffice(own: State, given: list[Answer]) -> bool:
    """Whether these answers, which all say the same, are enough."""
    other = [answer for answer in given if answer.machine == own.standby]
    storage = [answer for answer in given if answer.machine != own.standby]
    if any(answer.phase in _NOBODY_STANDS_BY for answer in storage):
        return True
    # A host that is about to have the backup storage decide has decided nothing itself; the storage's word counts then.
    return bool(other) and (other[0].phase != INTENDED or bool(storage))


@dataclass(frozen=True)
class Gate:
    """The gate of this host."""

    run: Runner
    now: Callable[[], datetime]
    registry: Registry = field(default_factory=Registry)
    configuration: str = CONFIGURATION
    boot_id_file: str = BOOT_ID
    # Seconds; goes on while the host sleeps.
    uptime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)

    # What is known in a round through many VMs.
    asking: Asking | None = None

    def round(self, entries: Iterable[Entry], due: Callable[[Entry, State], bool] | None = None) -> Gate:
        """The same for once through many VMs: the machines are asked at once about those that are active here, and
        ``due``."""
        asking, states = Asking(self.run, self.configuration), {}
        entries = list(entries)
        for entry in entries:
            # Whoever looks at it next tells what is wrong with a document.
            with contextlib.suppress(ResilientVmError, OSError):
                state = State.from_json(read_json(entry.state), entry.state)
                if state.active == entry.host and (due is None or due(entry, state)):
                    states[entry.uuid] = state
        wanted = [entry for entry in entries if entry.uuid in states]
        asking.gather(wanted, lambda entry, answer: _settles(states[entry.uuid], answer))
        return replace(self, asking=asking)

    def boot_id(self) -> str:
        with open(self.boot_id_file, encoding="ascii") as stream:
            return stream.read().strip()

    def openings(self, dry: bool = False) -> list[Opening]:
        """Ask for every VM that is active here and not confirmed yet, and open its gate if it may be."""
        if not dry:
            os.makedirs(self.registry.confirmed, 0o755, exist_ok=True)
        entries = self.registry.read()[0]
        gate = self.round(entries, lambda entry, state: state.phase not in CLOSED and not self._confirmed(entry, state))
        with ThreadPoolExecutor(AT_ONCE) as several:
            looked = several.map(lambda entry: gate.opening(entry, dry), entries)
            return [opening for opening in looked if opening is not None]

    def open(self, name: str) -> None:
        """Ask for one VM (``customer/vm``) and open its gate. Raises ResilientVmError when it stays closed."""
        entry = self.registry.of(name)
        if entry is None:
            raise ResilientVmError(f"the gate of this host does not know {name}; run the site playbook")
        os.makedirs(self.registry.confirmed, 0o755, exist_ok=True)
        opening = self.opening(entry)
        if opening is None or not opening.open:
            why = "it is not the active host" if opening is None else opening.why
            raise ResilientVmError(f"the gate of this host stays closed for {name}: {why}")

    def opening(self, entry: Entry, dry: bool = False) -> Opening | None:
        """The same for one VM. None where another host is the active one: nothing is to be opened."""
        try:
            document = read_json(entry.state)
            if document is None:
                return Opening(entry, False, f"{entry.state} of {entry.name} is missing; run the site playbook")
            state = State.from_json(document, entry.state)
            return self._opening(entry, state, dry) if state.active == entry.host else None
        except ResilientVmError as error:
            return Opening(entry, False, str(error))

    def _opening(self, entry: Entry, state: State, dry: bool) -> Opening:
        if state.phase in CLOSED:
            return Opening(entry, False, f"{entry.name} is in phase {state.phase}", final=True)
        known = self._confirmed(entry, state)
        if known:
            return Opening(entry, True, known, final=True)
        is_open, final, why = self._verdict(entry, state)
        if is_open and not dry:
            said = {"boot_id": self.boot_id(), "epoch": state.epoch, "why": why, "when": _clock.iso(self.now())}
            write_json(self.registry.confirmation(entry.uuid), said, 0o644)
        return Opening(entry, is_open, why, final, is_open)

    def _confirmed(self, entry: Entry, state: State) -> str:
        """Why the gate is open already, in this boot and epoch; "" where it is not."""
        known = read_json(self.registry.confirmation(entry.uuid)) or {}
        is_it = (known.get("boot_id"), known.get("epoch")) == (self.boot_id(), state.epoch)
        return str(known["why"]) if is_it else ""

    def after_a_boot(self, entry: Entry) -> str:
        """Why the gate of a VM that is active here would stay closed if this host booted now, or ""."""
        state = State.from_json(read_json(entry.state), entry.state)
        said = None
        if state.phase not in _NOBODY_STANDS_BY:
            # Every night, and both have to be asked: at once, since each costs a connection.
            with ThreadPoolExecutor(max(1, len(entry.ask))) as several:
                said = dict(zip(entry.ask, several.map(lambda place: self._ask(entry, place), entry.ask)))
        is_open, _final, why = self._verdict(entry, state, said)
        return "" if is_open else why

    def _verdict(self, entry: Entry, own: State, said: Mapping[Place, Answer] | None = None) -> tuple[bool, bool, str]:
        return verdict(own, self.answers(entry, own, said), entry.start_unconfirmed, entry.lost)

    def answers(self, entry: Entry, own: State, said: Mapping[Place, Answer] | None = None) -> list[Answer]:
        """What the machines that know of a VM say of it, asked in turn until one of them settles it; where all were
        asked already, what they ``said``."""
        answers: list[Answer] = []
        for place in entry.ask:
            answer = self._ask(entry, place) if said is None else said[place]
            answers.append(answer)
            if _settles(own, answer):
                break
        return answers

    def _ask(self, entry: Entry, place: Place) -> Answer:
        return (self.asking or Asking(self.run, self.configuration)).ask(entry, place)

    # starting with the host

    @property
    def _waiting_file(self) -> str:
        return os.path.join(self.registry.confirmed, "waiting")

    def waiting(self, first: bool) -> list[str]:
        """UUIDs of the VMs still to be started after this boot; ``first``: all there are, should nobody know yet.

        What its owner shuts down later stays so: the list is made once a boot, and only gets shorter. Beside it is what
        this host stopped by itself.
        """
        os.makedirs(self.registry.confirmed, 0o755, exist_ok=True)
        known = read_json(self._waiting_file) or {}
        entries = self.registry.read()[0]
        if known.get("boot_id") != self.boot_id():
            known = {"uuids": [entry.uuid for entry in entries if entry.autostart] if first else []}
            self._wait_for(known["uuids"])
        again = [entry.uuid for entry in entries if self.starts_again(entry.uuid)]
        return list(dict.fromkeys([*known["uuids"], *again]))

    def _wait_for(self, uuids: list[str]) -> None:
        write_json(self._waiting_file, {"boot_id": self.boot_id(), "uuids": uuids}, 0o644)

    def settled(self, uuids: Iterable[str], waiting: list[str]) -> list[str]:
        """These are not waited for any more; the others."""
        gone = set(uuids) & set(waiting)
        left = [uuid for uuid in waiting if uuid not in gone]
        if gone:
            self._wait_for(left)
        for uuid in gone:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._again_file(uuid))
        return left

    # A file for each VM: whoever stops one and whoever starts another need not know of each other.
    def _again_file(self, uuid: str) -> str:
        return os.path.join(self.registry.confirmed, f"{uuid}.again")

    def start_again(self, uuid: str) -> None:
        """Have this VM started, in this boot, once it may be."""
        os.makedirs(self.registry.confirmed, 0o755, exist_ok=True)
        write_json(self._again_file(uuid), {"boot_id": self.boot_id()}, 0o644)

    def starts_again(self, uuid: str) -> bool:
        return (read_json(self._again_file(uuid)) or {}).get("boot_id") == self.boot_id()

    def start(self, entry: Entry) -> str:
        """Start a VM that starts with its host; "" or why it could not be."""
        virsh = Virsh(self.run)
        try:
            if virsh.state(entry.uuid)[0] in STOPPED:
                virsh.call("start", entry.uuid, timeout_seconds=120.0)
        except ResilientVmError as error:
            return str(error)
        return ""


def boot(gate: Gate, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic) -> int:
    """After a boot: open the gates that may be opened and start what starts with the host; the unit's exit code.

    What can't be settled within its patience is left to the timer, which stops when nothing is left.
    """
    until = clock() + _PATIENCE_SECONDS
    while True:
        left = _round(gate)
        if not left:
            gate.run(["systemctl", "stop", TIMER])
            return 0
        if clock() >= until:
            sys.stderr.write("".join(f"resilient-vm: {sentence}\n" for sentence in left))
            return 1
        sleep(1.0)


def _round(gate: Gate) -> list[str]:
    """Ask once; one sentence for everything that is still to be done."""
    waiting = gate.waiting(first=True)
    openings = gate.openings()
    left = gate.registry.read()[1] + [opening.why for opening in openings if not opening.final]
    for opening in openings:
        if opening.changed or (opening.final and not opening.open):
            sys.stdout.write(f"{opening.entry.name}: {'open' if opening.open else 'closed'}, {opening.why}\n")
        if opening.entry.uuid in waiting and opening.open:
            problem = gate.start(opening.entry)
            if problem:
                left.append(problem)
                continue
        if opening.final:
            waiting = gate.settled([opening.entry.uuid], waiting)
    active_here = {opening.entry.uuid for opening in openings}
    gate.settled(set(waiting) - active_here, waiting)
    return left
