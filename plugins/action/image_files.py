# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module of this name; a machine that can't be reached is an ordinary failure of the VM."""

from __future__ import annotations

from ansible_collections.edgecloud.resilient_vm.plugins.plugin_utils._remote import RemoteAction


class ActionModule(RemoteAction):
    pass
