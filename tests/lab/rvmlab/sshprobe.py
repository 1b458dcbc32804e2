# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until an sshd greets; a program of its own because it runs in another network namespace."""

from __future__ import annotations

import socket
import sys
import time


def main(address: str, seconds: float) -> int:
    """Return 0 as soon as the greeting came, 1 when it did not come in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((address, 22), timeout=1) as connection:
                if connection.recv(4) == b"SSH-":
                    return 0
        except OSError:
            pass  # not listening yet, which is what this program waits for
        time.sleep(0.03)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
