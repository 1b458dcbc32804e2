#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: files_plan
short_description: Decide which image files are taken out of for one VM
version_added: 0.1.0
description:
  - Runs on the control node and connects to nothing. It finds the image that C(resilient_vm_restore_point) means among
    those of the backup storage, and what the other variables ask of it.
  - Fails with one sentence when the restore point names no image, several, or one that can't be used.
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
- name: Decide which image is read
  edgecloud.resilient_vm.files_plan:
    plan: "{{ planned.plan }}"
    hosts: "{{ hosts | edgecloud.resilient_vm.told_of(planned.plan) }}"
    images: "{{ images | edgecloud.resilient_vm.told_of(planned.plan) }}"
  register: files
"""

RETURN = r"""
decision:
  description: What is to be done.
  returned: success
  type: dict
  sample:
    image_id: 20260107T020000Z
    host: c
    path: /srv/tuesday
    device: ""
    take: [/etc/fstab, /home/anna]
    list: []
    reserve_bytes: 1073741824
  contains:
    image_id:
      description: Id of the image that the restore point means.
      type: str
      returned: success
    host:
      description: The backup storage, where the image is read and the files are laid.
      type: str
      returned: success
    path:
      description: The folder that is made for the files; empty when the image is only looked at.
      type: str
      returned: success
    device:
      description: The one file system that is looked at, empty for those that the guest's own system mounts.
      type: str
      returned: success
    take:
      description: What is taken out.
      type: list
      elements: str
      returned: success
    list:
      description: What is listed.
      type: list
      elements: str
      returned: success
    reserve_bytes:
      description: Space that stays free on that machine.
      type: int
      returned: success
"""
