# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether and how strongly data is compressed before it is sent: what is asked for, or what link and data show."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ._errors import ResilientVmError

try:
    import zstandard
except ImportError:
    zstandard = None

__all__ = ["AVAILABLE", "Choice", "Compressor", "decompress", "level_of"]

AVAILABLE = zstandard is not None

# Three samples of 4 KiB tell how well 1 MiB will compress for about a hundredth of what compressing it costs.
_SAMPLE = 4096
# What zstd's level 1 reaches on a slow core, until this machine has shown its own speed.
_FIRST_GUESS = 300e6
# Pipes, ssh and TCP together swallow some MiB at once: the link's rate shows only after as many.
_SWALLOWED_BYTES = 8 << 20
# Weight of the newest MiB in the link's rate.
_NEWEST = 0.3
# Compressing must promise this share less time, or the samples' uncertainty decides.
_WORTH = 0.95
_STRONGER_BELOW = 0.1
_PROBE_EVERY = 64


def level_of(mode: str | int) -> int | None:
    """zstd level of a setting: None for ``auto``, 0 for ``off``, else 1 to 19. Raises ResilientVmError otherwise."""
    word = str(mode)
    if word == "auto":
        return None
    if word == "off":
        return 0
    if word.isdigit() and 1 <= int(word) <= 19:
        return int(word)
    raise ResilientVmError(f"compression is auto, off or a zstd level from 1 to 19, not {mode!r}")


class Choice:
    """Decides for each piece of data. Pure: it is told sizes and times and never looks at a clock."""

    def __init__(self) -> None:
        self._speed = {True: _FIRST_GUESS, False: _FIRST_GUESS}
        self._link_bytes = 0
        self._link_cost = 0.0  # seconds per byte
        self._since_probe = 0

    @property
    def link_rate(self) -> float | None:
        """Bytes per second the link takes, or None before enough was sent to tell."""
        if self._link_bytes < _SWALLOWED_BYTES or self._link_cost <= 0:
            return None
        return 1 / self._link_cost

    def level(self, sampled_ratio: float) -> int:
        """zstd level for a piece of which a sample shrank to this share of its size; 0: send it as it is."""
        link = self.link_rate
        if link is None:
            return 0
        speed = self._speed[self._easy(sampled_ratio)]
        if 1 / speed + sampled_ratio / link >= _WORTH / link:
            return 0
        self._since_probe += 1
        if self._since_probe >= _PROBE_EVERY and not self._easy(sampled_ratio):
            # Only what goes uncompressed shows that the link has become faster.
            self._since_probe = 0
            return 0
        return 3 if link < _STRONGER_BELOW * speed else 1

    def compressed(self, size_bytes: int, ratio: float, seconds: float) -> None:
        """A piece of this size was compressed to this share of it in so many seconds."""
        if seconds > 0:
            easy = self._easy(ratio)
            self._speed[easy] += 0.2 * (size_bytes / seconds - self._speed[easy])

    def sent(self, size_bytes: int, seconds: float, raw: bool) -> None:
        """So many bytes went out in so many seconds. What was compressed and taken at once says nothing of the link."""
        link = self.link_rate
        if not raw and (link is None or size_bytes > link * seconds):
            return
        weight = 1 - (1 - _NEWEST) ** (size_bytes / (1 << 20))
        self._link_bytes += size_bytes
        self._link_cost += weight * (seconds / size_bytes - self._link_cost)

    @staticmethod
    def _easy(ratio: float) -> bool:
        return ratio < 0.25


class Compressor:
    """Compresses what a sender sends, at one level or as Choice decides. Raises ResilientVmError for a wrong mode."""

    def __init__(self, mode: str | int, clock: Callable[[], float] = time.monotonic) -> None:
        self.mode = mode
        self._level = level_of(mode)
        self._clock = clock
        self._choice = Choice()
        self._contexts: dict[int, Any] = {}

    def pack(self, data: bytes | memoryview) -> bytes | None:
        """The data compressed, or None when it is better sent as it is."""
        if self._level == 0 or zstandard is None:
            return None
        level = self._level
        if level is None:
            level = self._choice.level(self._sampled_ratio(data))
            if level == 0:
                return None
        started = self._clock()
        packed: bytes = self._context(level).compress(data)
        if self._level is None:
            self._choice.compressed(len(data), len(packed) / len(data), self._clock() - started)
        return packed if len(packed) < len(data) else None

    def sent(self, size_bytes: int, seconds: float, raw: bool) -> None:
        """Tell how long the link took for bytes."""
        if self._level is None:
            self._choice.sent(size_bytes, seconds, raw)

    def _context(self, level: int) -> Any:
        if level not in self._contexts:
            self._contexts[level] = zstandard.ZstdCompressor(level=level)
        return self._contexts[level]

    def _sampled_ratio(self, data: bytes | memoryview) -> float:
        if self._choice.link_rate is None:
            return 1.0
        view = memoryview(data)
        middle = max(0, len(view) // 2 - _SAMPLE // 2)
        sample = b"".join((view[:_SAMPLE], view[middle : middle + _SAMPLE], view[-_SAMPLE:]))
        return len(self._context(1).compress(sample)) / len(sample)


def decompress(packed: bytes | memoryview, limit_bytes: int) -> bytes:
    """The data that was packed, at most so many bytes. Raises ResilientVmError when it is more or damaged."""
    if zstandard is None:
        raise ResilientVmError("compressed data came and python3-zstandard is not on this machine; run again")
    try:
        # The library makes room for what the frame claims, not for what is allowed.
        if not 0 <= zstandard.frame_content_size(packed) <= limit_bytes:
            raise ResilientVmError(f"compressed data came that is more than {limit_bytes} bytes; run again")
        data: bytes = zstandard.ZstdDecompressor().decompress(packed)
    except zstandard.ZstdError as error:
        raise ResilientVmError(f"compressed data arrived damaged ({error}); run again") from error
    return data
