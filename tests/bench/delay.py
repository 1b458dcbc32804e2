# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds every frame to and from one machine back for some time, where the kernel has no netem.

Usage: delay.py MACHINE MILLISECONDS, in the network namespace of the lab's switch. Says "ready" when the machine's
cable is plugged into it, and plugs it back into the switch when standard input ends, also by its caller's death.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque

_TUNSETIFF = 0x400454CA
_TAP_WITHOUT_HEADER = 0x0002 | 0x1000
_FRAME = 65536
# Frames read from one side before the other gets its turn.
_BATCH = 64
# Frames the kernel keeps when this program is late: a burst must not be lost that a real link would queue.
_QUEUE = "10000"


def ip(*commands: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands) + "\n", text=True, check=True)


def tap(name: str) -> int:
    """A network interface whose frames this program reads and writes; the kernel completes their checksums for it."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH", name.encode(), _TAP_WITHOUT_HEADER))
    return descriptor


def carry(one: int, other: int, seconds: float) -> None:
    """Move frames both ways until standard input ends."""
    waiting: dict[int, deque[tuple[float, bytes]]] = {one: deque(), other: deque()}
    across = {one: other, other: one}
    while True:
        due = min((queue[0][0] for queue in waiting.values() if queue), default=time.monotonic() + 1)
        ready, _none, _none_either = select.select([0, one, other], [], [], max(0.0, due - time.monotonic()))
        if 0 in ready and not os.read(0, 1):
            return
        now = time.monotonic()
        for side in (one, other):
            if side in ready:
                take(side, waiting[across[side]], now + seconds)
            queue = waiting[side]
            while queue and queue[0][0] <= now:
                os.write(side, queue.popleft()[1])


def take(side: int, queue: deque[tuple[float, bytes]], due: float) -> None:
    for _frame in range(_BATCH):
        try:
            queue.append((due, os.read(side, _FRAME)))
        except BlockingIOError:
            return


def main() -> None:
    machine, seconds = sys.argv[1], float(sys.argv[2]) / 1000
    one, other = tap("delay-net"), tap(f"delay-{machine}")
    ip(
        f"link set delay-net txqueuelen {_QUEUE} master br0 up",
        "link add br-delay type bridge",
        f"link set delay-{machine} txqueuelen {_QUEUE} master br-delay up",
        "link set br-delay up",
        f"link set p-{machine} master br-delay",
    )
    try:
        print("ready", flush=True)
        carry(one, other, seconds)
    finally:
        ip(f"link set p-{machine} master br0", "link del br-delay")


if __name__ == "__main__":
    main()
