# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backup storage answers a host that takes a VM over, or wants an old day of it, when there is no control node.

A forced command, which is the customer's account, only carries the question to this unit of root's and the answer back
(``_relay``): state is root's. Root goes by its own documents and by what it sees itself, never by the host's word.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Callable

from . import _change, _claim, _clock, _laid_plan, _lend, _restore_point
from ._claim import Claim
from ._clock import now as utc_now
from ._doors import machine_name
from ._errors import ResilientVmError, sentence
from ._layout import Layout
from ._look import Target, look
from ._process import Runner
from ._relay import ANSWER_SECONDS, MAX_BYTES
from ._restore_plan import parts
from ._state import State
from ._store import Store
from ._takeover import targets

__all__ = ["Claims", "serve"]

# As the modules of a playbook look.
_PATIENCE_SECONDS = 2.0
_CREDENTIALS = struct.Struct("3i")


def serve(layout_of: Callable[[str], Layout], version: str, run: Runner, descriptor: int = 0) -> int:
    """Root's unit, for one connection on its standard input: one question, one answer."""
    with socket.socket(fileno=os.dup(descriptor)) as connection, connection.makefile("rb") as stream:
        connection.settimeout(ANSWER_SECONDS)
        try:
            layout, holder = _claimant(stream.readline(MAX_BYTES), layout_of)
            _check_account(connection, layout)
            claim = _claim.parse(stream.readline(MAX_BYTES + 1))
            said = Claims(layout, holder, version, run, utc_now()).answer(claim)
        except (ResilientVmError, OSError) as error:
            said = {"refused": sentence(error)}
            sys.stderr.write(f"resilient-vm: {said['refused']}\n")
        # Whoever asked may be gone by now, and asks again.
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(json.dumps(said).encode("ascii") + b"\n")
    return 0


def _claimant(header: bytes, layout_of: Callable[[str], Layout]) -> tuple[Layout, str]:
    """For which VM and by whose key, as the forced command was told by the key's entry."""
    try:
        told = json.loads(header)
        return layout_of(told["vm"]), machine_name(told["holder"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResilientVmError("this connection is not of a forced command") from error


def _check_account(connection: socket.socket, layout: Layout) -> None:
    """Whoever connects may be anybody on this machine; one customer's account never speaks for another's VM."""
    _pid, uid, _gid = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    try:
        allowed = uid == pwd.getpwnam(layout.account).pw_uid
    except KeyError:
        allowed = False
    if not allowed:
        raise ResilientVmError(f"only account {layout.account} may claim {layout.name}")


@dataclass(frozen=True)
class Claims:
    """What ``holder`` (a host, by its key) may have of one VM."""

    layout: Layout
    holder: str
    version: str
    run: Runner
    now: datetime

    def answer(self, claim: Claim) -> dict[str, Any]:
        """What it is told. Raises ResilientVmError to refuse; nothing has been changed then."""
        state = _change.held(self.layout)
        if claim.ask == "borrow":
            return self._lent(claim)
        if claim.ask == "look":
            self._refuse_unless(state, "one of its hosts", state.active, state.standby)
            return {"state": _shown(state), "version": self.version, "seen": self._look()}
        if claim.ask == "finish":
            self._refuse_unless(state, "its active host", state.active)
            return self._changed(claim, {"report": claim.told})
        self._refuse_unless(state, "its standby host", state.standby)
        if claim.ask == "word":
            return {"nonce": _change.ask(self.layout, claim.epoch)}
        seen = self._look()
        self._refuse_when_seen(state, seen)
        return self._changed(claim, {"claimed_by": self.holder, "seen": seen, "told": claim.told})

    def _lent(self, claim: Claim) -> dict[str, Any]:
        """Lend the image it means to the host, where the inventory allows that: what the host has to know of it."""
        plan = _laid_plan.read(self.layout, _laid_plan.LENDING)
        if self.holder not in plan["lend_to"]:
            raise ResilientVmError(
                f"{self.holder} may not have images of {self.layout.name} by itself; name it in resilient_vm_lend_to "
                "and run the site playbook, or run the restore playbook"
            )
        images = {image.id: image.summary() for image in Store(self.layout).images()}
        candidates = map(_restore_point.candidate, images.values())
        zone = _clock.zone(plan["timezone"])
        image = images[_restore_point.find(claim.point, self.layout.vm, candidates, zone, self.now)]
        wish = _lend.Wish(image["id"], claim.name, {**plan["addresses"][self.holder], "name": self.holder})
        _lend.wake(self.layout, wish, self.run)
        _lend.give(self.layout, wish, self.run)
        sys.stderr.write(f"image {wish.image_id} of {self.layout.name} is {wish.purpose}, for {claim.who}\n")
        return {"image": {"id": image["id"], "instant": image["instant"], **parts(image)}}

    def _look(self) -> dict[str, str]:
        plan = _laid_plan.read(self.layout)
        wanted = targets(plan, plan["backup_storage"])
        return look([Target.of(each) for each in wanted], self.run, _PATIENCE_SECONDS)

    def _refuse_unless(self, state: State, what: str, *allowed: str) -> None:
        if self.holder not in allowed:
            raise ResilientVmError(
                f"{self.holder} is not {what}: {state.name} is at epoch {state.epoch}, {state.active} is its active "
                f"host and {state.standby} its standby host"
            )

    def _refuse_when_seen(self, state: State, seen: Mapping[str, str]) -> None:
        for name in (state.active, state.vm):
            if seen.get(name):
                raise ResilientVmError(
                    f"the backup storage still reaches {name} ({seen[name]}); shut {state.vm} down on {state.active} "
                    f"and switch {state.active} off first"
                )

    def _changed(self, claim: Claim, evidence: Mapping[str, Any]) -> dict[str, Any]:
        request = _claim.request_of(claim, self.holder, evidence)
        return {"state": _shown(_change.change(self.layout, request, self.now)[1])}


def _shown(state: State) -> dict[str, Any]:
    """As a host is told it: the watchdog's fields are the backup storage's own."""
    return replace(state, max_age_hours=None, alarm_command=None).as_dict()
