#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell which file systems an image has, and what lies in a directory of them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_files_info
short_description: Tell which files an image of a VM holds
version_added: 0.1.0
description:
  - Runs on the backup storage and needs libguestfs there. An image's file systems are read in a small virtual machine
    of their own, which runs as the customer's account, can write nothing and reaches no network.
  - The image is pinned while it is read, and it is never written to.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.common
  - edgecloud.resilient_vm.common.vm
  - edgecloud.resilient_vm.common.files
attributes:
  check_mode:
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
options:
  paths:
    description:
      - Directories in the guest to list, and files to tell about. Without any, only the file systems are told, and none
        is mounted.
    type: list
    elements: str
    default: []
  limit:
    description: How many entries are told at most, of all paths together.
    type: int
    default: 500
"""

EXAMPLES = r"""
- name: See what there was that day
  edgecloud.resilient_vm.image_files_info:
    customer: acme
    vm: erp
    image_id: 20260107T020000Z
    paths: [/data]
  delegate_to: c
  register: listed
"""

RETURN = r"""
file_systems:
  description: What the image's disks hold, swap and encrypted partitions included.
  returned: success
  type: list
  elements: dict
  sample:
    - device: vda
      type: ext4
      size_bytes: 268435456
      encrypted: false
    - device: vdb
      type: ext4
      size_bytes: 134217728
      encrypted: false
  contains:
    device:
      description: Target name of the disk in the domain and the partition's number, or the volume's own name.
      type: str
      returned: success
    type:
      description: What it is, as libguestfs names it.
      type: str
      returned: success
    size_bytes:
      description: Its size in bytes; none for a subvolume of Btrfs.
      type: int
      returned: success
    encrypted:
      description: Whether nothing can be read without its key, which this collection doesn't have.
      type: bool
      returned: success
mounted:
  description: Device by mount point, for those that the paths were looked for in.
  returned: success
  type: dict
  sample:
    /: vda
listings:
  description: What lies under each path.
  returned: success
  type: list
  elements: dict
  sample:
    - path: /odd/private
      itself: false
      total: 1
      entries:
        - name: file
          type: file
          size_bytes: 6
          mode: "0000"
          uid: 0
          gid: 8
          mtime_seconds: 1795892632
  contains:
    path:
      description: The path.
      type: str
      returned: success
    itself:
      description: Whether the path is no directory, and the one entry is itself.
      type: bool
      returned: success
    total:
      description: How many entries it has.
      type: int
      returned: success
    entries:
      description:
        - Entries in the order of their names, as many as O(limit) allows. One whose name is no UTF-8 has nothing but
          the name, which is told with backslashes as a name with control characters is.
      type: list
      elements: dict
      returned: success
told:
  description: All of this in lines for people.
  returned: success
  type: list
  elements: str
  sample:
    - "file system vda: ext4, 256.0 MiB, mounted at /"
    - "file system vdb: ext4, 128.0 MiB"
    - "0000 0:8                      6 2026-11-28T19:03:52Z /odd/private/file"
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import files_spec, vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files_told import shown, told
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._image_files import Wish, look
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout


def main() -> None:
    module = AnsibleModule(
        {
            **vm_spec(),
            **files_spec(),
            "paths": {"type": "list", "elements": "str", "default": []},
            "limit": {"type": "int", "default": 500},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        layout = Layout(given["customer"], given["vm"], given["root"])
        answer = look(layout, Wish(given["image_id"], given["device"], list=given["paths"], limit=given["limit"]))
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    facts = {name: answer[name] for name in ("file_systems", "mounted")}
    module.exit_json(changed=False, **facts, listings=shown(answer["listings"]), told=told(answer))


if __name__ == "__main__":
    main()
