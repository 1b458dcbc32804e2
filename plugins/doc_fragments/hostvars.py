# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the filters that look at many VMs' variables, documented once."""

from __future__ import annotations


class ModuleDocFragment:
    """What such a filter is applied to, and the VMs meant."""

    DOCUMENTATION = r"""
options:
  _input:
    description: The variable C(hostvars).
    type: dict
    required: true
  vms:
    description: Inventory names of the VMs.
    type: list
    elements: str
    required: true
"""
