# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The forced commands that move data: this machine's end of a conversation with the backup storage's mover."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable

from ._errors import ResilientVmError, sentence
from ._frames import DONE
from ._lanes import Door, enter
from ._layout import Layout
from ._limits import Credit
from ._store import Store
from ._wire import LinkBrokenError, Wire

__all__ = ["serve"]

_HEARTBEAT_SECONDS = 5.0


def serve(layout: Layout, verb: str, door: str, installed: Mapping[str, Any], version: str) -> int:
    """Serve one connection, or bring it to the copy it belongs to: that whose ``door`` is named. The exit code.

    ``installed`` is what the site playbook wrote beside this program, ``version`` that of the program.
    """
    if door:
        enter(layout.name, door)
        return 0
    # Anything printed by accident must not get into the conversation.
    reader, writer = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    wire = Wire(reader, writer, "the backup storage")
    further = Door(layout.name, wire, sends=verb == "send")
    try:
        _VERBS[verb](_Conversation(layout, wire, further.name, installed, version))
    except LinkBrokenError as error:
        sys.stderr.write(f"resilient-vm: {error}\n")
        return 1
    except ResilientVmError as error:
        wire.abort(error)
        return 1
    except OSError as error:
        wire.abort(ResilientVmError(sentence(error, layout.directory)))
        return 1
    finally:
        further.close()
    return 0


@dataclass(frozen=True)
class _Conversation:
    layout: Layout
    wire: Wire
    door: str
    installed: Mapping[str, Any]
    version: str

    def begin(self, role: str) -> dict[str, Any]:
        """What the backup storage wishes."""
        hello = self.wire.handshake(role, self.layout.name, self.version, door=self.door)
        wishes: dict[str, Any] = hello["wishes"]
        os.nice(wishes["nice"])
        return wishes

    def receive(self, store: Store) -> None:
        from ._receiver import Receiver

        def alive(_facts: dict[str, Any]) -> None:
            """The other end keeps the progress file."""

        result = Receiver(self.wire, store, alive, full_copies=bool(self.installed.get("full_copies"))).run()
        self.wire.send_document(DONE, result)

    def refuse_when_active(self) -> None:
        """A host that may run the VM never lets its disks be written by a transfer."""
        from ._change import held

        active = held(self.layout).active
        if active == self.installed["host"]:
            raise ResilientVmError(
                f"{active} is the active host of {self.layout.name} and takes no image; run the daily playbook"
            )


# Each verb reads what its own end needs: the other machine waits for it.


def _send(told: _Conversation) -> None:
    from ._sender import Sender
    from ._snapshot_source import SnapshotSource

    heartbeat, wire = _Heartbeat(told.layout.heartbeat), told.wire
    if told.begin("sender")["limited"]:
        wire.credit = Credit(heartbeat)
        wire.gate = wire.credit.take
    source = SnapshotSource(told.layout)
    try:
        result = Sender(wire, source, heartbeat).run()
    except LinkBrokenError:
        raise
    except (ResilientVmError, OSError) as error:
        raise source.explained(error) from error
    if result.get("published"):
        heartbeat.last()


def _receive(told: _Conversation) -> None:
    told.begin("receiver")
    told.refuse_when_active()
    told.receive(Store(told.layout, "generations"))


def _restore(told: _Conversation) -> None:
    """Take an image that is to be restored here: on the active host, too, since no disk in use is written."""
    told.begin("receiver")
    from ._restore_store import RestoreStore, reading

    store = RestoreStore(told.layout)
    with reading(store.generations, store.base()):
        told.receive(store)


def _mend(told: _Conversation) -> None:
    """Give the backup storage right bytes for what is damaged there, then have some for what is damaged here."""
    told.begin("receiver")
    told.refuse_when_active()
    from ._remedy import answer, ask

    store = Store(told.layout, "generations")
    answer(told.wire, store)
    told.wire.send_document(DONE, {"repaired": ask(told.wire, store)})


_VERBS: dict[str, Callable[[_Conversation], None]] = {
    "send": _send,
    "receive": _receive,
    "restore": _restore,
    "mend": _mend,
}


class _Heartbeat:
    """Tells the watch unit that the snapshot is still being read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._next = 0.0

    def __call__(self, **_facts: Any) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _HEARTBEAT_SECONDS
        with open(self._path, "ab"):
            os.utime(self._path)

    def last(self) -> None:
        """Say that nobody needs the snapshot any more, should nobody be left to close it."""
        with open(self._path, "wb") as stream:
            stream.write(b"published\n")
