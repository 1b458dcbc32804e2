# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image that the backup storage lends to a machine which runs before its data is there: the door on the host.

The forced command ``lend`` of the data-plane account: it makes a socket of one channel, on which QEMU finds what the
backup storage serves at the other end of the ssh. A later one takes its place, so a link that died is no obstacle.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import shutil
import socket
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from ._errors import ResilientVmError
from ._files import locked, read_json, write_json
from ._layout import Layout

__all__ = [
    "DEFINITION",
    "OVER",
    "READY",
    "begun",
    "borrow",
    "check_names",
    "folder",
    "making",
    "prepare",
    "read",
    "settle",
    "socket_of",
]

# The channel over which the files of the machine's definition come; no disk has a name like it.
DEFINITION = "definition"
READY, OVER = b"ready\n", b"over\n"
_LOOK_SECONDS = 1.0
_CHUNK = 256 << 10
# struct sockaddr_un
_LONGEST = 107


def read(layout: Layout) -> dict[str, Any] | None:
    """What was lent to this host last: ``image``, ``name`` of the machine, ``channels``, whether it is ``over``."""
    document: dict[str, Any] | None = read_json(layout.loan)
    return document


def begun(layout: Layout) -> dict[str, Any] | None:
    """The same, for a machine that is there, or was about to be made; None when all is over."""
    loan = read(layout)
    return loan if loan is not None and not loan["over"] else None


@contextlib.contextmanager
def making(layout: Layout) -> Iterator[None]:
    """Alone on this host with a machine of that VM that is made at once. Raises ResilientVmError for the second."""
    with locked(layout.loan_lock, f"a restore of {layout.name} at once"):
        yield


def folder(layout: Layout) -> str:
    """Where the channels' sockets are: apart from what an open snapshot of the same VM takes away with it."""
    return os.path.join(layout.runtime, ".lent", f"{layout.customer}.{layout.vm}")


def socket_of(layout: Layout, channel: str) -> str:
    return os.path.join(folder(layout), f"{channel}.sock")


def check_names(layout: Layout, channels: Iterable[str]) -> None:
    longest = max((socket_of(layout, channel) for channel in channels), key=len)
    if len(longest) > _LONGEST:
        raise ResilientVmError(
            f"{longest} is too long a name for a socket, so {layout.name} can't be restored at once; restore it with "
            "resilient_vm_restore_mode=copy"
        )


def prepare(layout: Layout, loan: dict[str, Any], qemu_user: int) -> None:
    """Let the account make sockets that QEMU can reach, and nobody else. Under the lock of ``making``."""
    place, account = folder(layout), pwd.getpwnam(layout.account)
    for path in (layout.runtime, os.path.dirname(place)):
        if not os.path.isdir(path):
            # Another VM's restore may make it as well.
            os.makedirs(path, exist_ok=True)
            os.chmod(path, 0o711)
    if not os.path.isdir(place):
        os.mkdir(place, 0o700)
        os.chown(place, qemu_user, account.pw_gid)
        os.chmod(place, 0o730)
    if read(layout) != loan:
        write_json(layout.loan, loan, 0o640, (0, account.pw_gid))


def settle(layout: Layout, loan: dict[str, Any]) -> None:
    """Nothing is borrowed any more: whoever lends hears it, and the sockets go."""
    owner = os.stat(layout.loan)
    write_json(layout.loan, {**loan, "over": True}, 0o640, (owner.st_uid, owner.st_gid))
    shutil.rmtree(folder(layout), ignore_errors=True)


# the forced command


def borrow(layout: Layout, wanted: str) -> int:
    """Serve one channel, ``<channel> <image>``, until either end is gone; what is wrong goes to stderr."""
    channel, _space, image = wanted.partition(" ")
    loan = begun(layout)
    # A lender that runs since before an update names no image.
    if loan is None or (image or loan["image"]) != loan["image"]:
        os.write(1, OVER)
        return 0
    if channel not in loan["channels"]:
        raise ResilientVmError(f"this host has borrowed no {channel or 'channel'} of {layout.name}")
    place = socket_of(layout, channel)
    if not os.path.isdir(os.path.dirname(place)):
        raise ResilientVmError(f"{layout.name} is not prepared since this host was started; run the restore again")
    with socket.socket(socket.AF_UNIX) as listener:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place)
        listener.bind(place)
        # The folder lets nobody but QEMU and this account through.
        os.chmod(place, 0o666)
        listener.listen(1)
        mine = _Mine(place)
        try:
            os.write(1, READY)
            client = _accepted(listener, mine)
            listener.close()
            if client is not None:
                _relay(client, mine)
        finally:
            mine.leave()
    return 0


class _Mine:
    """A socket's name, for as long as it is the one this process made."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._made = os.stat(path).st_ino

    def __bool__(self) -> bool:
        try:
            return os.stat(self._path).st_ino == self._made
        except OSError:
            return False

    def leave(self) -> None:
        if self:
            with contextlib.suppress(OSError):
                os.unlink(self._path)


def _accepted(listener: socket.socket, mine: _Mine) -> socket.socket | None:
    """The first to connect; None when another has taken the place, or ssh's other end is gone."""
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    # Only whether it hung up: what it has sent is for the client.
    poller.register(0, 0)
    while mine:
        for descriptor, _event in poller.poll(_LOOK_SECONDS * 1000):
            if descriptor == 0:
                return None
            return listener.accept()[0]
    return None


def _relay(client: socket.socket, mine: _Mine) -> None:
    """Both ways until one end is gone. The process ends then, and its threads with it."""
    over = threading.Event()

    def carry(source: int, target: int) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(source, _CHUNK):
                view = memoryview(data)
                while view:
                    view = view[os.write(target, view) :]
        over.set()

    for pair in ((0, client.fileno()), (client.fileno(), 1)):
        threading.Thread(target=carry, args=pair, daemon=True).start()
    while not over.wait(_LOOK_SECONDS):
        if not mine:
            return
