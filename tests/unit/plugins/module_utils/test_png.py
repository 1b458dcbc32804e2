# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about pictures of consoles: whatever libvirt gives ends as PNG, or is told."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._png import as_png


def read_back(png: bytes) -> tuple[int, int, bytes]:
    """Width, height and pixels of a PNG; every checksum is checked."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, found = 8, {}
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + data)
        found[kind], at = data, at + 12 + length
    assert list(found) == [b"IHDR", b"IDAT", b"IEND"]
    width, height = struct.unpack(">II", found[b"IHDR"][:8])
    assert found[b"IHDR"][8:] == bytes((8, 2, 0, 0, 0))
    raw, line = zlib.decompress(found[b"IDAT"]), 3 * width + 1
    lines = [raw[start : start + line] for start in range(0, len(raw), line)]
    assert all(each[0] == 0 for each in lines)
    return width, height, b"".join(each[1:] for each in lines)


@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False), st.sampled_from([b"", b"# by QEMU\n"]))
def test_a_ppm_keeps_its_pixels(width: int, height: int, random: object, comment: bytes) -> None:
    pixels = bytes(random.randrange(256) for _each in range(3 * width * height))  # type: ignore[attr-defined]
    png = as_png(b"P6\n" + comment + f"{width} {height}\n255\n".encode() + pixels)
    assert read_back(png) == (width, height, pixels)
    assert as_png(png) == png


@pytest.mark.parametrize("picture", [b"", b"P6\n2 2\n255\n" + bytes(11), b"P6\n0 0\n255\n", b"GIF89a"])
def test_what_is_no_whole_picture_is_told(picture: bytes) -> None:
    with pytest.raises(ResilientVmError, match="the picture of the console is"):
        as_png(picture)
