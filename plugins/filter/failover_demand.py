# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a takeover asks the operator for."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _takeover

DOCUMENTATION = r"""
name: failover_demand
short_description: What a takeover asks the operator for
version_added: 0.1.0
description:
  - The sentences by which a takeover asks for the operator's word that the active host is off, with the command that
    goes on and what it costs.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
positional: vm, nonce, command
options:
  _input:
    description: The decision of M(edgecloud.resilient_vm.failover_plan).
    type: dict
    required: true
  vm:
    description: Name of the VM.
    type: str
    required: true
  nonce:
    description: What M(edgecloud.resilient_vm.failover_nonce) issued.
    type: str
    required: true
  command:
    description: The command that was run.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Ask for the operator's word
  ansible.builtin.fail:
    msg: "{{ decided.decision | edgecloud.resilient_vm.failover_demand('erp', asked.nonce, command) }}"
"""

RETURN = r"""
_value:
  description: The text.
  type: str
"""


class FilterModule:
    """A filter of the takeover."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"failover_demand": _takeover.demand}
