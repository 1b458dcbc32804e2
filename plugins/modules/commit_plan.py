#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: commit_plan
short_description: Decide whether a takeover stays
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
        filter P(edgecloud.resilient_vm.told_of#filter) picks it out of a loop's result. The host that the VM was taken
        from may be silent.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Decide whether the VM stays where it was taken over
  edgecloud.resilient_vm.commit_plan:
    plan: "{{ planned.plan }}"
    hosts: "{{ hosts | edgecloud.resilient_vm.told_of(planned.plan) }}"
  register: commit
"""

RETURN = r"""
decision:
  description: What is to be done.
  returned: success
  type: dict
  sample:
    action: commit
    why: >-
      erp stays on b, and failover_undo is over; the disks on a are kept, and reprotect makes it the standby host when
      it is up
    active: b
    standby: a
    epoch: 2
    followers: [b]
  contains:
    action:
      description: V(commit), or V(nothing) when there is no way back any more.
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
      description: The host that it was taken from.
      type: str
      returned: success
    epoch:
      description: Epoch of the VM.
      type: int
      returned: success
    followers:
      description: The hosts that answer, and are to be told of it.
      type: list
      elements: str
      returned: success
"""
