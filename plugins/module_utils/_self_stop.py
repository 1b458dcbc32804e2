# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a host has heard of nobody who knows its VM: it may have to stop the VM by itself, before somebody who can
not reach it runs the VM elsewhere."""

from __future__ import annotations

import contextlib
import os

from ._files import read_json, write_json
from ._gate import Gate
from ._registry import Entry

__all__ = ["begin_anew", "heard", "silence"]


def _path(gate: Gate, entry: Entry) -> str:
    return os.path.join(gate.registry.confirmed, f"{entry.uuid}.heard")


def heard(gate: Gate, entry: Entry) -> None:
    """Somebody answered now."""
    os.makedirs(gate.registry.confirmed, 0o755, exist_ok=True)
    write_json(_path(gate, entry), {"boot_id": gate.boot_id(), "uptime": gate.uptime()}, 0o644)


def begin_anew(gate: Gate, entry: Entry) -> None:
    """Count from the next look on."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_path(gate, entry))


def silence(gate: Gate, entry: Entry) -> bool:
    """Nobody answered: whether it is so for as long as the VM may run on. The first such look begins to count.

    What was noted in another boot says nothing: nothing that ran then runs now.
    """
    since = read_json(_path(gate, entry))
    if since is None or since["boot_id"] != gate.boot_id():
        heard(gate, entry)
        return False
    return bool(gate.uptime() - since["uptime"] >= entry.self_stop_seconds)
