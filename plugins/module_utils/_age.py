# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watchdog on the backup storage: which VM's newest image is too old, by the time of its data.

It needs no control node, because no red run tells of a night on which the control node was dead.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta

from . import _clock
from ._errors import ResilientVmError
from ._files import read_json
from ._layout import DEFAULT_ROOT, DEFAULT_RUNTIME, Layout
from ._process import Runner, run
from ._state import State
from ._store import Store

__all__ = ["Protected", "check", "main", "overdue", "registered"]

_COMMAND_SECONDS = 300.0
# As far as clocks may differ for an image to be taken at all.
_SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class Protected:
    """What the watchdog knows of one VM. ``newest`` is the instant of its newest complete image's data."""

    name: str
    since: datetime
    newest: datetime | None
    limit: timedelta


def overdue(vm: Protected, now: datetime) -> str:
    """The alarm's sentence, or nothing while the newest image is young enough.

    A VM without an image is as old as its protection.
    """
    hours = vm.limit / timedelta(hours=1)
    if vm.newest is None:
        if now - vm.since <= vm.limit:
            return ""
        return (
            f"{vm.name} has no image though it is protected since {_clock.iso(vm.since)} "
            f"({_hours(now - vm.since)} hours, at most {hours:g}); run the daily playbook and see what it says"
        )
    age = now - vm.newest
    if -_SKEW <= age <= vm.limit:
        return ""
    if age < -_SKEW:
        # A clock that runs ahead would otherwise keep the alarm silent for as long as it is ahead.
        return (
            f"the newest image of {vm.name} is of {_clock.iso(vm.newest)}, which is still to come; "
            "correct this machine's clock or the active host's"
        )
    return (
        f"the newest image of {vm.name} is of {_clock.iso(vm.newest)}, {_hours(age)} hours old, at most {hours:g}; "
        "run the daily playbook and see what it says"
    )


def _hours(age: timedelta) -> int:
    return int(age / timedelta(hours=1))


def registered(root: str) -> list[tuple[str, str]]:
    """Customer and name of every VM that has a state document on this machine."""
    found = []
    for customer in _folders(root):
        for vm in _folders(os.path.join(root, customer)):
            if os.path.lexists(os.path.join(root, customer, vm, "state.json")):
                found.append((customer, vm))
    return found


def _folders(path: str) -> list[str]:
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if name[0] != "." and os.path.isdir(os.path.join(path, name)))


def look(layout: Layout, state: State, max_hours: float) -> Protected:
    """What is known of one VM on this backup storage."""
    newest = Store(layout).newest()
    hours = max_hours if state.max_age_hours is None else state.max_age_hours
    return Protected(
        name=layout.name,
        since=_clock.parse(state.changed, f"the time in {layout.state}"),
        newest=None if newest is None or newest.manifest is None else _clock.parse(newest.manifest.instant, newest.id),
        limit=timedelta(hours=hours),
    )


def check(root: str, runtime: str, max_hours: float, now: datetime, runner: Runner) -> list[str]:
    """One sentence for every VM there is something to say of; its alarm command has then been run with it."""
    said = []
    for customer, vm in registered(root):
        command = None
        try:
            layout = Layout(customer, vm, root, runtime)
            # First: whatever else is damaged, somebody hears of it.
            state = State.from_json(read_json(layout.state), layout.state)
            command = state.alarm_command
            sentence = overdue(look(layout, state, max_hours), now)
        except Exception as error:  # noqa: BLE001 # pylint: disable=broad-exception-caught
            # What can't be read can't be called young; and nothing that lies there may keep the others from being told.
            sentence = f"whether {customer}/{vm} has a young image can't be told: {error or type(error).__name__}"
        if not sentence:
            continue
        said.append(sentence)
        if command:
            said.extend(_alarm(command, sentence, runner))
    return said


def _alarm(command: str, sentence: str, runner: Runner) -> list[str]:
    """Run the owner's command with the sentence as its last word; what goes wrong there is said too."""
    try:
        runner([*shlex.split(command), sentence], timeout_seconds=_COMMAND_SECONDS)
    except (ResilientVmError, ValueError, OSError) as error:
        return [f"the alarm command could not be run: {error}"]
    return []


def main(arguments: list[str], root: str = DEFAULT_ROOT, runtime: str = DEFAULT_RUNTIME) -> int:
    """``resilient-vm age``: print what is wrong, one line each; 1 when there is anything."""
    parser = argparse.ArgumentParser(
        prog="resilient-vm age", description="Name every VM whose newest image is too old."
    )
    parser.add_argument(
        "--max-hours", type=float, default=26.0, help="for VMs whose state document names no limit (default 26)"
    )
    parser.add_argument("--now", default=None, help="ISO 8601 time in place of the clock, for tests")
    given = parser.parse_args(arguments)
    sentences = check(root, runtime, given.max_hours, _clock.now(given.now), run)
    for sentence in sentences:
        sys.stdout.write(f"{sentence}\n")
    return 1 if sentences else 0
