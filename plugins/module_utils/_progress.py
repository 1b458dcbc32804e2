# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a transfer is: the document beside its request and its result, and what can be read out of it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from . import _clock
from ._layout import Layout

__all__ = ["Progress", "transfer_file"]

_ALIVE_SECONDS = 1.0
# The rate people see is that of the last so many seconds.
_RATE_SECONDS = 15.0
# Of what may be told, this is taken: the rest of a document from another machine is not ours to repeat.
_FACTS = ("disk", "found_by", "done_bytes", "total_bytes", "bytes_sent", "waiting")


def transfer_file(layout: Layout, hop: str, kind: str) -> str:
    """Path of a hop's ``request``, ``progress`` or ``result`` document."""
    return os.path.join(layout.transfer, f"{hop}.{kind}.json")


class Progress:
    """Replaces the progress document at most once a second; lost at a power cut without harm.

    The document: ``hop``, ``image_id``, ``started`` and ``updated`` (ISO 8601); as far as they are known ``disk``,
    ``found_by``, ``done_bytes`` and ``total_bytes`` of what is to be looked at on that disk, ``bytes_per_second`` that
    were looked at lately, ``seconds_left`` of this disk, ``bytes_sent`` of the whole transfer; ``waiting``: for what.
    """

    def __init__(
        self, layout: Layout, hop: str, request: dict[str, Any], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = transfer_file(layout, hop, "progress")
        self._base = {"hop": hop, "image_id": request["image_id"], "started": _clock.iso(_clock.now(None))}
        self._facts: dict[str, Any] = {}
        self._past: deque[tuple[float, int]] = deque()
        self._clock = clock
        self._next = 0.0
        self._lock = threading.Lock()

    def __call__(self, **facts: Any) -> bool:
        """Take in facts; whether a second had passed and the document was written."""
        with self._lock:
            if facts.get("disk", self._facts.get("disk")) != self._facts.get("disk"):
                self._past.clear()
            self._facts.pop("waiting", None)
            self._facts.update((name, facts[name]) for name in _FACTS if name in facts)
            now = self._clock()
            if now < self._next:
                return False
            self._next = now + _ALIVE_SECONDS
            self._write(now)
        return True

    def _write(self, now: float) -> None:
        document = {**self._base, **self._facts, **self._pace(now), "updated": _clock.iso(_clock.now(None))}
        part = self._path + ".part"
        with open(part, "w", encoding="utf-8") as stream:
            json.dump(document, stream)
        os.rename(part, self._path)

    def _pace(self, now: float) -> dict[str, int]:
        done, total = self._facts.get("done_bytes"), self._facts.get("total_bytes")
        if done is None or total is None:
            return {}
        self._past.append((now, done))
        while now - self._past[0][0] > _RATE_SECONDS:
            self._past.popleft()
        then, before = self._past[0]
        if now <= then or done <= before:
            return {}
        rate = (done - before) / (now - then)
        return {"bytes_per_second": int(rate), "seconds_left": int(max(0, total - done) / rate)}
