# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a module on a machine so that a machine that can't be reached is an ordinary failure.

Ansible takes a host with an unreachable task out of the run without asking any rescue; but the host is a protected VM
here, and the machine that doesn't answer is one of three.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock

__all__ = ["RemoteAction"]


class RemoteAction(ActionBase):
    """Adds to the module's result whether the machine answered, and the control node's clock before and after."""

    _supports_check_mode = True

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        asked = datetime.now(timezone.utc)
        try:
            result.update(self._execute_module(task_vars=task_vars))
        except AnsibleConnectionFailure as error:
            machine = self._task.delegate_to or (task_vars or {}).get("inventory_hostname")
            reason = " ".join(str(error).split())
            result.update(
                failed=True,
                msg=f"machine {machine} can't be reached ({reason}); bring it back, or correct its address in the "
                "inventory, and run again",
            )
            # Ansible clears its temporary folder away after us, over the connection that has just failed.
            self._connection._shell.tmpdir = None
            return {**result, "reachable": False}
        answered = datetime.now(timezone.utc)
        return {**result, "reachable": True, "asked": _clock.iso(asked), "answered": _clock.iso(answered)}
