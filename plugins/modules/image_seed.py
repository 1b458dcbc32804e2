#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lay what somebody brought where a VM's first copy would have arrived."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_seed
short_description: Start a VM's first copy from a disk that was brought
version_added: 0.1.0
description:
  - Runs on the backup storage before the VM's first image, or on the standby host before its first generation.
  - Takes over raw files (a disk that was sent by post, an older copy) as what an interrupted transfer would have left.
  - The next transfer checks every block of it, compares digests with the live disk, and only what differs travels.
  - The files that were brought are left as they are.
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
  store:
    description: What this machine keeps of the VM, V(images) on the backup storage or V(generations) on the standby.
    type: str
    choices: [images, generations]
    default: images
  uuid:
    description: UUID of the domain.
    type: str
    required: true
  disks:
    description: The VM's disks.
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
  seeds:
    description: Path of the raw file, on this machine, for each target.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Begin with the disk that came by post
  edgecloud.resilient_vm.image_seed:
    customer: acme
    vm: erp
    uuid: 3c6bb72f-2a19-44b9-af47-a8ee60341a79
    disks:
      - target: vda
        size_bytes: 268435456
    seeds:
      vda: /mnt/usb/erp-vda.raw
  delegate_to: c
"""

RETURN = r"""
seeds:
  description: What came of each seed.
  returned: success
  type: list
  elements: dict
  sample:
    - target: vda
      path: /mnt/usb/erp-vda.raw
      size_bytes: 268435456
      changed: true
  contains:
    target:
      description: Target name of the disk.
      type: str
      returned: success
    path:
      description: The file that was brought.
      type: str
      returned: success
    size_bytes:
      description: Its size in bytes.
      type: int
      returned: success
    changed:
      description: Whether it was laid now (or would be, in check mode). False, it was there already.
      type: bool
      returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._seed import check, lay, seeds_of
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store


def main() -> None:
    module = AnsibleModule(
        {
            **vm_spec(),
            "store": {"type": "str", "choices": ["images", "generations"], "default": "images"},
            "uuid": {"type": "str", "required": True},
            "disks": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "target": {"type": "str", "required": True},
                    "size_bytes": {"type": "int", "required": True},
                },
            },
            "seeds": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    sizes = {disk["target"]: disk["size_bytes"] for disk in wanted["disks"]}
    try:
        layout = Layout(wanted["customer"], wanted["vm"], wanted["root"])
        seeds = seeds_of(wanted["seeds"], sizes)
        check(layout, Store(layout, wanted["store"]), seeds, sorted(sizes))
        laid = lay(layout, seeds, wanted["uuid"], _clock.image_id(_clock.now(wanted["now"])), module.check_mode)
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    changed = [seed["target"] for seed in laid if seed["changed"]]
    before = [seed["target"] for seed in laid if not seed["changed"]]
    diff = {"before": {"seeded": before}, "after": {"seeded": [seed["target"] for seed in laid]}}
    module.exit_json(changed=bool(changed), seeds=laid, diff=diff)


if __name__ == "__main__":
    main()
