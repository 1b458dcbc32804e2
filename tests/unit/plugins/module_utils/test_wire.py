# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two ends of a conversation over real pipes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _frames, _wire
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._compression import Compressor
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._digests import BLOCK_SIZE, DIGEST_SIZE
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._limits import Credit

MIB = 1 << 20


@pytest.fixture
def ends() -> Iterator[tuple[_wire.Wire, _wire.Wire]]:
    down, up = os.pipe(), os.pipe()
    here, there = _wire.Wire(down[0], up[1], "there"), _wire.Wire(up[0], down[1], "here")
    yield here, there
    here.close()
    there.close()


def test_frames_arrive_in_order_with_what_they_carry(ends: tuple[_wire.Wire, _wire.Wire]) -> None:
    here, there = ends
    here.send(_frames.ZEROS, block=7, count=3)
    here.send_data(1 << 40, 2, b"d" * 2 * DIGEST_SIZE, b"x" * (BLOCK_SIZE + 5))
    here.send_document(_frames.END, {"a": 1})
    first, second, third = (there.receive() for _each in range(3))
    assert (first.type, first.block, first.count) == (_frames.ZEROS, 7, 3)
    assert (second.block, bytes(second.payload)) == (1 << 40, b"d" * 2 * DIGEST_SIZE)
    assert bytes(second.data) == b"x" * (BLOCK_SIZE + 5)
    assert third.document() == {"a": 1}
    assert there.bytes_received == here.bytes_sent


def test_packed_blocks_come_out_as_they_went_in(ends: tuple[_wire.Wire, _wire.Wire]) -> None:
    here, there = ends
    here.compressor = Compressor(3)
    data = b"all work and no play " * 5000
    here.send_data(0, 2, bytes(2 * DIGEST_SIZE), data)
    frame = there.receive()
    assert bytes(frame.data) == data
    assert frame.wire_bytes < 4096


def test_both_ends_may_send_much_before_they_listen(ends: tuple[_wire.Wire, _wire.Wire]) -> None:
    here, there = ends
    block = os.urandom(BLOCK_SIZE * 16)

    def send(wire: _wire.Wire) -> None:
        for number in range(40):
            wire.send_data(number, 16, bytes(16 * DIGEST_SIZE), block)

    threads = [threading.Thread(target=send, args=(wire,), daemon=True) for wire in ends]
    for thread in threads:
        thread.start()
    for wire in (there, here):
        assert [wire.receive().block for _each in range(40)] == list(range(40))
    for thread in threads:
        thread.join(10)


def test_who_sends_to_an_end_that_gave_up_hears_why(ends: tuple[_wire.Wire, _wire.Wire]) -> None:
    here, there = ends

    def give_up() -> None:
        there.receive()
        there.abort(ResilientVmError("no space left on b", host="b"))
        there.close()

    def send_on() -> None:
        for number in range(1000):
            here.send_data(number, 16, bytes(16 * DIGEST_SIZE), bytes(MIB))

    threading.Thread(target=give_up, daemon=True).start()
    with pytest.raises(ResilientVmError, match="no space left on b") as caught:
        send_on()
    assert caught.value.facts == {"host": "b"}


def test_an_end_that_goes_away_without_a_word_is_a_broken_link(ends: tuple[_wire.Wire, _wire.Wire]) -> None:
    here, there = ends
    there.close()
    with pytest.raises(_wire.LinkBrokenError, match="connection to there broke"):
        here.receive()


def test_what_is_no_frame_is_a_stranger() -> None:
    down, up = os.pipe(), os.pipe()
    wire = _wire.Wire(down[0], up[1], "b")
    os.write(down[1], b"Welcome to Debian GNU/Linux!")
    with pytest.raises(ResilientVmError, match="does not speak this mover's protocol"):
        wire.receive()
    wire.close()
    os.close(down[1])
    os.close(up[0])


@pytest.mark.parametrize(
    ("mine", "theirs", "packs"), [("auto", None, True), (None, "3", True), ("off", None, True), (None, None, False)]
)
def test_the_wish_of_either_end_makes_the_sender_pack(
    ends: tuple[_wire.Wire, _wire.Wire], mine: str | None, theirs: str | None, packs: bool
) -> None:
    here, there = ends
    wishes = [None if wish is None else {"compression": wish} for wish in (mine, theirs)]
    thread = threading.Thread(target=there.handshake, args=("receiver", "acme/erp", "1", wishes[1]), daemon=True)
    thread.start()
    here.handshake("sender", "acme/erp", "1", wishes[0])
    thread.join(10)
    assert (here.compressor is not None) is packs
    assert there.compressor is None


@pytest.mark.parametrize(
    ("role", "vm", "version", "sentence"),
    [
        ("receiver", "acme/erp", "2", "run the site playbook so that all machines have one version"),
        ("receiver", "acme/web", "1", "authorized_keys are mixed up"),
        ("sender", "acme/erp", "1", "authorized_keys are mixed up"),
    ],
)
def test_strangers_are_refused(
    ends: tuple[_wire.Wire, _wire.Wire], role: str, vm: str, version: str, sentence: str
) -> None:
    here, there = ends

    def other() -> None:
        with pytest.raises(ResilientVmError):
            there.handshake(role, vm, version)

    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    with pytest.raises(ResilientVmError, match=sentence):
        here.handshake("sender", "acme/erp", "1")
    thread.join(10)


def test_a_sender_that_needs_credit_writes_no_more_than_it_was_granted(ends: tuple[_wire.Wire, _wire.Wire]) -> None:
    here, there = ends
    waited = threading.Event()
    here.credit = Credit(waited.set)
    here.gate = here.credit.take
    here.send_data(0, 16, bytes(16 * DIGEST_SIZE), os.urandom(MIB))
    assert there.grant(256 * 1024)
    deadline = time.monotonic() + 30
    while there.data_bytes_read < 128 * 1024 and time.monotonic() < deadline:
        time.sleep(0.01)
    waited.clear()
    assert waited.wait(10)  # it asks for the next piece, in vain
    assert 128 * 1024 <= there.data_bytes_read <= 256 * 1024
    assert there.grant(MIB)
    assert len(there.receive().data) == MIB


def test_who_waits_for_credit_is_let_go_when_the_other_end_dies(ends: tuple[_wire.Wire, _wire.Wire]) -> None:
    here, there = ends
    here.credit = Credit(lambda: None)
    here.gate = here.credit.take

    def send_on() -> None:
        for number in range(100):
            here.send_data(number, 16, bytes(16 * DIGEST_SIZE), bytes(MIB))

    there.close()
    with pytest.raises(_wire.LinkBrokenError):
        send_on()
