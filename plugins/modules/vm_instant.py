#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a new VM at once from an image that the backup storage lends."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_instant
short_description: Run a new VM at once from an image that the backup storage lends
version_added: 0.1.0
description:
  - Runs on a host to which M(edgecloud.resilient_vm.image_lend) lends the image.
  - Defines a VM with another name, UUID and MAC addresses, as M(edgecloud.resilient_vm.vm_restore) does, on qcow2 disks
    that find on the backup storage what they lack, and starts it. A unit has that pulled to this host behind it, and
    ends when nothing is missing; then it is a VM like any other.
  - Does nothing where that VM is there and has all its data. Where it lacks some, it is started again, for the host may
    have been, and so is the unit.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.common
  - edgecloud.resilient_vm.common.vm
  - edgecloud.resilient_vm.common.restored
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  name:
    description: Name of the new VM.
    type: str
    required: true
  definition:
    description: The files of the machine definition as the backup storage's manifest has them.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the file.
        type: str
        required: true
      sha256:
        description: Its SHA-256.
        type: str
        required: true
  networks:
    description: Which network, bridge or device of this host an interface gets for the one it had.
    type: dict
    default: {}
  bytes_per_second:
    description: So much is pulled behind it at most; 0 for as much as there is. What the guest asks for is not limited.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Have last Tuesday's machine run now
  edgecloud.resilient_vm.vm_instant:
    customer: acme
    vm: erp
    image_id: 20260113T020000Z
    name: erp-tuesday
    format: qcow2
    disks: "{{ restore.decision.disks }}"
    definition: "{{ restore.decision.definition }}"
  delegate_to: b
"""

RETURN = r"""
uuid:
  description: UUID of the new VM, or null when it would be made.
  returned: success
  type: str
  sample: 7a1c1f0e-9e3b-4d55-9f0d-0a8d3a8f6b1c
path:
  description: Folder of its disks.
  returned: success
  type: str
  sample: /var/lib/resilient-vm/acme/erp/restored/erp-tuesday
arrived:
  description: Whether it has all its data and depends on nothing any more.
  returned: success
  type: bool
  sample: false
done_bytes:
  description: How many bytes of its disks need the backup storage no more, holes among them.
  returned: success
  type: int
  sample: 75497472
total_bytes:
  description: Size of its disks in bytes; 0 while it doesn't run.
  returned: success
  type: int
  sample: 268435456
"""

import contextlib
import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _at_once, _beside, _borrow
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import restored_spec, vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._restored_files import Wish


def main() -> None:
    module = AnsibleModule(
        {
            **vm_spec(),
            **restored_spec({"required": True}),
            "name": {"type": "str", "required": True},
            "networks": {"type": "dict", "default": {}},
            "bytes_per_second": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    wanted = dict(module.params)
    try:
        layout = Layout(wanted.pop("customer"), wanted.pop("vm"), wanted.pop("root"))
        del wanted["now"]
        rate = wanted.pop("bytes_per_second")
        twin = _beside.Twin(wanted.pop("name"), wanted.pop("networks"), start=True)
        wish = Wish(path=os.path.join(layout.restored, twin.name), **wanted)
        with contextlib.nullcontext() if module.check_mode else _borrow.making(layout):
            _at_once.examine(layout, wish)
            found = _beside.examine(layout, wish, twin, run)
            progress = _at_once.progress(layout, wish, found, run)
            changed = not progress.arrived and not (found.running and progress.attended)
            identity = found.uuid
            if changed and not module.check_mode:
                identity = _at_once.make(layout, wish, twin, found, rate, run)
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    diff = {"before": {"state": found.state}, "after": {"state": found.state if progress.arrived else "running"}}
    module.exit_json(
        changed=changed,
        uuid=identity,
        path=wish.path,
        arrived=progress.arrived,
        done_bytes=progress.done_bytes,
        total_bytes=progress.total_bytes,
        diff=diff,
    )


if __name__ == "__main__":
    main()
