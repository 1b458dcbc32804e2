#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: resolve_plan
short_description: Decide what is done about machines that disagree on where a VM lives
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
"""

EXAMPLES = r"""
- name: Decide whose disks count
  edgecloud.resilient_vm.resolve_plan:
    plan: "{{ planned.plan }}"
    hosts: "{{ hosts | edgecloud.resilient_vm.told_of(planned.plan) }}"
  register: resolved
"""

RETURN = r"""
decision:
  description: What is to be done.
  returned: success
  type: dict
  sample:
    action: resolve
    why: >-
      the disks of erp on a count, and what b has is kept there until reprotect puts it aside (a: epoch 1 on a, b: epoch
      2 on b, c: epoch 1 on a)
    active: a
    standby: b
    newer:
    epoch: 2
    steps: [find_split_brain, resolve_there]
  contains:
    action:
      description: V(resolve), or V(nothing) where the machines agree.
      type: str
      returned: success
    why:
      description: The same as a sentence.
      type: str
      returned: success
    active:
      description: The host whose disks count.
      type: str
      returned: success
    standby:
      description: The other host.
      type: str
      returned: success
    newer:
      description: The document that the backup storage follows first, where a host knows a newer epoch than it does.
      type: dict
      returned: success
    epoch:
      description: Epoch from which the steps are taken.
      type: int
      returned: success
    steps:
      description: Transitions that the backup storage takes, one after the other.
      type: list
      elements: str
      returned: success
"""
