# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A customer with one VM on three machines, and what these answer when all is well."""

from __future__ import annotations

import copy
from typing import Any

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._plan import make_plan

UUID = "3c6bb72f-2a19-44b9-af47-a8ee60341a79"
VERSION = "0.1.0+0123456789ab"
GROUPS = {
    "all": ["a", "b", "c", "erp"],
    "production": ["a"],
    "standby": ["b"],
    "backup_storage": ["c"],
    "protected_vms": ["erp"],
}
STATE = {
    "schema": 1,
    "customer": "acme",
    "vm": "erp",
    "domain": "erp",
    "uuid": UUID,
    "epoch": 1,
    "active": "a",
    "standby": "b",
    "phase": "protected",
}


def plan(**settings: Any) -> dict[str, Any]:
    variables = {"resilient_vm_customer": "acme", **{f"resilient_vm_{name}": value for name, value in settings.items()}}
    return make_plan("erp", variables, GROUPS, lambda _name: {})


def image(image_id: str, **members: Any) -> dict[str, Any]:
    """An image as image_info returns it."""
    return {
        "id": image_id,
        "instant": _clock.iso(_clock.instant(image_id)),
        "customer": "acme",
        "vm": "erp",
        "epoch": 1,
        "consistency": "filesystem",
        "checkpoint": f"resilient-vm-{image_id}",
        "disks": [
            {
                "target": "vda",
                "size_bytes": 1 << 28,
                "checkpoint": f"resilient-vm-{image_id}",
                "found_by": "bitmap",
                "reason": "",
                "bytes_sent": 3 << 20,
                "proven": {"next_block": 1024, "round_started": image_id, "full_round": None},
            }
        ],
        "excluded": [],
        "complete": True,
        "problem": "",
        "damaged": [],
        "pinned_by": [],
        "reading": False,
        "bytes_sent": 3 << 20,
        **members,
    }


class World:
    """What the machines say, to be changed by a test before it is asked."""

    def __init__(self, now: str = "2026-01-15T02:00:00Z") -> None:
        domain = {
            "exists": True,
            "uuid": UUID,
            "state": "running",
            "disks": [],
            "refused": [],
            "backup_job": None,
            "own_checkpoints": [],
            "foreign_checkpoints": [],
            "open_snapshot": None,
        }
        self.now = now
        self.hosts: dict[str, dict[str, Any]] = {name: self._host(copy.deepcopy(domain)) for name in "abc"}
        self.hosts["b"]["domain"]["state"] = "shut off"
        self.hosts["c"]["domain"] = None
        self.stored: dict[str, Any] = {
            "answered": True,
            "laid_out": True,
            "images": [],
            "newest": None,
            "transfers": [],
            "last_transfers": {"fetch": None, "refresh": None},
            "problems": [],
        }
        self.held: dict[str, Any] = {"answered": True, "current": None, "defined": False, "problems": []}

    def _host(self, domain: dict[str, Any]) -> dict[str, Any]:
        return {
            "answered": True,
            "between": [self.now, self.now],
            "clock": self.now,
            "version": VERSION,
            "account_missing": [],
            "root": {
                "path": "/var/lib/resilient-vm",
                "exists": True,
                "filesystem": "xfs",
                "reflink": True,
                "free_bytes": 1 << 40,
                "total_bytes": 1 << 41,
            },
            "domain": domain,
            "state": dict(STATE),
        }

    def holds(self, *images: dict[str, Any], standby: str | None = None) -> World:
        """The backup storage has these images; the standby the one of that id."""
        self.stored["images"] = list(images)
        complete = [one for one in images if one["complete"]]
        self.stored["newest"] = complete[-1] if complete else None
        if standby:
            self.held.update(current={"id": standby, "epoch": 1}, defined=True)
        return self

    def gone(self, machine: str) -> World:
        self.hosts[machine] = {"answered": False, "msg": f"machine {machine} can't be reached (timed out)"}
        if machine == "b":
            self.held = dict(self.hosts["b"])
        if machine == "c":
            self.stored = dict(self.hosts["c"])
        return self
