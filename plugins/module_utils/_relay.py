# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The forced command ``claim``: it carries a host's question to root's unit on the backup storage."""

from __future__ import annotations

import json
import socket
import sys

from ._errors import ResilientVmError
from ._layout import Layout

__all__ = ["ANSWER_SECONDS", "MAX_BYTES", "relay"]

# A question, and an answer: a report has some kilobytes.
MAX_BYTES = 64 << 10
# For root's unit to start, to look, and to wait for a lock.
ANSWER_SECONDS = 25.0


def relay(layout: Layout, holder: str) -> int:
    """The forced command: hand root the caller's one line, and the caller root's."""
    data = sys.stdin.buffer.readline(MAX_BYTES + 1)
    header = json.dumps({"vm": layout.name, "holder": holder}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(layout.claims)
            connection.sendall(header + data[: MAX_BYTES + 1])
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as stream:
                answer = stream.readline(MAX_BYTES)
    except OSError as error:
        raise ResilientVmError(
            f"claims can't be answered here ({error.strerror or error}); see to resilient-vm-claim.socket, or run the "
            "site playbook"
        ) from error
    if not answer.endswith(b"\n"):
        raise ResilientVmError("the claim was not answered; look at the journal of resilient-vm-claim@*")
    sys.stdout.write(answer.decode("ascii"))
    return 0
