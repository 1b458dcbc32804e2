# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module of this name until the disks are moved, and show how far they are in between.

The copy is libvirt's on that host: a turn that fails says nothing else than that turn.
"""

from __future__ import annotations

from typing import Any

from ansible.utils.display import Display

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._human import human_size
from ansible_collections.edgecloud.resilient_vm.plugins.plugin_utils._remote import RemoteAction


class ActionModule(RemoteAction):
    """Comes back when the VM runs on the disks in their new place."""

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        while True:
            result = super().run(tmp, task_vars)
            if result.get("failed") or not result.get("running"):
                return result
            vm = (task_vars or {}).get("inventory_hostname", self._task.args.get("vm"))
            done, total = result["progress"]["bytes_done"], result["progress"]["bytes_total"]
            # Not on stdout, which may be a callback's JSON.
            said = f"{vm}: its disks move, {human_size(done)} of {human_size(total)}"
            Display().display(said, stderr=True)
