#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a new VM of an image, beside the protected one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_restore
short_description: Make a new VM of an image, beside the protected one
version_added: 0.1.0
description:
  - Runs on a host to which M(edgecloud.resilient_vm.image_transfer) has brought the image.
  - Lays its disks in a folder of their own and defines a VM with another name, UUID and MAC addresses on them. NVRAM
    and TPM state are copies of the image's. It does not start with the host.
  - An interface whose network isn't named in O(networks) is attached to nothing and its link is down. Log files, fixed
    ports, host devices and CD-ROMs are left out.
  - Never touches the protected VM, its state, its checkpoints or its generations.
  - Does nothing where that VM is there, made of the same image, whatever it has written since.
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
  start:
    description: Whether the VM is started.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Have last Tuesday's machine beside today's
  edgecloud.resilient_vm.vm_restore:
    customer: acme
    vm: erp
    image_id: 20260113T020000Z
    name: erp-tuesday
    disks: "{{ restore.decision.disks }}"
    definition: "{{ restore.decision.definition }}"
    networks:
      br-office: br-test
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
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _beside
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
            "start": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    wanted = dict(module.params)
    try:
        layout = Layout(wanted.pop("customer"), wanted.pop("vm"), wanted.pop("root"))
        del wanted["now"]
        twin = _beside.Twin(*(wanted.pop(name) for name in ("name", "networks", "start")))
        wish = Wish(path=os.path.join(layout.restored, twin.name), store="restores", **wanted)
        found = _beside.examine(layout, wish, twin, run)
        changed = not found.defined or (twin.start and not found.running)
        identity = found.uuid
        if changed and not module.check_mode:
            identity = _beside.make(layout, wish, twin, found, run)
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    after = "running" if found.running or twin.start else "shut off"
    diff = {"before": {"state": found.state}, "after": {"state": after}}
    module.exit_json(changed=changed, uuid=identity, path=wish.path, diff=diff)


if __name__ == "__main__":
    main()
