# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bounded queue between threads that either side can close."""

from __future__ import annotations

import threading
from collections import deque
from typing import Callable, Generic, TypeVar

__all__ = ["Mailbox"]

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """Items in order, bounded by the sum of their sizes in bytes. ``queue.Queue`` can neither be bounded by bytes nor
    closed (before Python 3.13), and a thread that waits on a full one would outlive the transfer."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._busy: set[int] = set()
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: Item, size_bytes: int) -> bool:
        """Hand an item over; waits while as much as allowed is waiting. False: the mailbox is closed."""
        with self._changed:
            while self._bytes >= self._limit and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            self._items.append((item, size_bytes))
            self._bytes += size_bytes
            self._changed.notify_all()
            return True

    def get(self, wanted: Callable[[Item], bool] | None = None) -> Item | None:
        """The next item (that is ``wanted``), or None when the mailbox is closed. Asking for it says that the one
        before, of the same thread, is done with."""
        me = threading.get_ident()
        with self._changed:
            self._busy.discard(me)
            self._changed.notify_all()
            while not self._closed:
                for place, (item, size_bytes) in enumerate(self._items):
                    if wanted is None or wanted(item):
                        del self._items[place]
                        self._bytes -= size_bytes
                        self._busy.add(me)
                        self._changed.notify_all()
                        return item
                self._changed.wait()
            return None

    def settled(self) -> bool:
        """Wait until every item is done with. False: the mailbox was closed before."""
        with self._changed:
            while (self._items or self._busy) and not self._closed:
                self._changed.wait()
            return not self._closed

    def close(self) -> None:
        """Let everybody go who waits here; what was not fetched is lost."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
