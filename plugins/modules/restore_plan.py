#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_plan
short_description: Decide what a restore does for one VM
version_added: 0.1.0
description:
  - Runs on the control node and connects to nothing. It finds the image that C(resilient_vm_restore_point) means among
    those of the backup storage, and checks what is asked for.
  - Fails with one sentence when the restore point names no image, several, or one that can't be used, and when the
    machine asked for can't take it.
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
- name: Decide what is restored
  edgecloud.resilient_vm.restore_plan:
    plan: "{{ planned.plan }}"
    hosts: "{{ hosts | edgecloud.resilient_vm.told_of(planned.plan) }}"
    images: "{{ images | edgecloud.resilient_vm.told_of(planned.plan) }}"
  register: restore
"""

RETURN = r"""
decision:
  description: What is to be done.
  returned: success
  type: dict
  sample:
    image_id: 20260107T020000Z
    to: files
    host: c
    store: images
    travels: false
    path: /srv/erp-tuesday
    name: ""
    format: raw
    reserve_bytes: 1073741824
    bytes_allocated: 74481664
    disks:
      - target: vda
        size_bytes: 268435456
        root_digest: 5a8a2d0c2b6f3f5e7fd25cf1f1a7a9be4bb1dd4b9d95e0f9a1bd4c6c33a8de10
    definition:
      - name: domain.xml
        sha256: 0f343b0931126a20f133d67c2b018a3b1d4b3f4b5b0f6a3a2a63a2d2dca8e8f6
  contains:
    image_id:
      description: Id of the image that the restore point means.
      type: str
      returned: success
    to:
      description: What is made of it.
      type: str
      returned: success
    host:
      description: The machine where that is made.
      type: str
      returned: success
    store:
      description: Folder of the VM in which that machine has the image, V(images) or V(restores).
      type: str
      returned: success
    travels:
      description: Whether the image has to be copied to that machine first.
      type: bool
      returned: success
    path:
      description: The folder that is made for the files.
      type: str
      returned: success
    name:
      description: Name of the new VM, empty where files are restored.
      type: str
      returned: success
    format:
      description: Format of the restored disks.
      type: str
      returned: success
    reserve_bytes:
      description: Space that stays free on that machine.
      type: int
      returned: success
    bytes_allocated:
      description: Space in bytes that the image's files take alone.
      type: int
      returned: success
    disks:
      description: The image's disks with their sizes in bytes and their digests.
      type: list
      elements: dict
      returned: success
    definition:
      description: The image's other files with their digests.
      type: list
      elements: dict
      returned: success
"""
