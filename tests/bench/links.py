# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links as they are between sites: narrow, and far."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from lab.rvmlab.config import Lab

from .machines import Bench

__all__ = ["far", "narrow"]


@contextlib.contextmanager
def narrow(bench: Bench, mbit: int) -> Iterator[None]:
    """Limit what C sends and receives."""
    bench.world.lab("shape", "c", f"{mbit}mbit")
    try:
        yield
    finally:
        bench.world.lab("shape", "c", "off")


@contextlib.contextmanager
def far(bench: Bench, round_trip_ms: float) -> Iterator[None]:
    """Put C that far away from A and B, half of it each way."""
    switch = Lab.from_environment(bench.world.environment).netns("sw")
    program = str(Path(__file__).with_name("delay.py"))
    process = subprocess.Popen(
        ["ip", "netns", "exec", switch, sys.executable, program, "c", str(round_trip_ms / 2)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError("the delay could not be put between C and the switch")
        yield
    finally:
        process.stdin.close()
        process.wait(timeout=30)
