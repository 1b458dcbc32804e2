# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command in a guest, through its agent: the way into a machine that no network leads to."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable

from ._errors import ResilientVmError
from ._virsh import Virsh

__all__ = ["Said", "command"]


@dataclass(frozen=True)
class Said:
    """How a command in a guest ended; ``rc`` is that of the signal, negative, when one ended it."""

    rc: int
    stdout: str
    stderr: str


def command(
    virsh: Virsh,
    domain: str,
    argv: Sequence[str],
    timeout_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Said:
    """Run argv in a guest to its end. Raises ResilientVmError when the agent doesn't, or it does not end in time."""
    until = clock() + timeout_seconds
    arguments = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
    number = _ask(virsh, domain, "guest-exec", arguments)["pid"]
    while not (ended := _ask(virsh, domain, "guest-exec-status", {"pid": number}))["exited"]:
        if clock() >= until:
            raise ResilientVmError(f"{' '.join(argv)} has not ended in {domain} within {timeout_seconds:g} seconds")
        sleep(0.2)
    code = -ended["signal"] if "signal" in ended else ended["exitcode"]
    return Said(code, _text(ended, "out-data"), _text(ended, "err-data"))


def _ask(virsh: Virsh, domain: str, what: str, arguments: dict[str, Any]) -> dict[str, Any]:
    question = json.dumps({"execute": what, "arguments": arguments})
    answer: dict[str, Any] = json.loads(virsh.call("qemu-agent-command", domain, question, "--timeout", "30").stdout)
    return dict(answer["return"])


def _text(ended: dict[str, Any], name: str) -> str:
    return base64.b64decode(ended.get(name, "")).decode(errors="replace")
