# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose VM was taken over elsewhere while nobody could reach it: it stops the VM once it learns of that."""

from __future__ import annotations

import contextlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from . import _journal
from ._domain import STOPPED
from ._errors import ResilientVmError
from ._files import locked, read_json
from ._gate import AT_ONCE, Gate
from ._layout import Layout
from ._registry import Entry
from ._state import State
from ._virsh import Virsh

__all__ = ["stop"]


def stop(gate: Gate) -> int:
    """Ask about every VM that is active here; close the gate of what moved, and stop it. What a playbook has told of
    meanwhile is stopped as well. The unit's exit code."""
    with ThreadPoolExecutor(AT_ONCE) as several:
        problems = list(several.map(lambda entry: _look(gate, entry), gate.registry.read()[0]))
    sys.stderr.write("".join(f"resilient-vm: {problem}\n" for problem in problems if problem))
    return 1 if any(problems) else 0


def _look(gate: Gate, entry: Entry) -> str:
    try:
        state = State.from_json(read_json(entry.state), entry.state)
        if state.active != entry.host:
            return _left(gate, entry, state)
        told = _told(gate, entry, state)
        return _stopped(gate, entry, state, told) if told else ""
    except ResilientVmError as error:
        return str(error)


def _told(gate: Gate, entry: Entry, own: State) -> str:
    """By whom, and since when, the VM is another host's; "" while it is ours, or while nobody answers."""
    for answer in gate.answers(entry):
        if answer.epoch is not None and answer.epoch > own.epoch and answer.active != own.active:
            return f"{answer.machine} says {answer.active} is active since epoch {answer.epoch}"
    return ""


def _stopped(gate: Gate, entry: Entry, own: State, told: str) -> str:
    """Close the gate first, so that nothing starts it again. Its disks stay as they are."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(gate.registry.confirmation(entry.uuid))
    return _destroyed(gate, entry, own, told)


def _left(gate: Gate, entry: Entry, own: State) -> str:
    """By its own document the VM is another host's, which keeps the gate closed; what was started before runs on.

    Only what was confirmed since the boot of this host can have been started, so nothing else is looked at.
    """
    confirmation = gate.registry.confirmation(entry.uuid)
    if not os.path.exists(confirmation):
        return ""
    told = _destroyed(gate, entry, own, f"{own.active} is active since epoch {own.epoch}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(confirmation)
    return told


def _destroyed(gate: Gate, entry: Entry, own: State, told: str) -> str:
    virsh = Virsh(gate.run)
    if virsh.state(entry.uuid)[0] in ("", *STOPPED):
        return ""
    virsh.call("destroy", entry.uuid)
    told = f"{entry.name} was stopped on {entry.host}: {told}; what it wrote here since then is on its disks only"
    root = os.path.dirname(os.path.dirname(os.path.dirname(entry.state)))
    layout = Layout(entry.customer, entry.vm, root)
    with locked(layout.lock, "stop"):
        said = _journal.entry(gate.now(), "resilient-vm-superseded", "stop", told, own.epoch, own.active)
        _journal.append(layout.journal, said)
    return told
