#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open or close a snapshot of all disks of a VM at one instant."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_snapshot
short_description: Open or close a snapshot of all disks of a VM at one instant
version_added: 0.1.0
description:
  - Runs on the active host. With O(state=present) all disks of the VM become readable as they were at one instant,
    for the backup storage to copy, while the VM runs on. With O(state=absent) that ends.
  - A running VM's disks are shown by a pull-mode backup job of libvirt, with a checkpoint on qcow2 disks so that the
    next image needs to read only what changed. Its file systems are frozen for the instant when it has a guest agent.
  - A stopped VM's disks are read where they lie. When somebody starts it meanwhile, the start wins and the snapshot
    ends.
  - CD-ROMs, floppy disks and empty drives are skipped. A device with data that is no plain disk is refused, unless it
    is named in O(exclude_disks).
  - A unit on the host watches the open snapshot. It ends the snapshot when nobody reads it for O(expire_seconds), or
    when what the VM overwrites meanwhile has filled the scratch space down to O(scratch_floor_bytes). The VM runs on.
  - Backup jobs and checkpoints of others are never touched.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.common
  - edgecloud.resilient_vm.common.vm
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  state:
    description: Whether a snapshot shall be open.
    type: str
    choices: [present, absent]
    default: present
  domain:
    description: Name of the libvirt domain.
    type: str
    required: true
  uuid:
    description: UUID the domain must have. Another one is refused, as another machine of the same name.
    type: str
  epoch:
    description: Number of the VM's active host period, which goes into the image. Required with O(state=present).
    type: int
  base:
    description: The newest image on the backup storage, from which changed blocks are counted. Left out, there is none.
    type: dict
    suboptions:
      image_id:
        description: Its id.
        type: str
        required: true
      checkpoint:
        description: Its checkpoint.
        type: str
      disks:
        description: For each disk target C(size_bytes), its size in bytes, and C(checkpoint), the checkpoint or null.
        type: dict
        required: true
  newest_id:
    description: Id of the newest image on the backup storage. A clock that isn't later than it is refused.
    type: str
  adopt_id:
    description: Id of an open snapshot that shall stay, since its image is half copied. Any other is replaced.
    type: str
  exclude_disks:
    description:
      - Targets of disks, and names of other devices as refusals spell them, to leave out of the image.
    type: list
    elements: str
    default: []
  freeze:
    description: Freeze the guest's file systems for the instant, when it has a guest agent.
    type: bool
    default: true
  expire_seconds:
    description: Time without a reader after which the snapshot ends by itself, in seconds.
    type: int
    default: 600
  scratch_floor_bytes:
    description: Free space on the scratch filesystem, in bytes, below which no snapshot opens and an open one ends.
    type: int
    default: 1073741824
  destinations:
    description: Where the image will go. The snapshot is refused when one has no room for it.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Inventory name, for the message.
        type: str
        required: true
      free_bytes:
        description: Free space in bytes.
        type: int
        required: true
      reserve_bytes:
        description: Space that must stay free, in bytes.
        type: int
        default: 0
  keep_checkpoint:
    description:
      - With O(state=absent), the one checkpoint of this collection that stays, which is the newest image's.
        All its others are deleted. Empty, all are. Left out, none is.
      - A stopped VM's checkpoints are deleted at the first chance after it runs again.
    type: str
"""

EXAMPLES = r"""
- name: Open a snapshot of erp
  edgecloud.resilient_vm.vm_snapshot:
    customer: acme
    vm: erp
    domain: erp
    epoch: 1
    base:
      image_id: 20260113T020000Z
      checkpoint: resilient-vm-20260113T020000Z-5c0e1f
      disks:
        vda:
          size_bytes: 268435456
          checkpoint: resilient-vm-20260113T020000Z-5c0e1f
    newest_id: 20260113T020000Z
  delegate_to: a
  register: opened

- name: Close it after its image was published
  edgecloud.resilient_vm.vm_snapshot:
    state: absent
    customer: acme
    vm: erp
    domain: erp
    keep_checkpoint: "{{ opened.snapshot.checkpoint }}"
  delegate_to: a
"""

RETURN = r"""
snapshot:
  description: The open snapshot; empty in check mode when none was adopted.
  returned: when O(state=present)
  type: dict
  sample:
    id: 20261122T231900Z
    instant: "2026-11-22T23:19:00Z"
    customer: acme
    vm: vm1
    domain: vm1
    uuid: 3c6bb72f-2a19-44b9-af47-a8ee60341a79
    epoch: 1
    consistency: filesystem
    consistency_reason: ""
    checkpoint: resilient-vm-20261122T231900Z-0d3e83
    disks:
      - target: vda
        format: qcow2
        size_bytes: 268435456
        socket: /run/resilient-vm/acme/vm1/qemu/nbd.sock
        export: vda
        checkpoint: resilient-vm-20261122T231900Z-0d3e83
        bitmap:
        bitmap_base:
        reason: the backup storage has no image to count from
      - target: vdc
        format: raw
        size_bytes: 33554432
        socket: /run/resilient-vm/acme/vm1/qemu/nbd.sock
        export: vdc
        checkpoint:
        bitmap:
        bitmap_base:
        reason: a raw disk carries no dirty bitmap
    skipped:
      - target: sda
        reason: CD-ROM
    excluded: []
    definition:
      - name: domain.xml
    libvirt_version: 9.0.0
    qemu_version: 7.2.22
    opened_monotonic_boot: 4ab559ce-16f7-4a59-8944-392a321f0e30
    schema: 1
  contains:
    id:
      description: Id of the image to be, which is the instant in UTC.
      type: str
      returned: success
    instant:
      description: The active host's clock right after the snapshot began.
      type: str
      returned: success
    consistency:
      description:
        - V(filesystem) when the guest's file systems were frozen at the instant, V(crash) when not, as after a power
          cut.
        - V(offline) when the VM was stopped. Its disks are then as its last stop left them, and that may have been a
          crash.
      type: str
      returned: success
    consistency_reason:
      description: Why it is not V(filesystem); empty when it is.
      type: str
      returned: success
    checkpoint:
      description: The checkpoint that counts what is written after the instant, or null when no disk can count.
      type: str
      returned: success
    disks:
      description:
        - The disks in the snapshot, with C(size_bytes) in bytes, where to read each (C(socket), C(export)), the dirty
          bitmap to read (C(bitmap), counting from image C(bitmap_base)) or in C(reason) why there is none.
      type: list
      elements: dict
      returned: success
    skipped:
      description: Drives that are not in the image, with the reason.
      type: list
      elements: dict
      returned: success
    excluded:
      description: Disks and devices left out by O(exclude_disks).
      type: list
      elements: str
      returned: success
    definition:
      description: Files of the machine definition captured with it.
      type: list
      elements: dict
      returned: success
adopted:
  description: Whether the snapshot was open already and stayed, by O(adopt_id).
  returned: when O(state=present)
  type: bool
  sample: false
estimate_bytes:
  description:
    - At most this many bytes differ from the newest image, by its dirty bitmaps and by the allocation of disks
      without one.
  returned: when O(state=present)
  type: int
  sample: 7479296
seconds:
  description: Time it took, in seconds.
  returned: when O(state=present)
  type: float
  sample: 0.525
closed:
  description: Whether a snapshot, or what a crash left of one, was there.
  returned: when O(state=absent)
  type: bool
  sample: true
removed_checkpoints:
  description: Checkpoints of this collection that were deleted.
  returned: when O(state=absent)
  type: list
  elements: str
  sample: [resilient-vm-20261122T231900Z-0d3e83]
"""

import time
from dataclasses import fields
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._snapshot_plan import (
    Wish,
    close,
    open_snapshot,
    plan_close,
    plan_open,
)


def argument_spec() -> dict[str, Any]:
    return {
        **vm_spec(),
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "domain": {"type": "str", "required": True},
        "uuid": {"type": "str"},
        "epoch": {"type": "int"},
        "base": {
            "type": "dict",
            "options": {
                "image_id": {"type": "str", "required": True},
                "checkpoint": {"type": "str"},
                "disks": {"type": "dict", "required": True},
            },
        },
        "newest_id": {"type": "str"},
        "adopt_id": {"type": "str"},
        "exclude_disks": {"type": "list", "elements": "str", "default": []},
        "freeze": {"type": "bool", "default": True},
        "expire_seconds": {"type": "int", "default": 600},
        "scratch_floor_bytes": {"type": "int", "default": 1 << 30},
        "destinations": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "name": {"type": "str", "required": True},
                "free_bytes": {"type": "int", "required": True},
                "reserve_bytes": {"type": "int", "default": 0},
            },
        },
        "keep_checkpoint": {"type": "str"},
    }


def present(module: AnsibleModule, layout: Layout) -> dict[str, Any]:
    started = time.monotonic()
    plan = plan_open(layout, run, Wish(**{field.name: module.params[field.name] for field in fields(Wish)}))
    document = {} if module.check_mode and plan.changes else open_snapshot(layout, run, plan)
    return {
        "changed": plan.changes,
        "diff": {"before": plan.before, "after": plan.after},
        "snapshot": document,
        "adopted": plan.adopted is not None,
        "estimate_bytes": plan.estimate_bytes,
        "seconds": round(time.monotonic() - started, 3),
    }


def absent(module: AnsibleModule, layout: Layout) -> dict[str, Any]:
    plan = plan_close(layout, run, module.params["domain"], module.params["keep_checkpoint"])
    if not module.check_mode:
        close(layout, run, plan)
    return {
        "changed": plan.changes,
        "diff": {"before": plan.before, "after": plan.after},
        "closed": bool(plan.leftovers),
        "removed_checkpoints": list(plan.delete),
    }


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True, required_if=[("state", "present", ["epoch"])])
    try:
        layout = Layout(module.params["customer"], module.params["vm"], module.params["root"])
        result = {"present": present, "absent": absent}[module.params["state"]](module, layout)
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
