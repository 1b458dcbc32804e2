# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What machines say around a takeover, for tests of what is decided."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._takeover import CONTROL, Facts

NOW = datetime(2026, 1, 14, 11, 30, tzinfo=timezone.utc)
PLAN: dict[str, Any] = {
    "vm": "erp",
    "customer": "acme",
    "domain": "erp",
    "production": "a",
    "standby": "b",
    "backup_storage": "c",
    "machines": ["a", "b", "c"],
    "addresses": {name: {"address": f"192.0.2.1{number}", "port": 22} for number, name in enumerate("abc", 1)},
    "guest_address": None,
    "max_data_loss_hours": 10,
    "max_clock_skew_seconds": 300,
    "without_backup_storage": False,
    "despite_findings": False,
    "prefer": "time",
    "takeover_point": None,
    "takeover_steps": [],
    "machine_settings": {name: {"fence_agent": None} for name in "abc"},
}
STATE = {
    "epoch": 1,
    "active": "a",
    "standby": "b",
    "phase": "protected",
    "uuid": "u",
    "changed": "2026-01-01T00:00:00Z",
}
GENERATION = {"id": "20260114T020000Z", "instant": "2026-01-14T02:00:00Z", "epoch": 1, "complete": True, "damaged": []}
DARK = {"b": {"a": "", "c": "port 22 answers"}, "c": {"a": "", "b": "port 22 answers"}, CONTROL: {"a": ""}}


NEWER = {"id": "20260114T080000Z", "instant": "2026-01-14T08:00:00Z", "epoch": 1, "complete": True}
USED = {"address": "192.0.2.80", "mac": "52:54:00:00:00:02", "device": "vmbr0", "own": False}


def facts(**changes: Any) -> Facts:
    """Nobody sees a; b holds last night's generation. ``changes``: ``state`` on c, ``own`` on b, and so on."""
    state = {**STATE, **changes.get("state", {})}
    own = changes.get("own", state)
    machine = {"answered": True, "version": "1+x protocol 1"}
    domain = {"exists": True, "state": changes.get("domain", "shut off")}
    hosts: dict[str, Any] = {
        "c": {**machine, "state": state, "newest": changes.get("newest")},
        "b": {**machine, "state": own, "domain": domain},
    }
    for name in changes.get("silent", ()):
        hosts[name] = {"answered": False, "msg": f"machine {name} can't be reached"}
    for name in changes.get("errs", ()):
        hosts[name] = {"answered": False, "reachable": True, "msg": f"state.json on {name} is damaged"}
    held = {
        "answered": True,
        "current": changes.get("current", GENERATION),
        "generations": changes.get("generations", [GENERATION]),
    }
    found = Facts(hosts, {"b": held}, changes.get("looks", DARK), NOW, changes.get("version", "1+x"))
    return replace(found, address=changes.get("address", {}), brought=changes.get("brought", {}))
