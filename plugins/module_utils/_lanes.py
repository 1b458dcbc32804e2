# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Further streams of a transfer, for links so long that one cannot fill them.

OpenSSH lets 2 MiB of one connection be under way, 42 MB a second where the way there and back takes 50 ms, whatever the
link could carry. The backup storage therefore opens further connections with the same key. Their processes on the
other machine hand their descriptors to the process of the transfer's first connection, through a door whose name that
one has told; data frames then travel over all of them.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ._errors import ResilientVmError
from ._wire import Wire

if TYPE_CHECKING:
    # Of its two ends only the backup storage's starts programs.
    from ._ssh import Ssh

__all__ = ["Door", "Streams", "enter", "held_up"]

_WINDOW_BYTES = 2 << 20
# So near one stream may bring 400 MB a second, and what encrypts it is the limit.
_NEAR_SECONDS = 0.005
# What a stream brings of its window's rate when that, and not link, limit or disk, holds it up. Measured: over 0.7.
_HELD_UP = 0.6
# 8 MiB under way fill 1 Gbit/s over 50 ms, and each stream costs two processes of ssh.
_AUTO_STREAMS = 4
_LOOK_SECONDS = 1.0
_TOKEN = re.compile(r"[0-9a-f]{32}")
_CREDENTIALS = struct.Struct("3i")


def held_up(moved_bytes: int, seconds: float, round_trip: float) -> bool:
    """Whether a stream that moved so much in so many seconds is as fast as its window lets it be."""
    return moved_bytes * round_trip >= _HELD_UP * _WINDOW_BYTES * seconds


class Streams:
    """The further streams of a transfer, at the backup storage's end.

    ``wish``: how many streams there shall be with the first one, opened at once; or ``auto``, opened when the first
    one is seen to be held up. ``start`` starts ssh with what is to be asked of the other machine besides the verb.
    """

    def __init__(self, wire: Wire, sends: bool, wish: str, start: Callable[[str], Ssh]) -> None:
        self._wire = wire
        self._sends = sends
        self._wish = wish
        self._start = start
        self._opened: list[Ssh] = []
        self._opening = threading.Lock()
        self._ended = threading.Event()
        # Why a stream could not be opened.
        self.reason = ""

    def begin(self, door: str) -> None:
        """Open them, or watch whether that is worth it. Before data flows."""
        if self._wish != "auto":
            self._open(door, int(self._wish))
            return
        round_trip = self._wire.round_trip()
        if round_trip > _NEAR_SECONDS:
            threading.Thread(target=self._watch, args=(door, round_trip), daemon=True).start()

    def _watch(self, door: str, round_trip: float) -> None:
        before, at = self._moved(), time.monotonic()
        while not self._ended.wait(_LOOK_SECONDS):
            moved, now = self._moved(), time.monotonic()
            if held_up(moved - before, now - at, round_trip):
                self._open(door, _AUTO_STREAMS)
                return
            before, at = moved, now

    def _moved(self) -> int:
        return self._wire.bytes_sent if self._sends else self._wire.data_bytes_read

    def _open(self, door: str, count: int) -> None:
        with self._opening:
            for _stream in range(count - 1):
                if self._ended.is_set():
                    return
                ssh = self._start(door)
                self._opened.append(ssh)
                threading.Thread(target=self._serve, args=(ssh,), daemon=True).start()

    def _serve(self, ssh: Ssh) -> None:
        try:
            self._wire.lane(ssh.reader, ssh.writer, self._sends)
        except ResilientVmError as error:
            # The transfer goes on with the others, and its result tells.
            with self._opening:
                if not self._ended.is_set():
                    self.reason = ssh.last_words() or str(error)

    def last_words(self) -> str:
        """What ssh said when a stream broke, if it did."""
        with self._opening:
            return next((said for said in [ssh.last_words() for ssh in self._opened] if said), "")

    def end(self) -> None:
        """Open no more, and end those there are."""
        self._ended.set()
        with self._opening:
            for ssh in self._opened:
                ssh.kill()
                ssh.close()
            self._opened.clear()


class Door:
    """Where further streams come in on the other machine. Has no file that a kill would leave behind: its name is in
    the kernel, for everybody to see, and only the account itself is let in."""

    def __init__(self, vm: str, wire: Wire, sends: bool) -> None:
        self._vm = vm
        self._wire = wire
        self._sends = sends
        self.name = os.urandom(16).hex()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(_address(self.name))
        self._listener.listen()
        threading.Thread(target=self._let_in, daemon=True).start()

    def _let_in(self) -> None:
        while True:
            try:
                guest, _from = self._listener.accept()
            except OSError:
                # The door was closed.
                return
            threading.Thread(target=self._serve, args=(guest,), daemon=True).start()

    def _serve(self, guest: socket.socket) -> None:
        # The guest lives, and sshd with it, as long as this connection.
        with guest:
            if _owner(guest) != os.geteuid():
                return
            name, descriptors, _flags, _from = socket.recv_fds(guest, 256, 2)
            if name.decode() != self._vm or len(descriptors) != 2:
                for descriptor in descriptors:
                    os.close(descriptor)
                return
            reader, writer = descriptors
            try:
                self._wire.lane(reader, writer, self._sends)
            except ResilientVmError:
                # It was not used, and the backup storage, which opened it, tells.
                return

    def close(self) -> None:
        # Only this wakes who waits at it.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def enter(vm: str, door: str) -> None:
    """Hand standard input and output to the transfer behind a door, and wait until it needs them no more.

    Raises ResilientVmError when there is none of this VM.
    """
    gone = ResilientVmError(f"the transfer of {vm} that this stream belongs to has ended")
    if not _TOKEN.fullmatch(door):
        raise gone
    with socket.socket(socket.AF_UNIX) as way:
        try:
            way.connect(_address(door))
        except OSError as error:
            raise gone from error
        if _owner(way) != os.geteuid():
            raise gone
        socket.send_fds(way, [vm.encode()], [0, 1])
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1):
            # Else the stream would not end when the transfer lets go of it.
            os.dup2(nothing, descriptor)
        way.recv(1)


def _address(name: str) -> bytes:
    return b"\0resilient-vm-" + name.encode()


def _owner(connection: socket.socket) -> int:
    """The user at the other end of a connection within this machine."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _process, user, _group = _CREDENTIALS.unpack(credentials)
    return int(user)
