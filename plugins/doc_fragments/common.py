# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that several modules share, documented once."""

from __future__ import annotations


class ModuleDocFragment:
    """``common`` for every module on a machine.

    ``common.vm`` adds the options of those that serve one VM, ``common.domains`` that of those that tell about many,
    ``common.decision`` what is said of those that decide on the control node,
    ``common.restored`` those of what is made of an image, ``common.files`` those of what reads its file systems.
    """

    DOCUMENTATION = r"""
options:
  root:
    description: Folder under which everything of this collection lies on this machine.
    type: path
    default: /var/lib/resilient-vm
  now:
    description:
      - Replaces this machine's clock, for tests. ISO 8601 with V(Z) or an offset, like V(2026-01-14T02:00:00Z).
    type: str
attributes:
  check_mode:
    description: Can run in check mode and return what it would change without changing it.
  diff_mode:
    description: Returns what changed, or would change, as C(before) and C(after).
"""

    VM = r"""
options:
  customer:
    description: Name of the customer, made of V(a-z), V(0-9) and V(-).
    type: str
    required: true
  vm:
    description: Name of the VM, which is its inventory name.
    type: str
    required: true
"""

    DECISION = r"""
attributes:
  check_mode:
    description: Changes nothing in either mode.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
options:
  plan:
    description: The VM's plan, from M(edgecloud.resilient_vm.vm_plan).
    type: dict
    required: true
"""

    DOMAINS = r"""
options:
  vms:
    description: The VMs to tell about.
    type: list
    elements: dict
    required: true
    suboptions:
      customer:
        description: Name of the customer.
        type: str
        required: true
      vm:
        description: Name of the VM, which is its inventory name.
        type: str
        required: true
      domain:
        description: Name of its libvirt domain. Left out, it is the VM's name.
        type: str
"""

    RESTORED = r"""
options:
  image_id:
    description: Id of the image.
    type: str
    required: true
  format:
    description: Format of the disks.
    type: str
    choices: [raw, qcow2]
    default: raw
  disks:
    description: The disks as the backup storage's manifest has them.
    type: list
    elements: dict
    required: true
    suboptions:
      target:
        description: Target name of the disk in the domain.
        type: str
        required: true
      size_bytes:
        description: Its size in bytes.
        type: int
        required: true
      root_digest:
        description: The digest that stands for the whole disk.
        type: str
        required: true
  bytes_allocated:
    description: Space in bytes that the image's files take alone.
    type: int
    default: 0
  bytes_arriving:
    description: Bytes of the image that are still to be copied to this machine.
    type: int
    default: 0
  reserve_bytes:
    description: Bytes that must stay free.
    type: int
    default: 1073741824
"""

    FILES = r"""
options:
  image_id:
    description: Id of the image.
    type: str
    required: true
  device:
    description:
      - The one file system to look at, named by the disk's target in the domain and the partition's number like
        V(vda1), or as a volume is named like V(/dev/vg0/home).
      - Left out, those that the guest's own system mounts, at their places; without a system in it, the only one.
    type: str
    default: ""
"""
