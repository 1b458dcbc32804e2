# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast, how many and when: a VM's and a machine's rate, transfers side by side, and hours of the day.

All of it is kept on the backup storage, which is one end of every transfer. Where that end sends, it waits before it
writes; where it receives, it grants the sender so many bytes at a time.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any, Protocol

from . import _clock
from ._errors import ResilientVmError

__all__ = ["PIECE_BYTES", "SLOTS", "Credit", "Limits", "Slot", "Window", "grant_all", "spend"]

# What is waited for at a time: fine enough for a rate of a megabyte a second to look like one.
PIECE_BYTES = 64 * 1024
# As many as the site playbook lays; the folder is root's, so that no account puts anything else in their place.
SLOTS = 64
# So much of a second may be sent at once after a pause.
_BURST_SECONDS = 0.1
_LOOK_SECONDS = 1.0
_GRANT_SECONDS = 0.02
_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def spend(tokens: float, elapsed: float, rate: float, amount: int) -> tuple[float, float]:
    """(tokens left, seconds to wait) of a token bucket after so many seconds of filling at ``rate`` per second.

    What is spent may be owed: tokens go below zero, and the wait is as long as it takes to earn them.
    """
    left = min(rate * _BURST_SECONDS, tokens + elapsed * rate) - amount
    return left, max(0.0, -left / rate)


@dataclass(frozen=True)
class Window:
    """Hours of the day in which data may travel, like 22:00-06:00, in a time zone."""

    begin: timedelta
    end: timedelta
    zone: tzinfo

    @classmethod
    def parse(cls, text: str, zone: str) -> Window:
        """Raises ResilientVmError for what is no window, or one of no length."""
        match = _WINDOW.fullmatch(text)
        if match is None or match.group(1, 2) == match.group(3, 4):
            raise ResilientVmError(f"transfer window {text!r} is not two times of a day; write it like 22:00-06:00")
        hours = [int(part) for part in match.groups()]
        begin, end = timedelta(hours=hours[0], minutes=hours[1]), timedelta(hours=hours[2], minutes=hours[3])
        return cls(begin, end, _clock.zone(zone))

    def opens(self, now: datetime) -> datetime | None:
        """When data may travel again, or None while it may."""
        local = now.astimezone(self.zone)
        clock = timedelta(hours=local.hour, minutes=local.minute, seconds=local.second)
        inside = self.begin <= clock < self.end if self.begin < self.end else not self.end <= clock < self.begin
        if inside:
            return None
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        day = midnight if clock < self.begin else midnight + timedelta(days=1)
        # The clock on the wall is what was asked for, also over a change of summer time.
        return (day + self.begin).replace(tzinfo=self.zone)


class Slot:
    """One of the copies that may run on this machine at once; flock, so that a killed one gives it back.

    ``waiting`` is called every second while all ``count`` are taken. A copy that is paused lets another one have it.
    """

    def __init__(
        self, folder: str, count: int, waiting: Callable[[], object], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._folder = folder
        self._count = count
        self._waiting = waiting
        self._sleep = sleep
        self._descriptor = -1
        self._over = False
        self._changing = threading.Lock()

    def __enter__(self) -> Slot:
        self.take()
        return self

    def __exit__(self, *_raised: object) -> None:
        # For good: a thread that waits for its return must not have it when the copy is over.
        self._over = True
        self.free()

    def take(self) -> None:
        while not self._taken():
            self._waiting()
            self._sleep(_LOOK_SECONDS)

    def free(self) -> None:
        with self._changing:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1

    def _taken(self) -> bool:
        with self._changing:
            if self._over or self._descriptor >= 0:
                return True
            for number in range(min(self._count, SLOTS)):
                descriptor = _opened(os.path.join(self._folder, f"slot.{number}"), os.O_RDONLY)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(descriptor)
                    continue
                self._descriptor = descriptor
                return True
        return False


class Limits:
    """What one transfer has to keep to. ``rate`` and ``machine_rate`` in bytes per second, 0 for none;
    ``shared``: the folder that all transfers of this machine share."""

    def __init__(
        self,
        rate: int = 0,
        machine_rate: int = 0,
        window: Window | None = None,
        shared: str = "",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate
        self._machine_rate = machine_rate
        self._window = window
        self._bucket = os.path.join(shared, "rate.json")
        self._sleep = sleep
        self._tokens = 0.0
        self._at = time.monotonic()
        self._taking = threading.Lock()

    @classmethod
    def of(cls, document: dict[str, Any], shared: str) -> Limits:
        """The limits a transfer request names: ``rate``, ``machine_rate``, ``window`` and ``timezone``."""
        window = Window.parse(document["window"], document["timezone"]) if document.get("window") else None
        return cls(document.get("rate") or 0, document.get("machine_rate") or 0, window, shared)

    @property
    def any(self) -> bool:
        return bool(self._rate or self._machine_rate or self._window)

    @property
    def ahead_bytes(self) -> int:
        """How much may be granted before it has arrived: a quarter of a second's, for long ways."""
        rates = [rate for rate in (self._rate, self._machine_rate) if rate]
        return max(4 * PIECE_BYTES, (min(rates) if rates else 1 << 30) // 4)

    def take(self, amount: int, paused: Callable[[str], None], slot: Slot | None = None) -> None:
        """Wait until so many bytes may travel. ``paused`` is told until when, over and over, outside the window, while
        the ``slot`` is another copy's.

        Several threads may ask; one waits behind the other. Raises ResilientVmError when the machine's rate is gone.
        """
        with self._taking:
            self._wait_for_window(paused, slot)
            if self._rate:
                now = time.monotonic()
                self._tokens, wait = spend(self._tokens, now - self._at, self._rate, amount)
                self._at = now
                self._pause(wait)
            if self._machine_rate:
                self._pause(self._take_shared(amount))

    def _pause(self, seconds: float) -> None:
        if seconds > 0:
            self._sleep(seconds)

    def _wait_for_window(self, paused: Callable[[str], None], slot: Slot | None) -> None:
        while self._window is not None:
            opens = self._window.opens(_clock.now(None))
            if opens is None:
                break
            if slot is not None:
                slot.free()
            paused(_clock.iso(opens))
            self._sleep(_LOOK_SECONDS)
        if slot is not None:
            slot.take()

    def _take_shared(self, amount: int) -> float:
        descriptor = _opened(self._bucket, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            state = _bucket(os.pread(descriptor, 4096, 0))
            now = time.monotonic()
            # A clock that went back is that of another boot: the folder does not outlive one, but be sure.
            elapsed = max(0.0, now - state.get("at", now))
            tokens, wait = spend(state.get("tokens", 0.0), elapsed, self._machine_rate, amount)
            text = json.dumps({"tokens": tokens, "at": now}).encode()
            os.pwrite(descriptor, text, 0)
            os.ftruncate(descriptor, len(text))
            return wait
        finally:
            os.close(descriptor)


def _opened(path: str, flags: int) -> int:
    """A file that the copies of all customers share."""
    try:
        return os.open(path, flags | os.O_NOFOLLOW)
    except OSError as error:
        raise ResilientVmError(
            f"{path}, by which the copies of this backup storage count each other and share its rate, can't be used "
            f"({error.strerror}); run the site playbook"
        ) from error


def _bucket(text: bytes) -> dict[str, float]:
    """What is in the shared bucket; a file that was cut off by a kill is an empty bucket."""
    try:
        state = json.loads(text or b"{}")
        return {name: float(state[name]) for name in ("tokens", "at") if name in state}
    except (ValueError, TypeError):
        return {}


class Granted(Protocol):
    """The wire to a sender that waits for credit."""

    data_bytes_read: int

    def grant(self, amount: int) -> bool: ...

    def fail(self, error: ResilientVmError) -> None: ...


class Credit:
    """Bytes the receiver has allowed the sender to write."""

    def __init__(self, waiting: Callable[[], None]) -> None:
        self._bytes = 0
        self._changed = threading.Condition()
        self._open = True
        self._waiting = waiting

    def grant(self, amount: int) -> None:
        with self._changed:
            self._bytes += amount
            self._changed.notify_all()

    def take(self, amount: int) -> None:
        """Wait until so many bytes are granted; ``waiting`` is called every second meanwhile."""
        while True:
            with self._changed:
                if self._bytes >= amount or not self._open:
                    self._bytes -= amount
                    return
                self._changed.wait(_LOOK_SECONDS)
            self._waiting()

    def close(self) -> None:
        """Let go whoever waits: the connection ended, and writing will say so."""
        with self._changed:
            self._open = False
            self._changed.notify_all()


def grant_all(wire: Granted, limits: Limits, paused: Callable[[str], None], slot: Slot | None = None) -> None:
    """Grant a sender its bytes as the limits allow, never far ahead of what has arrived, until the connection ends.

    Runs in a thread of its own; where the limits fail, so does the transfer, which would wait for ever else.
    """
    granted = 0
    while True:
        while granted - wire.data_bytes_read > limits.ahead_bytes:
            time.sleep(_GRANT_SECONDS)
        try:
            limits.take(PIECE_BYTES, paused, slot)
        except ResilientVmError as error:
            wire.fail(error)
            return
        if not wire.grant(PIECE_BYTES):
            return
        granted += PIECE_BYTES
