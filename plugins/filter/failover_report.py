# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a takeover was."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _takeover_report

DOCUMENTATION = r"""
name: failover_report
short_description: What a takeover was
version_added: 0.1.0
description:
  - What a takeover has done, when its data is from and how long it took, for the journal and for people.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
positional: vm, done, seconds, steps
options:
  _input:
    description: The decision of M(edgecloud.resilient_vm.failover_plan).
    type: dict
    required: true
  vm:
    description: Name of the VM.
    type: str
    required: true
  done:
    description: What M(edgecloud.resilient_vm.vm_failover) returned.
    type: dict
    required: true
  seconds:
    description: How long it took from the command until that returned, in seconds.
    type: float
    required: true
  steps:
    description: What came of each step beside it (RV(edgecloud.resilient_vm.takeover_record#module:steps)).
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Show what was done
  ansible.builtin.debug:
    msg: "{{ (decided.decision | edgecloud.resilient_vm.failover_report('erp', done, 6.4)).lines }}"
"""

RETURN = r"""
_value:
  description: The report; C(lines) is for people.
  type: dict
"""


class FilterModule:
    """A filter of the takeover."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"failover_report": _takeover_report.report}
