# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide something for one VM on the control node, from what its machines said; connects to nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, ClassVar

from ansible.plugins.action import ActionBase

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError

__all__ = ["DecisionAction"]


class DecisionAction(ActionBase):
    """Gives ``decision``, or fails with its refusal. A subclass names its arguments, ``plan`` aside, and decides."""

    _supports_check_mode = True
    _requires_connection = False
    TRANSFERS_FILES = False

    SPEC: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def decide(self, plan: Mapping[str, Any], given: Mapping[str, Any], now: datetime) -> Any:
        """The decision, a dataclass; ``now`` is the control node's clock. Raises ResilientVmError to refuse."""
        raise NotImplementedError

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, given = self.validate_argument_spec({"plan": {"type": "dict", "required": True}, **self.SPEC})
        try:
            now = _clock.now(given["plan"]["nows"].get("localhost"))
            decision = self.decide(given["plan"], given, now)
        except ResilientVmError as error:
            return {**result, "failed": True, "changed": False, "msg": str(error), **error.facts}
        return {**result, "changed": False, "decision": asdict(decision)}
