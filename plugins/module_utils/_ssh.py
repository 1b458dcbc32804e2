# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ssh from the backup storage to another machine's mover: one process for each stream of a transfer."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading

from ._errors import ResilientVmError
from ._layout import Layout

__all__ = ["Ssh", "ssh_command"]

_PATIENCE_SECONDS = 10


def ssh_command(layout: Layout, address: str, port: int, verb: str) -> list[str]:
    """The words that reach the forced command on another machine, with its pinned host key."""
    return [
        "ssh",
        "-T",
        *("-i", layout.key),
        *("-p", str(port)),
        *("-o", "BatchMode=yes"),
        *("-o", "IdentitiesOnly=yes"),
        *("-o", "StrictHostKeyChecking=yes"),
        *("-o", f"UserKnownHostsFile={layout.known_hosts}"),
        *("-o", "GlobalKnownHostsFile=/dev/null"),
        *("-o", "ConnectTimeout=10"),
        # A machine that lost its power says nothing: notice within half a minute.
        *("-o", "ServerAliveInterval=5"),
        *("-o", "ServerAliveCountMax=6"),
        # With AES instructions over twice as fast as the default cipher; the host's other ciphers stay allowed.
        *("-o", "Ciphers=^aes128-gcm@openssh.com,aes256-gcm@openssh.com"),
        f"{layout.account}@{address}",
        verb,
    ]


class Ssh:
    """One running ssh. ``reader`` and ``writer`` are descriptors of its output and input, for its user to close."""

    def __init__(self, command: list[str]) -> None:
        # Its words stay here until they are asked for; the file has no name.
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        # In the mover, where there is no module; and it is talked to while it runs.
        self._process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise ResilientVmError("ssh was started without pipes")
        # The wire's threads close what they use when they are done with it, not Popen while they do.
        self.reader, self.writer = (os.dup(pipe.fileno()) for pipe in (self._process.stdout, self._process.stdin))
        self._process.stdout.close()
        self._process.stdin.close()

    def last_words(self) -> str:
        """End it; the last line it said, if any."""
        self.kill()
        self._words.seek(0)
        said = self._words.read().decode("utf-8", "replace").strip().splitlines()
        return said[-1] if said else ""

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Wait until it has ended, which it does when its other end has; one that doesn't is killed."""
        # Popen's own timeout looks at ever longer intervals, and a copy would be told of as much later.
        patience = threading.Timer(_PATIENCE_SECONDS, self._process.kill)
        patience.daemon = True
        patience.start()
        try:
            self._process.wait()
        finally:
            patience.cancel()
            self._words.close()
