#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: undo_plan
short_description: Decide whether a takeover is undone
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
- name: Decide whether the VM goes back
  edgecloud.resilient_vm.undo_plan:
    plan: "{{ planned.plan }}"
    hosts: "{{ hosts | edgecloud.resilient_vm.told_of(planned.plan) }}"
  register: undo
"""

RETURN = r"""
decision:
  description: What is to be done.
  returned: success
  type: dict
  sample:
    action: confirm
    why: >-
      erp goes back from b to a, on the disks it had there; what was written since 2026-01-14T11:30:00Z is then only in
      images taken on b, and in its disks there
    active: b
    standby: a
    epoch: 2
    uuid: 11111111-2222-4333-8444-555555555555
    word: erp@b#0badcafe
  contains:
    action:
      description:
        - V(confirm) when the operator's word is missing, V(undo), or V(start) where only the start is missing.
      type: str
      returned: success
    why:
      description: The same as a sentence, with what it costs.
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
    uuid:
      description: Its UUID.
      type: str
      returned: success
    word:
      description: The word that confirms it.
      type: str
      returned: success
"""
