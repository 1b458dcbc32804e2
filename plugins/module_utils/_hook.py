# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's hook, which refuses to start a protected VM where, or before, this host may run it.

A file of its own: the site playbook copies it into libvirt's folder of hooks, where it must work whatever becomes of
the rest. It never calls libvirt, which waits for it, and prints nothing on stdout: libvirt takes that for a definition.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any
from xml.etree import ElementTree

REGISTRY = "/etc/resilient-vm/gate"
# No customer's name begins with a dot.
CONFIRMED = "/run/resilient-vm/.gate"
BOOT_ID = "/proc/sys/kernel/random/boot_id"

# Not "reconnect", with which libvirt takes up running guests after its own restart: failing there kills them.
GUARDED = ("prepare", "start", "restore", "migrate")
# The phases in which nobody starts the VM, as the table of transitions has them.
CLOSED = ("switching", "restoring", "split_brain")
SAYS = "resilient-vm keeps the gate closed: "
_SITE = "run the site playbook"


def main(
    arguments: list[str],
    definition: bytes,
    registry: str = REGISTRY,
    confirmed: str = CONFIRMED,
    boot_id: str = BOOT_ID,
) -> int:
    """What libvirt calls: NAME OPERATION SUBOPERATION EXTRA, the definition on stdin. Not 0: it is not started."""
    if len(arguments) < 2 or arguments[1] not in GUARDED:
        return 0
    try:
        reason = look(arguments[0], definition, registry, confirmed, boot_id)
    except (OSError, ValueError, KeyError, TypeError, ElementTree.ParseError) as error:
        # Nobody knows, then, that this host may run the VM. (What is not named here ends in an exit code, too.)
        reason = f"looking failed ({type(error).__name__}: {error}); {_SITE}"
    if reason:
        sys.stderr.write(f"{SAYS}{reason}\n")
        return 1
    return 0


def look(name: str, definition: bytes, registry: str, confirmed: str, boot_id: str) -> str:
    """Why the machine of this definition must not start here now, or ""."""
    uuid = (ElementTree.fromstring(definition).findtext("uuid") or "").strip()
    if not uuid:
        return f"libvirt gave no UUID for {name}"
    path = os.path.join(registry, f"{uuid}.json")
    if not os.path.lexists(path):
        return ""
    entry, state = _document(path), None
    if entry is not None:
        state = _document(entry["state"])
    if entry is None or state is None:
        broken = path if entry is None else entry["state"]
        return f"{name} is protected, and {broken} is missing or damaged; {_SITE}"
    with open(boot_id, encoding="ascii") as stream:
        boot = stream.read().strip()
    return verdict(entry, state, _document(os.path.join(confirmed, f"{uuid}.json")), boot)


def verdict(entry: dict[str, Any], state: dict[str, Any], confirmation: dict[str, Any] | None, boot: str) -> str:
    """Why a protected VM must not start here now, or "". Pure."""
    host, vm = entry["host"], f"{state['customer']}/{state['vm']}"
    if (state["customer"], state["vm"]) != (entry["customer"], entry["vm"]):
        return f"{entry['state']} is another VM's; {_SITE}"
    if state["active"] != host:
        return f"the active host of {vm} is {state['active']} since epoch {state['epoch']}, not {host}"
    if state["phase"] in CLOSED:
        return f"{vm} is in phase {state['phase']}; bring that to its end first"
    if not confirmation or (confirmation["boot_id"], confirmation["epoch"]) != (boot, state["epoch"]):
        return (
            f"no other machine has confirmed since the boot of {host} that it still is the active host of {vm}; see "
            "journalctl -u resilient-vm-gate"
        )
    return ""


def _document(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:], sys.stdin.buffer.read()))
