# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module of this name in short turns, so that a machine that dies is noticed, and show how far it is."""

from __future__ import annotations

from typing import Any

from ansible.utils.display import Display

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._human import human_size
from ansible_collections.edgecloud.resilient_vm.plugins.plugin_utils._remote import RemoteAction


class ActionModule(RemoteAction):
    """Comes back when the goal is reached; what is damaged still is what the last turn says."""

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        wanted = dict(self._task.args)
        whole: dict[str, Any] = {"read_bytes": 0, "shared_bytes": 0, "repaired": [], "told": [], "changed": False}
        goal: dict[str, int] | None = None
        while True:
            self._task.args = wanted if goal is None else {**wanted, "goal": goal}
            result = super().run(tmp, task_vars)
            if result.get("failed"):
                return result
            whole = {
                **{name: known + result[name] for name, known in whole.items() if name != "changed"},
                "changed": whole["changed"] or result["changed"],
            }
            if not result["running"]:
                return {**result, **whole}
            goal = result["goal"]
            vm = (task_vars or {}).get("inventory_hostname", wanted.get("vm"))
            said = f"{vm}: verifying {wanted.get('store', 'images')}, {human_size(whole['read_bytes'])} read"
            # Not on stdout, which may be a callback's JSON.
            Display().display(said, stderr=True)
