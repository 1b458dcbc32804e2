# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start a transfer in its own unit on the backup storage, or attach to the one that runs, and wait for its result."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from . import _units
from ._errors import ResilientVmError
from ._files import read_json, write_json
from ._layout import Layout
from ._process import Runner
from ._progress import transfer_file
from ._store import Store

__all__ = ["Transfer"]

# Looking for the result costs nothing; asking systemd whether the unit lives starts a program.
_POLL_SECONDS = 0.02
_ASK_SECONDS = 1.0


class Transfer:
    """One hop of one VM: ``fetch`` (active host to backup storage) or ``refresh`` (backup storage to standby),
    ``restore`` (backup storage to the host where a restore point is wanted), ``mend`` (damage of either, no image),
    ``lend`` (which ends when the host says).

    ``properties``: what its unit has beside those of all transfers."""

    def __init__(
        self,
        layout: Layout,
        hop: str,
        run: Runner,
        sleep: Callable[[float], None] = time.sleep,
        properties: Sequence[str] = (),
    ) -> None:
        self._properties = properties
        self._layout = layout
        self._hop = hop
        self._run = run
        self._sleep = sleep
        self._unit = layout.unit(hop)

    def running(self) -> dict[str, Any] | None:
        """The request the running unit works on, with its progress; None when none runs."""
        if not _units.active(self._run, self._unit):
            return None
        request = read_json(transfer_file(self._layout, self._hop, "request")) or {}
        progress = read_json(transfer_file(self._layout, self._hop, "progress")) or {}
        known = {name: request.get(name) for name in ("image_id", "token")}
        return {"hop": self._hop, **known, "peer": (request.get("peer") or {}).get("name"), **progress}

    def last(self) -> dict[str, Any] | None:
        """The result the last transfer of this hop left."""
        result: dict[str, Any] | None = read_json(transfer_file(self._layout, self._hop, "result"))
        return result

    def check(self, image_id: str, peer: str) -> None:
        """Refuse what can't work, before anything starts."""
        if not os.path.isdir(self._layout.transfer):
            raise ResilientVmError(
                f"{self._layout.directory} is not laid out on this machine; run the site playbook for {self._layout.vm}"
            )
        running = self.running()
        if running is not None and (running["image_id"], running["peer"]) != (image_id, peer):
            raise ResilientVmError(
                f"a transfer of image {running['image_id']} of {self._layout.name}, with {running['peer']}, runs since "
                f"{running.get('started')}; "
                f"wait for it, or end it with: systemctl stop {self._unit}"
            )
        if self._hop != "fetch":
            image = Store(self._layout).read(image_id)
            if image.manifest is None:
                raise ResilientVmError(image.problem)

    def published(self, image_id: str) -> bool:
        """Whether the backup storage holds the image already (only what ``fetch`` brings is known here)."""
        return self._hop == "fetch" and Store(self._layout).read(image_id).complete

    def begin(self, request: dict[str, Any]) -> tuple[str, bool]:
        """Start the unit, or find it running. Returns the token of the transfer, and whether it ran already."""
        running = self.running()
        if running is not None:
            return str(running["token"]), True
        token = os.urandom(16).hex()
        self._start({**request, "token": token})
        return token, False

    def wait(self, token: str, image_id: str, seconds: float | None = None) -> dict[str, Any] | None:
        """The result document of the transfer, or None when it still runs after so many seconds.

        Raises ResilientVmError with the transfer's own reason when it failed.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        ask_at, active = time.monotonic() + _ASK_SECONDS, True
        while True:
            if time.monotonic() >= ask_at:
                # Asked before the result is read: a unit that ends in between has left its result by then.
                active = _units.active(self._run, self._unit)
                ask_at = time.monotonic() + _ASK_SECONDS
            result = self.last()
            if result is not None and result.get("token") == token:
                break
            if not active:
                what = f"image {image_id}" if image_id else "blocks"
                raise ResilientVmError(
                    f"the transfer of {what} of {self._layout.name} was killed on the backup storage; "
                    "what arrived is kept: run again and it goes on from there"
                )
            if deadline is not None and time.monotonic() >= deadline:
                return None
            self._sleep(_POLL_SECONDS)
        if result.get("error"):
            raise ResilientVmError(result["error"], image_id=image_id, hop=self._hop)
        return result

    def _start(self, request: dict[str, Any]) -> None:
        owner = os.stat(self._layout.transfer)
        identity = (owner.st_uid, owner.st_gid)
        for kind in ("progress", "result"):
            path = transfer_file(self._layout, self._hop, kind)
            if os.path.exists(path):
                os.unlink(path)
        write_json(transfer_file(self._layout, self._hop, "request"), request, owner=identity)
        _units.start(
            self._run,
            self._unit,
            [_units.MOVER, self._hop, self._layout.name],
            [
                f"User={identity[0]}",
                f"Group={identity[1]}",
                # A copy never stands in the way of what else the machine does.
                f"Nice={request['limits']['nice']}",
                "IOSchedulingClass=best-effort",
                "IOSchedulingPriority=7",
                *self._properties,
            ],
        )
