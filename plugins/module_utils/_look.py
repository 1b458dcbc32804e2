# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether other machines can be reached from this one: a TCP connection that is answered at all, or an echo."""

from __future__ import annotations

import errno
import shutil
import socket
import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ._process import Runner

__all__ = ["GATEWAY", "Target", "accepts", "gateway", "look", "way_out"]


# Of what a host looks for that must not be the isolated one: its default gateway where nothing is configured.
GATEWAY = "its gateway"
# RTF_GATEWAY of linux/route.h.
_THROUGH_A_GATEWAY = 2
_DNS = 53


@dataclass(frozen=True)
class Target:
    """What is looked for. Without a port only an echo can be asked for."""

    name: str
    address: str
    port: int | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Target:
        """As M(vm_look) is given one."""
        return cls(given["name"], given["address"], given["port"])


def look(targets: Sequence[Target], run: Runner, patience_seconds: float) -> dict[str, str]:
    """{name: how it was reached, or ""}, all looked for at once; takes about ``patience_seconds`` when one is silent.

    A refused connection is an answer: something is up at that address.
    """
    if not targets:
        return {}
    with ThreadPoolExecutor(2 * len(targets)) as several:
        echoes = [several.submit(_echo, target, run, patience_seconds) for target in targets]
        answers = [several.submit(_connect, target, patience_seconds) for target in targets]
        return {target.name: answer.result() or echo.result() for target, answer, echo in zip(targets, answers, echoes)}


def accepts(address: str, port: int, patience_seconds: float) -> bool:
    """Whether somebody listens there: a refused connection is no answer of a service."""
    try:
        socket.create_connection((address, port), timeout=patience_seconds).close()
    except OSError:
        return False
    return True


def gateway(path: str = "/proc/net/route") -> str | None:
    """The IPv4 address of this machine's default gateway, or None."""
    with open(path, encoding="ascii") as stream:
        for line in stream.readlines()[1:]:
            _device, destination, address, flags = line.split()[:4]
            if destination == "00000000" and int(flags, 16) & _THROUGH_A_GATEWAY:
                return socket.inet_ntoa(struct.pack("<L", int(address, 16)))
    return None


def way_out() -> list[Target]:
    """This machine's default gateway, where it has one. Many answer no echo, but name service, or refuse it."""
    address = gateway()
    return [Target(GATEWAY, address, _DNS)] if address else []


def _connect(target: Target, patience_seconds: float) -> str:
    if target.port is None:
        return ""
    try:
        with socket.create_connection((target.address, target.port), timeout=patience_seconds):
            return f"port {target.port} of {target.address} answers"
    except OSError as error:
        up = error.errno in (errno.ECONNREFUSED, errno.ECONNRESET)
        return f"{target.address} answers (port {target.port} is closed)" if up else ""


def _echo(target: Target, run: Runner, patience_seconds: float) -> str:
    words = ["ping", "-n", "-q", "-c", "2", "-i", "0.3", "-w", str(max(1, round(patience_seconds))), target.address]
    # No package of ours: a machine without this program has the other way to look.
    if shutil.which("ping") is None:
        return ""
    done = run(words, timeout_seconds=patience_seconds + 5.0, check=False)
    return f"{target.address} answers an echo" if done.code == 0 else ""
