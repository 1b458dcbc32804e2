#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lay the files of an image into a new folder."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_restore
short_description: Lay the files of an image into a new folder
version_added: 0.1.0
description:
  - Runs on the backup storage, or on a host to which M(edgecloud.resilient_vm.image_transfer) has brought the image.
  - Makes a folder with the image's disks, raw or qcow2, and the files of the machine definition. It belongs to root and
    nobody else can read it.
  - Every block is checked against the image's digests first. The folder gets its name when all of it is on the disk.
  - On the backup storage the image is pinned while it is read, and it is never written to.
  - Where raw files can share blocks with the image they do, and take no time and no space.
  - Does nothing when the folder is there and still holds exactly these files, and refuses when it is anything else.
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
  path:
    description: The folder that is made.
    type: path
    required: true
  store:
    description: Folder of the VM in which the image lies here, V(images) on the backup storage, V(restores) on a host.
    type: str
    choices: [images, restores]
    default: images
  definition:
    description: The files of the machine definition as the backup storage's manifest has them.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the file.
        type: str
        required: true
      sha256:
        description: Its SHA-256.
        type: str
        required: true
"""

EXAMPLES = r"""
- name: Lay the disks of that day beside the images
  edgecloud.resilient_vm.image_restore:
    customer: acme
    vm: erp
    image_id: 20260107T020000Z
    path: /srv/erp-tuesday
    disks: "{{ restore.decision.disks }}"
    definition: "{{ restore.decision.definition }}"
  delegate_to: c
"""

RETURN = r"""
path:
  description: The folder.
  returned: success
  type: str
  sample: /srv/erp-tuesday
disks:
  description: What was laid of each disk.
  returned: when the folder was made
  type: list
  elements: dict
  sample:
    - target: vda
      file: vda.raw
      size_bytes: 268435456
      root_digest: 5a8a2d0c2b6f3f5e7fd25cf1f1a7a9be4bb1dd4b9d95e0f9a1bd4c6c33a8de10
      file_digest: 5a8a2d0c2b6f3f5e7fd25cf1f1a7a9be4bb1dd4b9d95e0f9a1bd4c6c33a8de10
  contains:
    target:
      description: Target name of the disk.
      type: str
      returned: success
    file:
      description: Name of its file in the folder.
      type: str
      returned: success
    size_bytes:
      description: Size of the disk in bytes.
      type: int
      returned: success
    root_digest:
      description: The digest that stands for the whole disk; see docs/formats.md.
      type: str
      returned: success
    file_digest:
      description: The same digest of the file's own bytes; for a raw file it is RV(disks[].root_digest).
      type: str
      returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import restored_spec, vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._restored_files import Wish, examine, lay


def main() -> None:
    module = AnsibleModule(
        {
            **vm_spec(),
            **restored_spec({"default": []}),
            "path": {"type": "path", "required": True},
            "store": {"type": "str", "choices": ["images", "restores"], "default": "images"},
        },
        supports_check_mode=True,
    )
    wanted = dict(module.params)
    try:
        layout = Layout(wanted.pop("customer"), wanted.pop("vm"), wanted.pop("root"))
        del wanted["now"]
        wish = Wish(**wanted)
        laid = examine(layout, wish)
        done = {} if laid or module.check_mode else {"disks": lay(layout, wish, run)}
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    diff = {"before": {"image": wish.image_id if laid else None}, "after": {"image": wish.image_id}}
    module.exit_json(changed=not laid, path=wish.path, diff=diff, **done)


if __name__ == "__main__":
    main()
