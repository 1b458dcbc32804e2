# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When data is compressed, and that nothing but the same data comes out."""

from __future__ import annotations

import os

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._compression import (
    Choice,
    Compressor,
    decompress,
    level_of,
)
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError

MIB = 1 << 20
TEXT = b"".join(b"%d bottles of water on the wall, and %d more. " % (n, n * n) for n in range(30000))[:MIB]


@pytest.mark.parametrize(("mode", "level"), [("auto", None), ("off", 0), ("1", 1), (19, 19)])
def test_modes(mode: str | int, level: int | None) -> None:
    assert level_of(mode) == level


@pytest.mark.parametrize("mode", ["", "fast", "0", "20", "-3", "1.5"])
def test_other_modes_are_refused(mode: str) -> None:
    with pytest.raises(ResilientVmError, match="auto, off or a zstd level"):
        level_of(mode)


def choice(link: float, compresses: float = 400e6) -> Choice:
    """A choice that has seen a link of so many bytes/s and a processor that compresses at this speed."""
    made = Choice()
    for _each in range(50):
        made.sent(MIB, MIB / link, raw=True)
        for ratio in (0.1, 0.6):
            made.compressed(MIB, ratio, MIB / compresses)
    return made


def test_nothing_is_compressed_before_the_link_is_known() -> None:
    assert Choice().level(0.0) == 0


def test_a_slow_link_compresses_and_what_does_not_shrink_goes_as_it_is() -> None:
    slow = choice(12.5e6)
    assert slow.level(0.4) == 3
    assert slow.level(1.0) == 0


def test_a_fast_link_compresses_only_what_shrinks_enough() -> None:
    fast = choice(500e6)
    assert fast.level(0.4) == 0
    assert choice(300e6).level(0.05) == 1


@given(st.floats(1e5, 1e10), st.floats(1e6, 1e10), st.floats(0, 1.1))
def test_compressing_always_promises_to_be_faster(link: float, speed: float, ratio: float) -> None:
    level = choice(link, speed).level(ratio)
    if level:
        assert 1 / speed + ratio / link < 1 / link * 1.001


def test_a_link_that_became_faster_is_noticed() -> None:
    made = choice(10e6)
    levels = []
    for _each in range(1000):
        level = made.level(0.4)
        levels.append(level)
        # Compressed data now always finds room at once; only what goes raw shows the new rate.
        made.sent(MIB if level == 0 else int(0.4 * MIB), 0.001, raw=level == 0)
    assert levels[0] == 3
    assert levels[-1] == 0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.002
        return self.now


def test_auto_packs_on_a_slow_link_and_gives_back_the_same() -> None:
    compressor = Compressor("auto", Clock())
    assert compressor.pack(TEXT) is None
    for _each in range(8):
        compressor.sent(MIB, 0.1, raw=True)
    packed = compressor.pack(TEXT)
    assert packed is not None
    assert len(packed) < MIB // 4
    assert decompress(packed, MIB) == TEXT
    assert compressor.pack(os.urandom(MIB)) is None


def test_a_fixed_level_always_packs_what_shrinks() -> None:
    assert Compressor(3).pack(TEXT) is not None
    assert Compressor(3).pack(os.urandom(MIB)) is None
    assert Compressor("off").pack(TEXT) is None


def test_a_frame_that_claims_too_much_is_refused_before_room_is_made_for_it() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(64 * MIB))
    with pytest.raises(ResilientVmError, match="more than 1048576 bytes"):
        decompress(bomb, MIB)
    endless = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64 * MIB))
    with pytest.raises(ResilientVmError, match="more than"):
        decompress(endless, MIB)


@given(st.binary(max_size=200))
def test_damaged_frames_are_one_clear_error(junk: bytes) -> None:
    try:
        assert len(decompress(junk, MIB)) <= MIB
    except ResilientVmError:
        return


def test_a_damaged_frame() -> None:
    packed = bytearray(zstandard.ZstdCompressor(level=1, write_checksum=True).compress(TEXT))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(ResilientVmError, match="damaged"):
        decompress(bytes(packed), MIB)
