#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: failover_plan
short_description: Decide what an unplanned takeover does for one VM
version_added: 0.1.0
description:
  - Runs on the control node and connects to nothing. From what the backup storage and the standby host say, and from
    what these two and the control node see of the active host, it decides by one table (see the page on takeover).
  - Fails with one sentence a problem when nothing may be done.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.common.decision
options:
  hosts:
    description:
      - What the backup storage and the standby host said of themselves and the VM
        (M(edgecloud.resilient_vm.host_info)), by inventory name, as the filter
        P(edgecloud.resilient_vm.told_of#filter) picks it out of a loop's result.
    type: dict
    required: true
  standbys:
    description:
      - What the standby host said of its generations (M(edgecloud.resilient_vm.standby_info)), in the same form.
    type: dict
    required: true
  looks:
    description:
      - What each machine saw (RV(edgecloud.resilient_vm.vm_look#module:seen)), by inventory name; V(localhost) is the
        control node.
    type: dict
    required: true
  fenced:
    description:
      - For each machine that was to power the active host off, C(machine) and in C(result) what
        M(edgecloud.resilient_vm.host_fence) returned there.
    type: list
    elements: dict
    default: []
  address:
    description:
      - What the standby host heard at the guest's address (RV(edgecloud.resilient_vm.vm_look#module:address)); empty
        when it was not to ask.
    type: dict
    default: {}
  brought:
    description:
      - Once it was tried to bring the backup storage's newest image to the standby host, which C(image), how many
        C(seconds) it took, and in C(problem) why it failed.
    type: dict
    default: {}
  confirm:
    description: The operator's word, or several separated by commas.
    type: str
    default: ""
  scheduled:
    description: Whether this is a scheduled job, in which nobody gives a word.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Decide
  edgecloud.resilient_vm.failover_plan:
    plan: "{{ planned.plan }}"
    hosts: "{{ hosts | edgecloud.resilient_vm.told_of(planned.plan) }}"
    standbys: "{{ standbys | edgecloud.resilient_vm.told_of(planned.plan) }}"
    looks: "{{ looks }}"
  register: decided
"""

RETURN = r"""
decision:
  description:
    - What is to be done. C(action) is V(nothing) when it runs there already, V(bring) when
      the backup storage's newer image, C(generation), is to be brought there first, V(fence) when the active host is
      to be powered off first, V(confirm) when the operator's word is needed, and V(take); the rest says of
      which host, by which one, at which epoch and from which generation.
  returned: success
  type: dict
  sample:
    action: confirm
    why: nobody sees a, but only somebody who knows can say that it is off
    active: a
    taker: b
    epoch: 1
    new_epoch: 2
    resumed: false
    uuid: 3c6bb72f-2a19-44b9-af47-a8ee60341a79
    nonce: ""
    generation: 20260114T020000Z
    data_time: "2026-01-14T02:00:00Z"
    lost_seconds: 34210
    evidence:
      vm: erp
      active: a
      standby: b
      backup_storage: c
      vm_answers: false
      seen_by_control: false
      seen_by_standby: false
      seen_by_backup_storage: false
      standby_sees_backup_storage: true
      fencing: false
      power: unknown
      fenced: ""
      confirmed: false
    address:
      address: 192.0.2.80
      devices: [vmbr0]
      mac: ""
      device: ""
      own: false
      unchecked: ""
    remarks: []
"""
