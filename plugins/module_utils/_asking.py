# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host asks other machines about its VMs: which host is the active one."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Callable

from ._errors import ResilientVmError
from ._process import Completed, Runner
from ._registry import Entry, Place

__all__ = ["AT_ONCE", "CONFIGURATION", "Answer", "Asking", "call"]

CONFIGURATION = "/etc/resilient-vm"
AT_ONCE = 8
_ANSWER = re.compile(r"([1-9][0-9]{0,8}) (\S+)(?: (\S+))?")
# What ssh says of a machine that it gets no connection to, whoever it is asked for.
_NO_WAY = re.compile(r"ssh: connect to host .*|Connection to .* timed out")
_CALL_SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """What another machine says of the VM; without an epoch it gave no answer, and ``said`` is why."""

    machine: str
    epoch: int | None
    active: str = ""
    said: str = ""
    # As that machine has it, or INTENDED.
    phase: str = ""

    @property
    def no_way(self) -> bool:
        """The machine is out of reach, for every VM."""
        return self.epoch is None and _NO_WAY.fullmatch(self.said) is not None


def call(
    entry: Entry, place: Place, verb: str, run: Runner, configuration: str = CONFIGURATION, stdin: str | None = None
) -> Completed:
    """Start a forced command on another machine, by the VM's own key."""
    words = [
        "ssh",
        "-T",
        *("-F", "/dev/null"),
        *("-i", os.path.join(configuration, "keys", f"{entry.customer}.{entry.vm}")),
        *("-p", str(place.port)),
        *("-o", "BatchMode=yes"),
        *("-o", "IdentitiesOnly=yes"),
        *("-o", "StrictHostKeyChecking=yes"),
        *("-o", f"UserKnownHostsFile={os.path.join(configuration, 'known_hosts')}"),
        *("-o", "GlobalKnownHostsFile=/dev/null"),
        *("-o", "ConnectTimeout=5"),
        *("-o", "ServerAliveInterval=5"),
        *("-o", "ServerAliveCountMax=2"),
        f"{entry.account}@{place.address}",
        verb,
    ]
    return run(words, timeout_seconds=_CALL_SECONDS, check=False, stdin=stdin)


def _parsed(place: Place, said: str) -> Answer:
    match = _ANSWER.fullmatch(said)
    if match is None:
        return Answer(place.name, None, said=said)
    return Answer(place.name, int(match.group(1)), match.group(2), phase=match.group(3) or "")


class Asking:
    """Once through many VMs: a machine out of reach is not tried again for each, nor asked what was gathered."""

    def __init__(self, run: Runner, configuration: str = CONFIGURATION) -> None:
        self._run = run
        self._configuration = configuration
        self._beyond: dict[Place, Answer] = {}
        # The customers of the VMs over which a machine hung.
        self._hung: dict[Place, list[str]] = {}
        self._gathered: dict[tuple[str, Place], Answer] = {}

    def ask(self, entry: Entry, place: Place) -> Answer:
        """Which host is the active one, by what a machine knows."""
        known = self._known(entry, place)
        if known is not None:
            return known
        try:
            done = call(entry, place, "epoch", self._run, self._configuration)
        except ResilientVmError as error:
            self._hung.setdefault(place, []).append(entry.customer)
            return Answer(place.name, None, said=str(error))
        said = done.stdout.strip()
        return _parsed(place, said) if done.code == 0 and said else self._silent(place, done)

    def _known(self, entry: Entry, place: Place) -> Answer | None:
        known = self._gathered.get((entry.uuid, place)) or self._beyond.get(place)
        if known is None and self._hangs(entry.customer, place):
            return Answer(place.name, None, said=f"{place.name} let the questions before this one hang")
        return known

    def _hangs(self, customer: str, place: Place) -> bool:
        """One VM, or one customer's folder, may be all that a machine hangs over; no third question waits for it."""
        hung = self._hung.get(place, [])
        return hung.count(customer) > 1 or len(set(hung)) > 1

    def gather(self, entries: Sequence[Entry], settles: Callable[[Entry, Answer], bool]) -> None:
        """Ask each machine about all VMs of a customer by one connection, for ``ask`` to know. The next one is asked
        only about those of which the one before said nothing that ``settles`` it.

        Only answers are kept: of whatever it was given none ``ask`` tells why, by the VM's own key.
        """
        left = list(entries)
        for turn in range(max((len(entry.ask) for entry in entries), default=0)):
            groups: dict[tuple[str, Place], list[Entry]] = {}
            for entry in left:
                if turn < len(entry.ask):
                    groups.setdefault((entry.customer, entry.ask[turn]), []).append(entry)
            with ThreadPoolExecutor(AT_ONCE) as several:
                list(several.map(self._gather, groups, groups.values()))
            left = [
                entry
                for (_customer, place), group in groups.items()
                for entry in group
                if not self._settled(entry, place, settles)
            ]

    def _settled(self, entry: Entry, place: Place, settles: Callable[[Entry, Answer], bool]) -> bool:
        answer = self._known(entry, place)
        return answer is not None and settles(entry, answer)

    def _gather(self, group: tuple[str, Place], entries: list[Entry]) -> None:
        _customer, place = group
        if len(entries) == 1 or place in self._beyond:
            return
        names = "".join(f"{entry.vm}\n" for entry in entries)
        try:
            done = call(entries[0], place, "epochs", self._run, self._configuration, stdin=names)
        except (ResilientVmError, OSError):
            return
        if done.code != 0:
            # One that doesn't know the question yet, or this key.
            self._silent(place, done)
            return
        told = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
        for entry in entries:
            answer = _parsed(place, told.get(entry.vm, ""))
            if answer.epoch is not None:
                self._gathered[entry.uuid, place] = answer

    def _silent(self, place: Place, done: Completed) -> Answer:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.code}"]
        answer = Answer(place.name, None, said=lines[-1])
        if answer.no_way:
            self._beyond[place] = answer
        return answer
