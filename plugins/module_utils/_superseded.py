# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose VM was taken over elsewhere while nobody could reach it: it stops the VM once it learns of that, or,
where that is wished for, already when it has heard of nobody for too long."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Callable

from . import _journal, _self_stop
from ._asking import AT_ONCE, Answer
from ._domain import STOPPED
from ._errors import ResilientVmError, sentence
from ._files import moment, read_json
from ._gate import TIMER, Gate
from ._layout import Layout
from ._registry import Entry
from ._state import State
from ._virsh import Virsh

__all__ = ["look", "stop"]

_DIVERGED = "what it wrote here since then is on its disks only"
# A look that nobody answers takes up to ten seconds more, and the next turn is a minute after this one.
_PATIENCE_SECONDS = 40.0
_PAUSE_SECONDS = 5.0


def stop(gate: Gate, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic) -> int:
    """Ask about every VM that is active here; close the gate of what moved, and stop it. What a playbook has told of
    meanwhile is stopped as well. The unit's exit code.

    Where nobody at all answers, this host may be cut off, and its VM taken over: it asks on until its next turn, so as
    to hear of it as soon as it can.
    """
    until = clock() + _PATIENCE_SECONDS
    told: list[str] = []
    while True:
        problems, alone = look(gate)
        new = [problem for problem in problems if problem not in told]
        sys.stderr.write("".join(f"resilient-vm: {problem}\n" for problem in new))
        told += new
        if not alone or clock() >= until:
            return 1 if told else 0
        sleep(_PAUSE_SECONDS)


def look(gate: Gate) -> tuple[list[str], bool]:
    """(what was stopped or went wrong, whether nobody answers for one that may run here)."""
    entries = gate.registry.read()[0]
    gate = gate.round(entries)
    with ThreadPoolExecutor(AT_ONCE) as several:
        looked = list(several.map(lambda entry: _look(gate, entry), entries))
    return [problem for problem, _alone in looked if problem], any(alone for _problem, alone in looked)


def _look(gate: Gate, entry: Entry) -> tuple[str, bool]:
    try:
        state = State.from_json(read_json(entry.state), entry.state)
        if state.active != entry.host:
            return _left(gate, entry, state), False
        answers = gate.answers(entry, state)
        told = _told(answers, state)
        if told:
            _close(gate, entry)
            return _destroyed(gate, entry, state, f"{told}; {_DIVERGED}"), False
        # What this host took over by itself nobody can confirm, nor run elsewhere.
        stops = entry.self_stop_seconds and state.unwitnessed is None
        said = _alone(gate, entry, state, answers) if stops else ""
        # Only what was confirmed can run.
        may_run = os.path.exists(gate.registry.confirmation(entry.uuid))
        return said, may_run and not any(answer.epoch is not None for answer in answers)
    except (ResilientVmError, OSError) as error:
        return sentence(error), False


def _told(answers: list[Answer], own: State) -> str:
    """By whom, and since when, the VM is another host's; "" while it is ours, or while nobody answers.

    The other host is asked as well: of what it took over by itself the backup storage need not have heard.
    """
    for answer in answers:
        if answer.epoch is not None and answer.epoch > own.epoch and answer.active != own.active:
            return f"{answer.machine} says {answer.active} is active since epoch {answer.epoch}"
    return ""


def _alone(gate: Gate, entry: Entry, own: State, answers: list[Answer]) -> str:
    """Stop what has run too long without a word from anybody. It is started again once somebody says that it may be."""
    if gate.starts_again(entry.uuid):
        # Which ends when it finds nothing to wait for, and may have done so just before this one was stopped.
        gate.run(["systemctl", "start", TIMER])
    if any(answer.epoch is not None for answer in answers):
        _self_stop.heard(gate, entry)
        return ""
    if Virsh(gate.run).state(entry.uuid)[0] in ("", *STOPPED):
        _self_stop.begin_anew(gate, entry)
        return ""
    if not _self_stop.silence(gate, entry):
        return ""
    said = "; ".join(f"{answer.machine}: {answer.said}" for answer in answers)
    told = f"nobody answered for {entry.self_stop_seconds} s ({said}); it is started again once somebody confirms it"
    _close(gate, entry)
    # Before: whoever is killed after this leaves a VM that runs, or one that somebody starts again. And after, since
    # the gate may have found it running in between, and waits for it no more.
    gate.start_again(entry.uuid)
    stopped = _destroyed(gate, entry, own, told)
    gate.start_again(entry.uuid)
    gate.run(["systemctl", "start", TIMER])
    return stopped


def _close(gate: Gate, entry: Entry) -> None:
    """Close the gate, before anything is stopped, so that nothing starts it again."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(gate.registry.confirmation(entry.uuid))


def _left(gate: Gate, entry: Entry, own: State) -> str:
    """By its own document the VM is another host's, which keeps the gate closed; what was started before runs on.

    Only what was confirmed since the boot of this host can have been started, so nothing else is looked at.
    """
    if not os.path.exists(gate.registry.confirmation(entry.uuid)):
        return ""
    told = _destroyed(gate, entry, own, f"{own.active} is active since epoch {own.epoch}; {_DIVERGED}")
    _close(gate, entry)
    return told


def _destroyed(gate: Gate, entry: Entry, own: State, told: str) -> str:
    virsh = Virsh(gate.run)
    if virsh.state(entry.uuid)[0] in ("", *STOPPED):
        return ""
    virsh.call("destroy", entry.uuid)
    told = f"{entry.name} was stopped on {entry.host}: {told}"
    root = os.path.dirname(os.path.dirname(os.path.dirname(entry.state)))
    layout = Layout(entry.customer, entry.vm, root)
    try:
        with moment(layout.lock, "stop"):
            said = _journal.entry(gate.now(), "resilient-vm-superseded", "stop", told, own.epoch, own.active)
            _journal.append(layout.journal, said)
    except (ResilientVmError, OSError) as error:
        # It is stopped all the same, and what follows from that has to be done.
        return f"{told}; the VM's journal doesn't say so, for {sentence(error)}"
    return told
