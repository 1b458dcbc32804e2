# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide on the control node which image restore_files reads for one VM; connects to nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ansible_collections.edgecloud.resilient_vm.plugins.action.mover import wanted_version
from ansible_collections.edgecloud.resilient_vm.plugins.action.restore_plan import ActionModule as RestorePlan
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files_plan import decide


class ActionModule(RestorePlan):
    def decide(self, plan: Mapping[str, Any], given: Mapping[str, Any], now: datetime) -> Any:
        return decide(plan, given["hosts"], given["images"], now, wanted_version())
