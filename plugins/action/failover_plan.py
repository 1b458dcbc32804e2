# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide on the control node what an unplanned takeover does for one VM; connects to nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from ansible_collections.edgecloud.resilient_vm.plugins.action.mover import wanted_version
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._takeover import Facts, decide
from ansible_collections.edgecloud.resilient_vm.plugins.plugin_utils._decision import DecisionAction


class ActionModule(DecisionAction):
    SPEC: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "hosts": {"type": "dict", "required": True},
        "standbys": {"type": "dict", "required": True},
        "looks": {"type": "dict", "required": True},
        "fenced": {"type": "list", "elements": "dict", "default": []},
        "address": {"type": "dict", "default": {}},
        "brought": {"type": "dict", "default": {}},
        "confirm": {"type": "str", "default": ""},
        "scheduled": {"type": "bool", "default": False},
    }

    def decide(self, plan: Mapping[str, Any], given: Mapping[str, Any], now: datetime) -> Any:
        fenced = [(each["machine"], each["result"]) for each in given["fenced"]]
        facts = Facts(
            given["hosts"],
            given["standbys"],
            given["looks"],
            now,
            wanted_version(),
            fenced,
            given["address"],
            given["brought"],
        )
        return decide(plan, facts, given["confirm"], given["scheduled"])
