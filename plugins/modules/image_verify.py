#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what a machine keeps of a VM against its digests, and mend what can be mended."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_verify
short_description: Verify images or generations of a VM, and mend what can be mended
version_added: 0.1.0
description:
  - Runs on the backup storage for the images of a VM, or on a host for its generations.
  - Each run checks the manifest, definition and digest files of every image as a whole, and every block that is marked
    as damaged.
  - Of the disks it reads a share, the same places in every image, so that runs on O(days) days have read everything.
    With O(everything) it reads all of them. Blocks that images share on the device, and that are to hold the same, are
    read once.
  - What is wrong is marked first, so that its image isn't used for anything. Then it is written anew from another image
    on this machine that has the right bytes, read back, and the mark taken away. Nothing is written that a digest
    doesn't prove.
  - How far it is lies on the disk. A run that was killed is gone on with by the next one.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.common
  - edgecloud.resilient_vm.common.vm
attributes:
  check_mode:
    description: Says how much would be read and which damage is known. No disk is read, nothing marked or mended.
    support: full
  diff_mode:
    description: Tells the known damage before and after.
    support: full
options:
  store:
    description: Folder of the VM that is verified, V(images) on the backup storage, V(generations) on a host.
    type: str
    choices: [images, generations]
    default: images
  days:
    description: Number of days within which daily runs read everything.
    type: int
    default: 14
  everything:
    description: Whether all of it is read now.
    type: bool
    default: false
  rate:
    description: Bytes a second that are read at most; V(0) for no limit.
    type: int
    default: 0
  seconds:
    description: After so long the module returns with RV(running) true and RV(goal), to be called again with O(goal).
    type: float
    default: 20
  goal:
    description: Where to stop in each disk, as RV(goal) of the turn before; the action plugin gives it.
    type: dict
"""

EXAMPLES = r"""
- name: Read a day's share of the images of erp
  edgecloud.resilient_vm.image_verify:
    customer: acme
    vm: erp
    days: 14
  delegate_to: c
"""

RETURN = r"""
running:
  description: Whether the time was over before the goal was reached.
  returned: success
  type: bool
  sample: false
goal:
  description: For each disk that is not done, number of the block before which this run is to stop.
  returned: success
  type: dict
  sample:
    vda: 4096
read_bytes:
  description: Bytes read from the disks of images; in check mode, that would be read at most.
  returned: success
  type: int
  sample: 268435456
shared_bytes:
  description: Bytes that needed no reading, because another image holds them at the same place of the device.
  returned: success
  type: int
  sample: 3489660928
repaired:
  description: What was found damaged, in this run or earlier, and is right again.
  returned: success
  type: list
  elements: dict
  sample:
    - image: 20260114T020000Z
      disk: vda
      offset_bytes: 65536
      from: 20260113T020000Z
  contains:
    image:
      description: Id of the image or generation.
      type: str
      returned: success
    disk:
      description: Target of the disk, or name of the file when it is another one.
      type: str
      returned: success
    offset_bytes:
      description: Where the block begins.
      type: int
      returned: success
    from:
      description: Where the right bytes were.
      type: str
      returned: success
damaged:
  description: Marks of what is damaged still, as in C(damaged.json), each with its image.
  returned: success
  type: list
  elements: dict
  sample:
    - image: 20260114T020000Z
      disk: vda
      offset_bytes: 65536
      found: '2026-01-15T04:00:00Z'
      found_by: verify
      right_at: '2026-01-14T02:10:00Z'
told:
  description: One sentence for each thing that was mended.
  returned: success
  type: list
  elements: str
wrong:
  description: One sentence for each thing that is damaged still.
  returned: success
  type: list
  elements: str
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._mended import write_down
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._verify import Verification, Wish, standing, told


def main() -> None:
    module = AnsibleModule(
        {
            **vm_spec(),
            "store": {"type": "str", "choices": ["images", "generations"], "default": "images"},
            "days": {"type": "int", "default": 14},
            "everything": {"type": "bool", "default": False},
            "rate": {"type": "int", "default": 0},
            "seconds": {"type": "float", "default": 20.0},
            "goal": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        if given["days"] < 1 or given["rate"] < 0:
            raise ResilientVmError(f"days {given['days']} and rate {given['rate']} can't be; 1 day or more, 0 or more")
        store = Store(Layout(given["customer"], given["vm"], given["root"]), given["store"])
        if not os.path.isdir(store.folder):
            raise ResilientVmError(f"{store.folder} is not there; run the site playbook", path=store.folder)
        goal = None if given["goal"] is None else {name: int(block) for name, block in given["goal"].items()}
        wish = Wish(given["days"], given["everything"], given["rate"], given["seconds"], goal)
        verification = Verification(store, wish, _clock.now(given["now"]))
        before = standing(store)
        if module.check_mode:
            result = verification.plan()
        else:
            # Whatever else this machine does comes first.
            os.nice(19)
            run(["ionice", "-c", "3", "-p", str(os.getpid())])
            result = verification.run()
            write_down(store.layout, given["store"], result["repaired"], _clock.now(given["now"]))
        damaged, problems = standing(store)
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    sentences = told(store, result["repaired"], damaged, problems)
    diff = {"before": {"damaged": before[0]}, "after": {"damaged": damaged}}
    changed = bool(result["repaired"]) or before != (damaged, problems)
    module.exit_json(changed=changed, damaged=damaged, diff=diff, **result, **sentences)


if __name__ == "__main__":
    main()
