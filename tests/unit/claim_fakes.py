# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM's documents and the backup storage's answers around a claim, for tests."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _claimed
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._claimed import Claims
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._state import State

NOW = datetime(2026, 1, 14, 11, 30, tzinfo=timezone.utc)
STATE = State(
    "acme", "erp", "erp", "u", 1, "a", "b", "protected", "2026-01-14T02:00:00Z", "site", 26.0, "mail -s $TOKEN"
)
PLAN: dict[str, Any] = {
    "vm": "erp",
    "customer": "acme",
    "domain": "erp",
    "production": "a",
    "standby": "b",
    "backup_storage": "c",
    "machines": ["a", "b", "c"],
    "addresses": {name: {"address": "127.0.0.1", "port": 1} for name in "abc"},
    "networks": {},
    "guest_address": None,
    "guest_wait_seconds": 0,
    "max_data_loss_hours": 48,
    "max_clock_skew_seconds": 300,
    "prefer": "time",
    "lend_to": [],
    "timezone": "UTC",
    "transfer_bytes_per_second": 0,
    "takeover_steps": [{"name": "DNS", "command": ["secret"]}],
    "machine_settings": {
        name: {"fence_agent": None, "witnesses": [], "reserve_bytes": 0, "fence_secrets": {"password": "x"}}
        for name in "abc"
    },
}


def holds(layout: Layout, state: State) -> None:
    Path(layout.state).write_text(json.dumps(state.as_dict()))


def claims(layout: Layout, holder: str = "b", seen: str = "", monkey: pytest.MonkeyPatch | None = None) -> Claims:
    """What a host may have while the backup storage sees the machines named in ``seen``."""

    def looked(targets: list[Any], *_more: Any) -> dict[str, str]:
        return {target.name: "port 22 answers" if target.name in seen.split() else "" for target in targets}

    if monkey:
        monkey.setattr(_claimed, "look", looked)
    return Claims(layout, holder, "1+x protocol 3", lambda *_words, **_more: Completed(1, "", ""), NOW)
