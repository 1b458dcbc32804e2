# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide on the control node what an unplanned takeover does for one VM; connects to nothing."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.edgecloud.resilient_vm.plugins.action.mover import wanted_version
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._takeover import Facts, decide

_SPEC = {
    "plan": {"type": "dict", "required": True},
    "hosts": {"type": "dict", "required": True},
    "standbys": {"type": "dict", "required": True},
    "looks": {"type": "dict", "required": True},
    "confirm": {"type": "str", "default": ""},
    "scheduled": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    _supports_check_mode = True
    _requires_connection = False
    TRANSFERS_FILES = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, given = self.validate_argument_spec(_SPEC)
        plan = given["plan"]
        try:
            now = _clock.now(plan["nows"].get("localhost"))
            facts = Facts(given["hosts"], given["standbys"], given["looks"], now, wanted_version())
            decision = decide(plan, facts, given["confirm"], given["scheduled"])
        except ResilientVmError as error:
            return {**result, "failed": True, "changed": False, "msg": str(error), **error.facts}
        return {**result, "changed": False, "decision": asdict(decision)}
