# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One transfer as it runs in its unit on the backup storage: connect, move an image, tell how it went."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable

from ._compression import AVAILABLE
from ._errors import ResilientVmError, sentence
from ._files import read_json, write_json
from ._frames import DONE, KEEP
from ._hops import HOPS
from ._lanes import Streams
from ._layout import Layout
from ._limits import Limits, Slot, grant_all
from ._progress import Progress, transfer_file
from ._ssh import Ssh, ssh_command
from ._store import Store
from ._wire import LinkBrokenError, Wire

__all__ = ["transfer"]

_RETRY_SECONDS = (2.0, 5.0, 15.0)
_ROOM_BYTES = 1 << 20


def transfer(layout: Layout, hop: str, version: str, sleep: Callable[[float], None] = time.sleep) -> int:
    """Carry out the request that lies in the VM's transfer folder; leaves a result with the same token.

    A broken link is tried again a few times: what arrived serves, so little is sent twice.
    """
    request = read_json(transfer_file(layout, hop, "request"))
    if request is None:
        raise ResilientVmError(f"there is no transfer request for {layout.name}; run the daily playbook")
    progress = Progress(layout, hop, request)
    started = time.monotonic()
    failure: ResilientVmError | None = None
    for delay in (*_RETRY_SECONDS, None):
        try:
            _take_room(layout, hop)
            result = _once(layout, hop, request, version, progress)
            result.update(seconds=round(time.monotonic() - started, 3), token=request["token"], hop=hop)
            _leave_result(layout, hop, result)
            return 0
        except LinkBrokenError as error:
            failure = error
            if delay is not None:
                sleep(delay)
                continue
        except ResilientVmError as error:
            failure = error
        except OSError as error:
            failure = ResilientVmError(sentence(error, layout.directory, "the backup storage"))
        except Exception as error:  # noqa: BLE001 # pylint: disable=broad-exception-caught
            # Else nobody would be told but that it was killed.
            failure = ResilientVmError(
                f"the copy ended with an error of this collection ({type(error).__name__}: {error}); run again, and "
                f"report it if it stays; journalctl -u {layout.unit(hop)} says where"
            )
            traceback.print_exc()
        break
    failed = {"token": request["token"], "hop": hop, "image_id": request["image_id"], "published": False}
    _leave_result(layout, hop, {**failed, "error": str(failure)})
    return 1


def _room(layout: Layout, hop: str) -> str:
    return os.path.join(layout.transfer, f"{hop}.room")


def _take_room(layout: Layout, hop: str) -> None:
    """Keep room for the result: a disk that fills up must not keep anybody from saying so."""
    descriptor = os.open(_room(layout, hop), os.O_WRONLY | os.O_CREAT, 0o640)
    try:
        os.posix_fallocate(descriptor, 0, _ROOM_BYTES)
    finally:
        os.close(descriptor)


def _leave_result(layout: Layout, hop: str, result: dict[str, Any]) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_room(layout, hop))
    write_json(transfer_file(layout, hop, "result"), result)


def _once(layout: Layout, hop: str, request: dict[str, Any], version: str, progress: Progress) -> dict[str, Any]:
    store = Store(layout)
    if hop == "fetch" and store.read(request["image_id"]).complete:
        # Published by an earlier run of this unit that was killed before it could say so.
        return {"image_id": request["image_id"], "published": True, "already": True, "disks": []}
    if hop == "mend":
        return _mended(layout, store, request, version)
    limits = Limits.of(request["limits"], layout.shared)
    with _connected(layout, request, hop) as (wire, streams):
        move = _Move(layout, store, request, wire, streams, version, progress, limits)
        try:
            result = move.receive() if hop == "fetch" else move.send()
        except ResilientVmError as error:
            if not isinstance(error, LinkBrokenError):
                wire.abort(error)
            raise
        result["bytes_sent"] = wire.bytes_received + wire.bytes_sent
        result.update(limits=request["limits"], streams=wire.streams, streams_reason=streams.reason)
        return result


def _mended(layout: Layout, store: Store, request: dict[str, Any], version: str) -> dict[str, Any]:
    """Damage here is mended from what the other machine has, then the other way round."""
    # Which no copy needs.
    from ._remedy import answer, ask, repaired_there

    with _connected(layout, request, "mend") as (wire, _streams):
        try:
            wire.handshake("sender", layout.name, version, {"nice": request["limits"]["nice"]})
            repaired = {"images": ask(wire, store)}
            answer(wire, store)
            return {"image_id": "", "repaired": {**repaired, "generations": repaired_there(wire)}}
        except ResilientVmError as error:
            if not isinstance(error, LinkBrokenError):
                wire.abort(error)
            raise


@dataclass(frozen=True)
class _Move:
    """One image on its way over one connection, and over further streams where they help."""

    layout: Layout
    store: Store
    request: dict[str, Any]
    wire: Wire
    streams: Streams
    version: str
    progress: Progress
    limits: Limits

    def receive(self) -> dict[str, Any]:
        """As the receiver, which grants the sender its bytes."""
        # Read while ssh connects, here as below; and of either end only its own half.
        from ._receiver import Receiver

        other = self._greet("receiver", limited=self.limits.any)

        def alive(facts: dict[str, Any]) -> None:
            self.progress(**facts, bytes_sent=self.wire.bytes_received)

        def wait(**facts: Any) -> None:
            # The snapshot would expire if nobody seemed to want it.
            self.wire.send(KEEP)
            self.progress(**facts)

        with self._slot(wait) as slot:
            if self.limits.any:
                paused = partial(_paused, self.progress)
                threading.Thread(target=grant_all, args=(self.wire, self.limits, paused, slot), daemon=True).start()
            receiver = Receiver(
                self.wire,
                self.store,
                alive,
                self.request["image_id"],
                self.request["reread_share"],
                self.request["full_copies"],
                self.request["peer"]["name"],
            )
            result = receiver.run()
            self.wire.send_document(DONE, result)
        return {**result, "compression": self._compression(other)}

    def send(self) -> dict[str, Any]:
        """As the sender, which waits before it writes; the image is pinned meanwhile."""
        from ._sender import Sender
        from ._stored_source import StoredSource

        image_id = self.request["image_id"]
        source = StoredSource(self.store, image_id)
        # What a killed transfer left; there is but one unit for a hop.
        self.store.drop_pins(self.request["hop"])
        pin = self.store.pin_reading(image_id, self.request["hop"])

        def alive(**facts: Any) -> None:
            if self.progress(**facts, bytes_sent=self.wire.bytes_sent):
                self.store.pin_reading(image_id, self.request["hop"])

        try:
            with self._slot(alive) as slot:
                other = self._greet("sender", limited=False)
                if self.limits.any:
                    self.wire.gate = partial(self.limits.take, paused=partial(_paused, alive), slot=slot)
                result = Sender(self.wire, source, alive).run()
        finally:
            os.unlink(pin)
        return {**result, "compression": self._compression(other)}

    def _greet(self, role: str, limited: bool) -> dict[str, Any]:
        wishes = {
            "compression": self.request["compression"],
            "limited": limited,
            "nice": self.request["limits"]["nice"],
        }
        other = self.wire.handshake(role, self.layout.name, self.version, wishes)
        self.streams.begin(other["door"])
        return other

    def _slot(self, tell: Callable[..., object]) -> Slot:
        waiting = partial(tell, waiting="for another transfer on this machine to end")
        return Slot(self.layout.shared, self.request["limits"]["transfers"], waiting)

    def _compression(self, other: dict[str, Any]) -> str:
        """What was done about compression, in a few words."""
        wish = self.request["compression"]
        if wish == "off":
            return "off"
        ends = (("the backup storage", AVAILABLE), (self.request["peer"]["name"], other.get("zstd")))
        lacking = [name for name, there in ends if not there]
        if lacking:
            return f"off: python3-zstandard is not on {' and not on '.join(lacking)}"
        return f"zstd {wish}"


def _paused(tell: Callable[..., object], until: str) -> None:
    tell(waiting=f"for its window, which opens at {until}")


@contextlib.contextmanager
def _connected(layout: Layout, request: dict[str, Any], hop: str) -> Iterator[tuple[Wire, Streams]]:
    """A wire to the mover at the peer. When the link breaks, ssh's own last words are in the message."""
    peer, verb = request["peer"], HOPS[hop]

    def start(*door: str) -> Ssh:
        return Ssh(ssh_command(layout, peer["address"], peer["port"], " ".join((verb, *door))))

    ssh = start()
    wire = Wire(ssh.reader, ssh.writer, peer["name"])
    streams = Streams(wire, hop != "fetch", request["streams"], start)
    try:
        yield wire, streams
    except LinkBrokenError as error:
        said = ssh.last_words() or streams.last_words()
        if said:
            raise LinkBrokenError(f"{error}: {said}") from error
        raise
    finally:
        # Closing is saying goodbye: the other end's mover ends at the end of its input.
        wire.close()
        ssh.close()
        streams.end()
