# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a stopped machine's disks without ever standing in its owner's way.

``qemu-nbd`` under QEMU's own image lock makes the owner's ``virsh start`` fail, so each disk is served with
``force-share``, which takes no lock, and the proof that nobody wrote comes from elsewhere: at the beginning no one
holds the write lock, and from before the first read until after the last one the domain stays shut off and every
file stays the one it was (``identity``). A start in between wins, and the image is discarded.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from . import _units
from ._errors import ResilientVmError
from ._layout import Layout
from ._process import Runner

__all__ = ["bitmaps", "chain_files", "identity", "probe", "serve", "settle", "unit_purpose"]

# ext3, NFSv2 and FAT keep times in whole or two seconds; Linux itself stamps files by a clock that ticks
# every few milliseconds.
_GRANULARITY_SECONDS = 2.1
_SERVE_SECONDS = 15.0


def unit_purpose(target: str) -> str:
    """The purpose part of the unit that serves a disk."""
    return f"nbd-{target}"


def probe(run: Runner, disk: str, path: str, image_format: str) -> Any:
    """What qemu-img says of an image and all files below it; refuses while anybody holds its write lock."""
    done = run(["qemu-img", "info", "--output=json", "--backing-chain", "-f", image_format, path], check=False)
    if done.code != 0 and "lock" in done.stderr:
        raise ResilientVmError(
            f"disk {disk} ({path}) is being written although its domain is shut off; end the program that uses it",
            path=path,
        )
    if done.code != 0:
        raise ResilientVmError(f"disk {disk} ({path}) can't be read: {done.stderr.strip()}", path=path)
    return json.loads(done.stdout)


def chain_files(chain: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every file a disk's content comes from."""
    return [os.path.realpath(entry["filename"]) for entry in chain]


def bitmaps(chain: Sequence[Mapping[str, Any]]) -> set[str]:
    """Bitmaps of the topmost image that have counted every write up to its clean close."""
    data = chain[0].get("format-specific", {}).get("data", {})
    # "auto" is "recording"; "in-use" is left by whoever was killed before it saved the bitmap.
    return {
        entry["name"]
        for entry in data.get("bitmaps", [])
        if "auto" in entry.get("flags", []) and "in-use" not in entry.get("flags", [])
    }


def identity(path: str) -> list[int]:
    """What changes when anybody writes to a file or block device. Compared for equality, nothing else.

    A file's mtime or ctime changes with every write, and no program can set ctime back. For a device node they say
    nothing; there the kernel's own counters of completed writes and discards do.
    """
    found = os.stat(path)
    if not stat.S_ISBLK(found.st_mode):
        return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
    # Counted are writes that reached the device, so what another program left in the page cache goes there first.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    with open(f"/sys/dev/block/{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}/stat", encoding="ascii") as stream:
        counters = [int(word) for word in stream.read().split()]
    # Writes completed and sectors written, then (from Linux 4.18) discards and discarded sectors.
    return [found.st_rdev, counters[4], counters[6], *counters[11:14:2]]


def settle(
    paths: Sequence[str], now: Callable[[], float] = time.time, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Wait until the files' times lie further back than any clock's granularity.

    Two writes within one tick of the clock leave one time: a file stamped "now" can change once more and look the
    same. Once the last change is older than a tick, any later write gets another time. A time far in the future (a
    clock that was set back) is no reason to wait: the next write's time differs from it as well.
    """
    for path in paths:
        found = os.stat(path)
        age = now() - max(found.st_mtime, found.st_ctime)
        if abs(age) < _GRANULARITY_SECONDS:
            sleep(_GRANULARITY_SECONDS - age)


def serve(
    run: Runner,
    layout: Layout,
    target: str,
    path: str,
    image_format: str,
    bitmap: str | None,
    folder: str,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Serve a stopped disk read-only on a unix socket of the account's; the socket's path.

    The program runs as the account with one privilege, to read any file: it can write nothing.
    """
    socket = os.path.join(folder, f"{target}.sock")
    # Opened by systemd as root, so not in a folder where the account could lay a link.
    log = os.path.join(layout.run, f"{target}.log")
    for leftover in (socket, log):
        if os.path.lexists(leftover):
            os.unlink(leftover)
    driver = "host_device" if stat.S_ISBLK(os.stat(path).st_mode) else "file"
    image = {
        "driver": image_format,
        "read-only": True,
        "force-share": True,
        "file": {"driver": driver, "filename": path},
    }
    unit = layout.unit(unit_purpose(target))
    argv = ["qemu-nbd", "--read-only", "--persistent", "--shared=16", f"--socket={socket}", f"--export-name={target}"]
    argv += [f"--bitmap={bitmap}"] if bitmap else []
    _units.start(
        run,
        unit,
        [*argv, "json:" + json.dumps(image)],
        [
            f"User={layout.account}",
            "AmbientCapabilities=CAP_DAC_READ_SEARCH",
            "CapabilityBoundingSet=CAP_DAC_READ_SEARCH",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "PrivateNetwork=yes",
            f"ReadWritePaths={folder}",
            f"StandardError=file:{log}",
        ],
    )
    for _attempt in range(int(_SERVE_SECONDS / 0.05)):
        if os.path.exists(socket):
            return socket
        if not _units.active(run, unit):
            break
        sleep(0.05)
    said = ""
    if os.path.exists(log):
        with open(log, encoding="utf-8", errors="replace") as stream:
            said = stream.read(2000).strip()
    raise ResilientVmError(f"disk {target} ({path}) can't be served: {said or 'qemu-nbd gave no answer'}", path=path)
