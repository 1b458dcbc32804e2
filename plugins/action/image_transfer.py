# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module of this name in short turns and show how far the copy is in between.

The copy itself runs in a unit on the backup storage. So a turn that can't reach that machine says nothing about the
copy, and is tried again for a while.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.utils.display import Display

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._human import progress_text
from ansible_collections.edgecloud.resilient_vm.plugins.plugin_utils._remote import RemoteAction

# Most copies end within the first turn; those that take hours need no line every few seconds.
_TURNS_SECONDS = (10.0, 20.0, 30.0, 60.0)
_PATIENCE = 20
_PAUSE_SECONDS = 15.0


class ActionModule(RemoteAction):
    """Comes back when the copy has ended."""

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        wanted = dict(self._task.args)
        known: dict[str, Any] = {}
        turn = silent = 0
        while True:
            self._task.args = {**wanted, **known, "wait_seconds": _TURNS_SECONDS[min(turn, len(_TURNS_SECONDS) - 1)]}
            result = super().run(tmp, task_vars)
            if known and not result["reachable"] and silent < _PATIENCE:
                silent += 1
                time.sleep(_PAUSE_SECONDS)
                continue
            if result.get("failed") or not result.get("running"):
                return result
            turn, silent = turn + 1, 0
            known = {"token": result["token"], "attached": result["attached"]}
            vm = (task_vars or {}).get("inventory_hostname", wanted.get("vm"))
            # Not on stdout, which may be a callback's JSON.
            Display().display(f"{vm}: {progress_text(result['progress'])}", stderr=True)
