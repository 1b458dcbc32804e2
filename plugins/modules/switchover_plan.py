#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: switchover_plan
short_description: Decide what a planned change of hosts does for one VM
version_added: 0.1.0
description:
  - Runs on the control node and connects to nothing.
  - Fails with one sentence for each thing in the way, before anything is touched.
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
"""

EXAMPLES = r"""
- name: Decide where the VM shall live
  edgecloud.resilient_vm.switchover_plan:
    plan: "{{ planned.plan }}"
    hosts: "{{ hosts | edgecloud.resilient_vm.told_of(planned.plan) }}"
    standbys: "{{ standbys | edgecloud.resilient_vm.told_of(planned.plan) }}"
  register: switchover
"""

RETURN = r"""
decision:
  description: What is to be done.
  returned: success
  type: dict
  sample:
    action: switch
    why: erp moves from a to b
    active: a
    standby: b
    epoch: 1
    uuid: 11111111-2222-4333-8444-555555555555
  contains:
    action:
      description:
        - V(nothing) when it lives there already, V(switch), V(resume) what a run that was cut off has begun, V(start)
          what one has moved, V(give_up) what one has begun.
      type: str
      returned: success
    why:
      description: The same as a sentence.
      type: str
      returned: success
    active:
      description: The host where the VM lives.
      type: str
      returned: success
    standby:
      description: The other host.
      type: str
      returned: success
    epoch:
      description: Epoch of the VM.
      type: int
      returned: success
    uuid:
      description: Its UUID.
      type: str
      returned: success
"""
