#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: reprotect_plan
short_description: Decide whether a host is made the standby of a VM again
version_added: 0.1.0
description:
  - Runs on the control node and connects to nothing.
  - Fails with one sentence for each thing in the way, before anything is touched. A machine that doesn't answer is one,
    a VM that runs on the host that shall stand by is another.
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
  images:
    description: What the backup storage said of the VM (M(edgecloud.resilient_vm.image_info)), in the same form.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Decide whether somebody is to stand by
  edgecloud.resilient_vm.reprotect_plan:
    plan: "{{ planned.plan }}"
    hosts: "{{ hosts | edgecloud.resilient_vm.told_of(planned.plan) }}"
    images: "{{ images | edgecloud.resilient_vm.told_of(planned.plan) }}"
  register: reprotect
"""

RETURN = r"""
decision:
  description: What is to be done.
  returned: success
  type: dict
  sample:
    action: prepare
    why: a is made the standby host of erp, which lives on b
    active: b
    standby: a
    epoch: 2
    uuid: 11111111-2222-4333-8444-555555555555
    begun: false
    image_id: 20260115T020000Z
    bytes_allocated: 74481664
    reserve_bytes: 1073741824
    disks:
      - target: vda
        size_bytes: 268435456
  contains:
    action:
      description: V(prepare), or V(nothing) when somebody stands by already.
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
      description: The host that is to stand by.
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
    begun:
      description: Whether an earlier run has begun with it.
      type: bool
      returned: success
    image_id:
      description: The newest image, empty when there is none.
      type: str
      returned: success
    bytes_allocated:
      description: Space in bytes that it takes alone.
      type: int
      returned: success
    reserve_bytes:
      description: Space that stays free on the host that is to stand by.
      type: int
      returned: success
    disks:
      description: That image's disks with their sizes in bytes.
      type: list
      elements: dict
      returned: success
"""
