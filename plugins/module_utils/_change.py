# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of a VM's state on the machine where it is kept: decided on the backup storage, followed by the hosts.

A host decides by itself only that it takes the VM over while the backup storage is out of reach.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Callable

from . import _journal, _transitions, _word
from ._clock import iso, of_epoch
from ._clock import now as utc_now
from ._errors import ResilientVmError
from ._files import locked, read_json, write_json
from ._layout import Layout
from ._state import INTENDED, State, followed, stepped
from ._transitions import Transition

__all__ = ["Request", "ask", "change", "follow", "held", "record", "refuse_asked", "told", "undisturbed"]

_TRIES, _PAUSE_SECONDS = 50, 0.1


@dataclass(frozen=True)
class Request:
    """A step that somebody wants taken, from the epoch at which they looked."""

    transition: str
    epoch: int
    who: str
    why: str
    evidence: Mapping[str, Any]
    # By this machine's clock: a host that asked since then whether it may run the VM is up, whatever was seen before.
    unasked_since: datetime | None = None
    # Of the operator's word that the host is off; it also tells since when nobody must have asked.
    nonce: str | None = None
    # Whether a host takes it by itself, since the backup storage can't be asked.
    unwitnessed: bool = False
    # When the state that they looked at had last changed: a step that comes late, after others at the same epoch, must
    # not fit what those have led to.
    seen: str | None = None


def held(layout: Layout) -> State:
    """The VM's state document on this machine. Raises ResilientVmError when there is none."""
    document = read_json(layout.state)
    if document is None:
        raise ResilientVmError(f"this machine knows nothing of {layout.name}; run the site playbook")
    return State.from_json(document, layout.state)


def told(layout: Layout) -> str:
    """``<epoch> <active host> <phase>``, for the host that takes itself for that. Whoever asks is up: a takeover has to
    know.

    A host that is about to have the backup storage decide that it takes the VM over says so in the phase's place: what
    it says may be outdated in a moment. One that decides by itself says so and decides at once.
    """
    with _asked(layout, fcntl.LOCK_SH) as free:
        if not free:
            raise ResilientVmError(f"{layout.name} is being decided on here at this moment; ask again")
        os.utime(layout.asked)
        state = held(layout)
        intent = read_json(layout.intent)
    intended = intent is not None and intent["epoch"] > state.epoch
    return f"{state.epoch} {state.active} {INTENDED if intended else state.phase}"


@contextmanager
def _asked(layout: Layout, operation: int) -> Iterator[bool]:
    """Hold the file by which questions are known, if it is free; never waits. The kernel lets go of it at a crash."""
    descriptor = os.open(layout.asked, os.O_RDONLY)
    try:
        free = True
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            free = False
        yield free
    finally:
        os.close(descriptor)


@contextmanager
def undisturbed(layout: Layout, sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Nobody is told anything from this machine meanwhile: a question is known before a takeover is decided on, or is
    answered by what it decided."""
    for _try in range(_TRIES):
        with _asked(layout, fcntl.LOCK_EX) as free:
            if free:
                yield
                return
        # Whoever is told something holds it for a moment.
        sleep(_PAUSE_SECONDS)
    raise ResilientVmError(f"{layout.asked} is held by another process; see which one, and run again")


def refuse_asked(layout: Layout, state: State, since: datetime) -> None:
    """Raises ResilientVmError when a host has asked since then whether it may run the VM: so it is up."""
    asked = of_epoch(os.stat(layout.asked).st_mtime)
    if asked >= since:
        raise ResilientVmError(
            f"{state.active} asked at {iso(asked)} whether it may run {state.name}, so it is up; look at it again, and "
            "begin anew"
        )


def ask(layout: Layout, epoch: int) -> str:
    """What the operator's next word must end in, on the backup storage; no earlier word is good any more.

    Raises ResilientVmError when the VM has another epoch by now. So after this, and until somebody is told the nonce,
    nobody takes the VM over from this epoch: what another run has said of it may be taken back.
    """
    with locked(layout.lock, "failover"):
        state = held(layout)
        if state.epoch != epoch:
            raise ResilientVmError(
                f"{layout.name} is at epoch {state.epoch} with {state.active} active: somebody else was faster; run "
                "failover again"
            )
        # By the real clock, whatever time it is said to be: minutes count from now.
        return _word.renew(layout, epoch, utc_now())


def change(layout: Layout, request: Request, now: datetime, dry: bool = False) -> tuple[State, State]:
    """Compare and set, on the backup storage, or on the host that decides without it: (before, after).

    Whoever looked at an older epoch, or at a phase that has passed, is refused: somebody else was faster. Publishing
    holds the same lock, so an image of the old epoch is published before the change or never.
    """
    step = _transitions.named(request.transition)
    if dry:
        return _decided(layout, request, step, now)
    with ExitStack() as stack:
        stack.enter_context(locked(layout.lock, request.transition))
        if request.unasked_since is not None or request.nonce is not None:
            stack.enter_context(undisturbed(layout))
        found, after = _decided(layout, request, step, now)
        record(layout, after, request.who, request.transition, now, request.evidence)
    return found, after


def _decided(layout: Layout, request: Request, step: Transition, now: datetime) -> tuple[State, State]:
    found = held(layout)
    after = stepped(found, step, request.epoch, now, request.why, request.unwitnessed)
    if request.seen is not None and request.seen != found.changed:
        raise ResilientVmError(
            f"{found.name} is as it was changed at {found.changed}, and {step.name} was decided on as of {request.seen}"
            ": somebody else was faster; look at its status and decide anew"
        )
    since = request.unasked_since
    if request.nonce is not None:
        # By the real clock, which is also that of whoever asked.
        since = _word.check(layout, request.nonce, request.epoch, utc_now())
    if since is not None:
        refuse_asked(layout, found, since)
    return found, after


def follow(
    layout: Layout,
    decided: State,
    who: str,
    now: datetime,
    dry: bool = False,
    evidence: Mapping[str, Any] | None = None,
) -> tuple[State, State]:
    """Take over, on a host, what the backup storage decided: (before, after). Never back to an older epoch."""
    if dry:
        found = held(layout)
        return found, followed(found, decided)
    with locked(layout.lock, "follow"):
        found = held(layout)
        after = followed(found, decided)
        if after != found:
            record(layout, after, who, "follow", now, evidence)
    return found, after


def record(
    layout: Layout, state: State, who: str, what: str, now: datetime, evidence: Mapping[str, Any] | None = None
) -> None:
    """Write it into the journal, then put it in force. The caller holds the VM's lock.

    In this order a change is never without its entry; an entry without its change is a run that was cut off there.
    """
    said = _journal.entry(now, who, what, state.why, state.epoch, state.active, evidence)
    _journal.append(layout.journal, said)
    folder = os.stat(layout.directory)
    write_json(layout.state, state.as_dict(), 0o640, (folder.st_uid, folder.st_gid))
