# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data over several streams: every block once, none taken for arrived that is not, and bounded memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from unit.engine_fakes import IDS, Disk, Snapshot, blocks, check_image, join, make_layout, transfer

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _frames, _lanes, _wire
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._digests import BLOCK_SIZE, DIGEST_SIZE
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._lanes import Door, Streams, held_up
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._wire import LinkBrokenError, Wire

MIB = 1 << 20
DIGESTS = bytes(16 * DIGEST_SIZE)


@pytest.fixture
def ends() -> Iterator[tuple[Wire, Wire]]:
    down, up = os.pipe(), os.pipe()
    receiver, sender = Wire(down[0], up[1], "sender"), Wire(up[0], down[1], "receiver")
    yield sender, receiver
    receiver.close()
    sender.close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(make_layout(tmp_path))


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def only_on_lanes(wire: Wire) -> None:
    """Have a sender's first stream leave all data to the others."""
    get = wire._outbox.get
    wire._outbox.get = lambda wanted=None: get(wanted or (lambda frame: frame.type != _frames.DATA))  # type: ignore[method-assign]


def test_every_stream_takes_a_share_and_no_more_waits_than_fits(ends: tuple[Wire, Wire]) -> None:
    sender, receiver = ends
    sent = 0
    for _stream in range(3):
        join(sender, receiver)

    def send() -> None:
        nonlocal sent
        for number in range(100):
            sender.send_data(number, 16, DIGESTS, bytes(MIB))
            sent += 1

    threading.Thread(target=send, daemon=True).start()
    # Nobody receives yet: streams fill one after the other.
    wait_until(lambda: sender.streams == receiver.streams == 4)
    time.sleep(0.2)
    # Five wait on either side, and each stream has one being written, one in the pipe and one being read.
    assert sent <= 5 + 5 + 4 * 3
    assert sorted(receiver.receive().block for _each in range(100)) == list(range(100))
    # A stream counts what it sent after it was written, and may be read by then.
    wait_until(lambda: receiver.bytes_received == sender.bytes_sent)
    assert receiver.data_bytes_read == sender.bytes_sent


def test_an_image_over_several_streams_is_right(store: Store) -> None:
    content = blocks(400)
    result = transfer(
        Snapshot(IDS[0], [Disk("vda", content), Disk("vdb", content[: 70 * BLOCK_SIZE - 5])], None),
        store,
        further=lambda *wires: [join(*wires) for _stream in range(3)],
    )
    assert result["published"]
    check_image(store, IDS[0], content)
    check_image(store, IDS[0], content[: 70 * BLOCK_SIZE - 5], "vdb")


def test_a_disk_is_not_complete_before_what_other_streams_carry_has_come(store: Store) -> None:
    """The word that a disk is at its end overtakes all of its data."""
    content = blocks(40)
    told = threading.Event()

    def hold(source: int, target: int) -> None:
        knock = os.read(source, _frames.HEADER.size)
        os.write(target, knock)
        held = bytearray()
        while not told.is_set():
            if os.get_blocking(source):
                os.set_blocking(source, False)
            try:
                held += os.read(source, MIB)
            except BlockingIOError:
                time.sleep(0.001)
        os.set_blocking(source, True)
        carry(held, source, target)

    def further(sender: Wire, receiver: Wire) -> None:
        only_on_lanes(sender)
        join(sender, receiver, hold)
        send = sender.send_document

        def tell(kind: int, document: dict[str, Any]) -> None:
            send(kind, document)
            if kind == _frames.DISK_END:
                assert document["data_frames"] > 0
                told.set()

        sender.send_document = tell  # type: ignore[method-assign]

    assert transfer(Snapshot(IDS[0], [Disk("vda", content)], None), store, further=further)["published"]
    check_image(store, IDS[0], content)


def carry(begun: bytes | bytearray, source: int, target: int) -> None:
    """Carry what was read already and then what comes, to the end."""
    view = memoryview(bytes(begun))
    while view:
        view = view[os.write(target, view) :]
    while piece := os.read(source, 65536):
        view = memoryview(piece)
        while view:
            view = view[os.write(target, view) :]
    os.close(source)
    os.close(target)


def beside(lost: Callable[[int, int, threading.Event, Wire], None]) -> Callable[[Wire, Wire], None]:
    """Two further streams for all data: what one does is given, and the other carries on once that one has some."""

    def further(sender: Wire, receiver: Wire) -> None:
        used = threading.Event()

        def wait(source: int, target: int) -> None:
            assert used.wait(30)
            with contextlib.suppress(BrokenPipeError):
                # The receiver goes away when the other stream breaks.
                carry(b"", source, target)

        only_on_lanes(sender)
        join(sender, receiver, wait)
        join(sender, receiver, lambda source, target: lost(source, target, used, receiver))

    return further


def test_a_stream_that_dies_in_the_middle_breaks_the_transfer_and_the_next_goes_on(store: Store) -> None:
    content = blocks(400, empty=0)
    snapshot = Snapshot(IDS[0], [Disk("vda", content)], None)

    def die(source: int, target: int, used: threading.Event, receiver: Wire) -> None:
        carried = 0
        while carried < 3 * MIB // 2:
            carried += os.write(target, os.read(source, 65536))
        used.set()
        # Else it might end before the receiver took anything from any stream.
        wait_until(lambda: receiver.bytes_received > MIB)
        os.close(source)
        os.close(target)

    with pytest.raises(LinkBrokenError, match="the connection to sender broke"):
        transfer(snapshot, store, further=beside(die))
    assert not store.read(IDS[0]).complete
    result = transfer(snapshot, store, further=join)
    assert 0 < result["disks"][0]["resumed_bytes"] < len(content)
    check_image(store, IDS[0], content)


def test_what_a_stream_lost_is_never_taken_for_arrived(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wire, "_ALONE_SECONDS", 0.2)
    content = blocks(400, empty=0)
    snapshot = Snapshot(IDS[0], [Disk("vda", content)], None)

    def swallow(source: int, target: int, used: threading.Event, _receiver: Wire) -> None:
        """Ends in the middle, and its sender never hears of it."""
        read = os.write(target, os.read(source, 65536))
        while read <= _frames.HEADER.size:
            read += os.write(target, os.read(source, 65536))
        used.set()
        os.close(target)
        while os.read(source, MIB):
            continue

    with pytest.raises(LinkBrokenError, match="the connection to sender broke"):
        transfer(snapshot, store, further=beside(swallow))
    assert not store.read(IDS[0]).complete


def test_the_reason_of_an_end_that_stops_is_heard_though_its_other_streams_end_first(ends: tuple[Wire, Wire]) -> None:
    sender, receiver = ends

    def end_early(source: int, target: int) -> None:
        os.write(target, os.read(source, _frames.HEADER.size))
        os.close(target)

    threads = join(sender, receiver, end_early)
    threads[-1].join(30)
    sender.abort(ResilientVmError("the VM stopped"))
    with pytest.raises(ResilientVmError, match="the VM stopped"):
        receiver.receive()


@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_a_stream_that_ends_before_its_use_changes_nothing(ends: tuple[Wire, Wire], side: str) -> None:
    sender, receiver = ends
    wire = {"sender": sender, "receiver": receiver}[side]
    down, up = os.pipe(), os.pipe()
    os.close(down[1])
    with pytest.raises(LinkBrokenError):
        wire.lane(down[0], up[1], sends=side == "sender")
    sender.send_data(1, 16, DIGESTS, bytes(MIB))
    assert receiver.receive().block == 1
    assert sender.streams == receiver.streams == 1


@pytest.mark.parametrize("kind", [_frames.ZEROS, _frames.DISK_END, _frames.LANE])
def test_only_data_comes_over_a_further_stream(ends: tuple[Wire, Wire], kind: int) -> None:
    _sender, receiver = ends
    down, up = os.pipe(), os.pipe()
    threading.Thread(target=receiver.lane, args=(down[0], up[1], False), daemon=True).start()
    os.write(down[1], _frames.KNOCK + _frames.HEADER.pack(kind, False, 1, 0, 0))
    with pytest.raises(ResilientVmError, match="does not speak this mover's protocol"):
        receiver.receive()
    os.close(down[1])
    os.close(up[0])


# the door

ENTER = "import sys; from {package}._lanes import enter; enter(*sys.argv[1:])"


def guest(vm: str, door: str) -> subprocess.Popen[bytes]:
    """A process that serves a further connection, as sshd would start it."""
    package = _lanes.__name__.rpartition(".")[0]
    return subprocess.Popen(
        [sys.executable, "-c", ENTER.format(package=package), vm, door],
        env={**os.environ, "PYTHONPATH": str(Path(_lanes.__file__).parents[5])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("sends", [True, False])
def test_a_process_hands_its_stream_to_the_transfer_and_ends_with_it(ends: tuple[Wire, Wire], sends: bool) -> None:
    sender, receiver = ends
    far, near = (sender, receiver) if sends else (receiver, sender)
    door = Door("acme/erp", far, sends)
    only_on_lanes(sender)
    with guest("acme/erp", door.name) as process:
        assert process.stdin is not None and process.stdout is not None
        pipes = (os.dup(process.stdout.fileno()), os.dup(process.stdin.fileno()))
        for pipe in (process.stdin, process.stdout):
            pipe.close()
        threading.Thread(target=near.lane, args=(*pipes, not sends), daemon=True).start()
        for number in range(20):
            sender.send_data(number, 16, DIGESTS, bytes(MIB))
            assert receiver.receive().block == number
        assert near.streams == far.streams == 2
        sender.close()
        assert process.wait(30) == 0
    door.close()


def test_a_door_is_of_one_vm_and_closes(ends: tuple[Wire, Wire]) -> None:
    sender, _receiver = ends
    door = Door("acme/erp", sender, sends=True)
    with guest("acme/web", door.name) as process:
        # Not let in: what it handed over was closed, and it ends.
        assert process.wait(30) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b""
    door.close()
    for name in (door.name, "../etc", ""):
        with guest("acme/erp", name) as process:
            assert process.wait(30) == 1
            assert process.stderr is not None
            assert b"the transfer of acme/erp that this stream belongs to has ended" in process.stderr.read()
    assert sender.streams == 1


# when it is worth it


@pytest.mark.parametrize(
    ("megabytes_a_second", "round_trip_ms", "held"),
    [
        (34, 50, True),
        (70, 20, True),
        (12.5, 20, False),
        (12.5, 50, False),
        (110, 10, False),
        (1, 300, False),
        (5, 300, True),
    ],
)
def test_a_stream_is_held_up_when_it_brings_what_its_window_allows(
    megabytes_a_second: float, round_trip_ms: float, held: bool
) -> None:
    assert held_up(int(megabytes_a_second * 3e6), 3, round_trip_ms / 1000) is held


def opened(monkeypatch: pytest.MonkeyPatch, wish: str, round_trip: float, rate: float) -> int:
    """How many streams are opened besides the first, after some looks."""
    monkeypatch.setattr(_lanes, "_LOOK_SECONDS", 0.01)
    looks = 0

    class Link:
        @property
        def data_bytes_read(self) -> int:
            nonlocal looks
            looks += 1
            return int(time.monotonic() * rate)

        def round_trip(self) -> float:
            return round_trip

        def lane(self, *_words: Any, **_more: Any) -> None:
            """Serves it to its end at once."""

    started: list[str] = []

    def start(door: str) -> Any:
        started.append(door)
        return SimpleNamespace(reader=0, writer=1, kill=lambda: None, close=lambda: None)

    streams = Streams(Link(), False, wish, start)  # type: ignore[arg-type]
    streams.begin("door")
    if wish == "auto" and round_trip > 0.005:
        wait_until(lambda: looks >= 4 or len(started) == 3)
    streams.end()
    assert set(started) <= {"door"}
    assert not looks or wish == "auto"
    return len(started)


@pytest.mark.parametrize(
    ("wish", "round_trip", "rate", "count"),
    [
        ("auto", 0.05, 40e6, 3),
        ("auto", 0.05, 10e6, 0),
        ("auto", 0.001, 500e6, 0),
        ("1", 0.05, 40e6, 0),
        ("6", 0.001, 0, 5),
    ],
)
def test_streams_are_opened_where_they_help_or_as_many_as_are_wished(
    monkeypatch: pytest.MonkeyPatch, wish: str, round_trip: float, rate: float, count: int
) -> None:
    assert opened(monkeypatch, wish, round_trip, rate) == count


def test_the_way_there_and_back_is_measured_and_an_end_is_no_obstacle(ends: tuple[Wire, Wire]) -> None:
    sender, receiver = ends
    assert 0 < receiver.round_trip() < 30
    sender.close()
    assert receiver.round_trip() > 0
    with pytest.raises(LinkBrokenError):
        receiver.receive()
