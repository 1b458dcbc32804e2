# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the NBD server: what a client reads is the disk, whatever it asks in whatever dialect."""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._nbd_server import Hole, serve

SIZE = 1 << 16
CONTENT = bytes(8192) + os.urandom(20000) + bytes(SIZE - 28192)


class Source:
    size_bytes = SIZE

    def pieces(self, offset: int, length: int) -> Iterator[Hole | memoryview]:
        if offset >= SIZE - 512:
            raise OSError(errno.EIO, "rotten")
        while length:
            count = min(length, 4096 - offset % 4096)
            data = CONTENT[offset : offset + count]
            yield memoryview(data) if any(data) else Hole(count)
            offset, length = offset + count, length - count


class Client:
    """As much of a client as asks for everything the server knows."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader = reader
        self._writer = writer
        assert self.take(16) == b"NBDMAGICIHAVEOPT"
        self.take(2)
        self.say(struct.pack(">I", 3))

    def take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = os.read(self._reader, count - len(data))
            assert more
            data += more
        return data

    def say(self, data: bytes) -> None:
        os.write(self._writer, data)

    def option(self, number: int, data: bytes = b"") -> list[tuple[int, bytes]]:
        self.say(b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data)
        answers = []
        while not answers or answers[-1][0] == 3:
            magic, option, kind, length = struct.unpack(">QIII", self.take(20))
            assert (magic, option) == (0x3E889045565A9, number)
            answers.append((kind, self.take(length)))
        return answers

    def go(self) -> int:
        answers = self.option(7, struct.pack(">I", 3) + b"vda" + struct.pack(">H", 0))
        _kind, size, flags = struct.unpack(">HQH", answers[0][1])
        # It has flags, and is read-only.
        assert flags == 3
        return int(size)

    def request(self, command: int, offset: int, length: int, data: bytes = b"") -> None:
        self.say(struct.pack(">IHHQQI", 0x25609513, 0, command, 7, offset, length) + data)

    def simple(self, length: int) -> tuple[int, bytes]:
        magic, error, cookie = struct.unpack(">IIQ", self.take(16))
        assert (magic, cookie) == (0x67446698, 7)
        return error, self.take(0 if error else length)

    def structured(self, offset: int, length: int) -> tuple[int, bytes, int]:
        """(error, what was read, how many bytes that took)."""
        read, cost, done = bytearray(length), 0, False
        while not done:
            magic, flags, kind, cookie, count = struct.unpack(">IHHQI", self.take(20))
            assert (magic, cookie) == (0x668E33EF, 7)
            payload, done, cost = self.take(count), bool(flags & 1), cost + 20 + count
            if kind == (1 << 15) + 1:
                return struct.unpack(">IH", payload)[0], b"", cost
            at = struct.unpack(">Q", payload[:8])[0] - offset
            if kind == 1:
                read[at : at + count - 8] = payload[8:]
        return 0, bytes(read), cost


@contextmanager
def connected() -> Iterator[Client]:
    down, up = os.pipe(), os.pipe()
    thread = threading.Thread(target=serve, args=(up[0], down[1], Source()))
    thread.start()
    try:
        yield Client(down[0], up[1])
    finally:
        os.close(up[1])
        thread.join(timeout=10)
        assert not thread.is_alive()
        for descriptor in (*down, up[0]):
            os.close(descriptor)


@given(st.lists(st.tuples(st.integers(0, SIZE - 1000), st.integers(1, 400)), max_size=20), st.booleans())
def test_what_is_read_is_the_disk(places: list[tuple[int, int]], structured: bool) -> None:
    with connected() as client:
        if structured:
            assert client.option(8) == [(1, b"")]
        assert client.go() == SIZE
        for offset, length in places:
            client.request(0, offset, length)
            answer = client.structured(offset, length)[:2] if structured else client.simple(length)
            assert answer == (0, CONTENT[offset : offset + length])
        client.request(2, 0, 0)


def test_zeros_cost_next_to_nothing() -> None:
    with connected() as client:
        client.option(8)
        client.go()
        client.request(0, 32768, 28672)
        error, read, cost = client.structured(32768, 28672)
    assert (error, read) == (0, bytes(28672)) and cost < 300


@pytest.mark.parametrize("structured", [True, False])
def test_it_refuses_and_goes_on(structured: bool) -> None:
    """Writes are refused with all of their data; so is what lies outside, and what can't be read."""
    with connected() as client:
        # TLS, and a list of exports, are nothing it has.
        assert client.option(5)[0][0] == client.option(3)[0][0] == (1 << 31) + 1
        if structured:
            client.option(8)
        client.go()
        for command, offset, length, data, wanted in (
            (1, 0, 20000, bytes(20000), errno.EPERM),
            (4, 0, 512, b"", errno.EINVAL),
            (0, SIZE, 512, b"", errno.EINVAL),
            (0, 0, 1 << 30, b"", errno.EINVAL),
            (0, SIZE - 512, 512, b"", errno.EIO),
        ):
            client.request(command, offset, length, data)
            assert (client.structured(offset, length) if structured else client.simple(length))[0] == wanted
        client.request(0, 9000, 100)
        answer = client.structured(9000, 100)[:2] if structured else client.simple(100)
        assert answer == (0, CONTENT[9000:9100])


def test_a_client_of_the_old_days_names_its_export_and_begins() -> None:
    with connected() as client:
        client.say(b"IHAVEOPT" + struct.pack(">II", 1, 0))
        assert struct.unpack(">QH", client.take(10)) == (SIZE, 3)
        client.request(0, 8192, 512)
        assert client.simple(512) == (0, CONTENT[8192:8704])


def test_who_speaks_something_else_is_left_alone() -> None:
    with connected() as client:
        client.say(b"GET / HTTP/1.0\r\n\r\n")
