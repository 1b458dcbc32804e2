#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_preflight
short_description: Decide what a run does for one VM
version_added: 0.1.0
description:
  - Runs on the control node and connects to nothing. It weighs what the VM's machines said.
  - Fails, with a line for each reason, when nothing may be done, for example when clocks or state documents disagree,
    when the VM runs on its standby host or when somebody else's backup job is active.
  - A host that can't be reached stops only what needs it. The reason is then in RV(decision.later), for the end of the
    run.
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
  standbys:
    description: What the standby host said of the VM (M(edgecloud.resilient_vm.standby_info)), in the same form.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Decide what this run does for the VM
  edgecloud.resilient_vm.vm_preflight:
    plan: "{{ planned.plan }}"
    hosts: "{{ hosts | edgecloud.resilient_vm.told_of(planned.plan) }}"
    images: "{{ images | edgecloud.resilient_vm.told_of(planned.plan) }}"
    standbys: "{{ standbys | edgecloud.resilient_vm.told_of(planned.plan) }}"
  register: preflight
"""

RETURN = r"""
decision:
  description: What is to be done.
  returned: success
  type: dict
  sample:
    take_image: true
    why: the newest image is of 2026-01-13
    active: a
    standby: b
    epoch: 1
    newest_id: 20260113T020000Z
    refresh_standby: true
    reprotects: false
    prune: true
    untold: []
    later: []
    notes: []
  contains:
    take_image:
      description: Whether an image is taken.
      type: bool
      returned: success
    why:
      description: Why, or why not.
      type: str
      returned: success
    active:
      description: The machine that may run the VM now.
      type: str
      returned: success
    standby:
      description: The other host.
      type: str
      returned: success
    epoch:
      description: Number of the VM's active host period.
      type: int
      returned: success
    uuid:
      description: UUID under which the VM is protected, or null.
      type: str
      returned: success
    newest_id:
      description: Id of the newest image whatever its state, or null.
      type: str
      returned: success
    newest_complete_id:
      description: Id of the newest complete image, or null.
      type: str
      returned: success
    base:
      description: The image dirty bitmaps may count from, with its checkpoints and disk sizes in bytes, or null.
      type: dict
      returned: success
    adopt_id:
      description: Id of a snapshot of an earlier run that is still open and good, or null.
      type: str
      returned: success
    keep_checkpoint:
      description: The checkpoint that stays while no newer image has been published; empty for none.
      type: str
      returned: success
    close_leftovers:
      description: Whether the active host has something of an earlier run to clear away.
      type: bool
      returned: success
    refresh_standby:
      description: Whether the standby host is brought up to the newest image.
      type: bool
      returned: success
    reprotects:
      description: Whether the standby host becomes that by it, for the first time since the VM left it.
      type: bool
      returned: success
    standby_generation:
      description: Id of the newest generation of the standby host as far as is known, or null.
      type: str
      returned: success
    prune:
      description: Whether old images may be erased.
      type: bool
      returned: success
    untold:
      description: Hosts that hold the VM in another phase than the backup storage, since a run was cut off in between.
      type: list
      elements: str
      returned: success
    destinations:
      description: Where the image goes, with free and reserved space in bytes.
      type: list
      elements: dict
      returned: success
    later:
      description: What turns the run red at its end without stopping it, a sentence each.
      type: list
      elements: str
      returned: success
    notes:
      description: What a person should know, a sentence each.
      type: list
      elements: str
      returned: success
problems:
  description: One sentence for each reason why nothing may be done.
  returned: failure
  type: list
  elements: str
"""
