# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what the inventory says about the protected VM at hand; connects to nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _settings
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._plan import make_plan
from ansible_collections.edgecloud.resilient_vm.plugins.plugin_utils import _run

_MACHINE_VARIABLES = (
    *(setting.variable for setting in _settings.TABLE if setting.scope != "vm"),
    "ansible_host",
    "ansible_port",
)


class ActionModule(ActionBase):
    _supports_check_mode = True
    _requires_connection = False
    TRANSFERS_FILES = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        self.validate_argument_spec({})
        # The VM's own as the play sees them, which includes what import_playbook and -e give.
        own = {
            setting.variable: self._templar.template(variables[setting.variable])
            for setting in _settings.TABLE
            if setting.variable in variables
        }
        try:
            plan = make_plan(
                str(variables["inventory_hostname"]),
                own,
                variables["groups"],
                lambda machine: self._variables_of(machine, variables["hostvars"]),
            )
        except ResilientVmError as error:
            return {**result, "failed": True, "changed": False, "msg": str(error), **error.facts}
        for sentence in _settings.unknown(variables):
            self._display.warning(f"{plan['vm']}: {sentence}")
        return {**result, "changed": False, "plan": {**plan, "who": self._who(variables)}, "begun": _run.begun()}

    @staticmethod
    def _who(variables: Mapping[str, Any]) -> str:
        """Whoever runs this, for the journals: what AWX says of its job, else the control node's user."""
        job = variables.get("awx_job_id") or variables.get("tower_job_id")
        user = variables.get("awx_user_name") or variables.get("tower_user_name")
        if job:
            return f"AWX job {job}" + (f" of {user}" if user else "")
        # Not getpass: an execution environment may run under a user id without a name.
        return f"{os.environ.get('USER') or f'user id {os.getuid()}'} on {socket.gethostname()}"

    @staticmethod
    def _variables_of(machine: str, hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        known = hostvars[machine]
        return {name: known[name] for name in _MACHINE_VARIABLES if name in known}
