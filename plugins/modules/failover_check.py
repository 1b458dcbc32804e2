#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: failover_check
short_description: Say whether a takeover of one VM would work right now
version_added: 0.1.0
description:
  - Runs on the control node and connects to nothing. It weighs what the VM's machines said.
  - Fails for nothing; what would stop a takeover is in RV(decision).
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.common.decision
options:
  hosts:
    description:
      - What each machine said of itself and the VM (M(edgecloud.resilient_vm.host_info)), by inventory name, as the
        filter P(edgecloud.resilient_vm.told_of#filter) picks it out of a loop's result.
    type: dict
    required: true
  standbys:
    description: What the standby host said of the VM (M(edgecloud.resilient_vm.standby_info)), in the same form.
    type: dict
    required: true
  gate:
    description: What is wrong with the gate, from P(edgecloud.resilient_vm.gate_problems#filter).
    type: list
    elements: str
    default: []
  seen:
    description: How the standby host reached the others (RV(edgecloud.resilient_vm.vm_look#module:seen)).
    type: dict
    default: {}
  fenced:
    description:
      - For each machine that asked the active host's fence agent for its status, C(machine) and in C(result) what
        M(edgecloud.resilient_vm.host_fence) returned there.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: See whether it would work
  edgecloud.resilient_vm.failover_check:
    plan: "{{ planned.plan }}"
    hosts: "{{ hosts | edgecloud.resilient_vm.told_of(planned.plan) }}"
    standbys: "{{ standbys | edgecloud.resilient_vm.told_of(planned.plan) }}"
  register: checked
"""

RETURN = r"""
decision:
  description: C(findings), a sentence for each thing that would stop it, and C(lines), the same for people.
  returned: success
  type: dict
  sample:
    findings: []
    lines:
      - "erp: a takeover by b would work now"
"""
