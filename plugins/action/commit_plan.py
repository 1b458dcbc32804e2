# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide on the control node whether a takeover stays; connects to nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from ansible_collections.edgecloud.resilient_vm.plugins.action.mover import wanted_version
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._commit import decide
from ansible_collections.edgecloud.resilient_vm.plugins.plugin_utils._decision import DecisionAction


class ActionModule(DecisionAction):
    SPEC: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "hosts": {"type": "dict", "required": True},
    }

    def decide(self, plan: Mapping[str, Any], given: Mapping[str, Any], now: datetime) -> Any:  # noqa: ARG002
        return decide(plan, given["hosts"], wanted_version())
