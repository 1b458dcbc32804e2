#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take files and directories out of an image."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_files
short_description: Take files and directories out of an image of a VM
version_added: 0.1.0
description:
  - Runs on the backup storage and needs libguestfs there. An image's file systems are read in a small virtual machine
    of their own, which runs as the customer's account, can write nothing and reaches no network.
  - Makes a folder that only root can enter, with the files under the path that they have in the guest, and
    C(restored.json), which says what this is. It gets its name when all of it is on the disk.
  - Files keep mode, time and owner; owners are the guest's numbers, whoever has those on this machine. Links are kept
    as they are and never followed.
  - Setuid and setgid bits of files are taken off; devices and pipes are left out; extended
    attributes, ACLs and SELinux labels are not kept.
  - The image is pinned while it is read, and it is never written to.
  - Does nothing when the folder is there and still holds exactly what was taken out, and refuses when it is anything
    else.
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
    support: full
options:
  files:
    description: Files and directories, as they are named in the guest.
    type: list
    elements: str
    required: true
  path:
    description: The folder that is made.
    type: path
    required: true
  reserve_bytes:
    description: Bytes that must stay free.
    type: int
    default: 1073741824
"""

EXAMPLES = r"""
- name: Take out what anna had that day
  edgecloud.resilient_vm.image_files:
    customer: acme
    vm: erp
    image_id: 20260107T020000Z
    files: [/etc/fstab, /home/anna]
    path: /srv/tuesday
  delegate_to: c
"""

RETURN = r"""
path:
  description: The folder.
  returned: success
  type: str
  sample: /srv/tuesday
mounted:
  description: Device by mount point, where the files were looked for.
  returned: success
  type: dict
  sample:
    /: vda1
found:
  description: What each of O(files) is in the image, when it was read.
  returned: when the folder was not there
  type: list
  elements: dict
  sample:
    - path: /home/anna
      type: directory
      files: 12
      bytes: 8192
  contains:
    path:
      description: The path.
      type: str
      returned: success
    type:
      description: V(file), V(directory), V(link), V(device) or V(pipe).
      type: str
      returned: success
    files:
      description: How many files, directories and links that is.
      type: int
      returned: success
    bytes:
      description: Space in bytes that they take in the guest.
      type: int
      returned: success
laid:
  description: What the folder holds.
  returned: when the folder is there
  type: dict
  sample:
    files: 13
    bytes: 5120
    devices: 1
    stripped: 0
    told:
      - "home/anna/pipe: a device or a pipe, left out"
  contains:
    files:
      description: How many files, directories and links there are.
      type: int
      returned: success
    bytes:
      description: Bytes of the files' content.
      type: int
      returned: success
    devices:
      description: How many devices and pipes were left out.
      type: int
      returned: success
    stripped:
      description: How many files lost a setuid or setgid bit.
      type: int
      returned: success
    told:
      description: The first of those, by name.
      type: list
      elements: str
      returned: success
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import files_spec, vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._image_files import Wish, examine, take
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout


def main() -> None:
    module = AnsibleModule(
        {
            **vm_spec(),
            **files_spec(),
            "files": {"type": "list", "elements": "str", "required": True},
            "path": {"type": "path", "required": True},
            "reserve_bytes": {"type": "int", "default": 1 << 30},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        layout = Layout(given["customer"], given["vm"], given["root"])
        wish = Wish(
            given["image_id"], given["device"], given["files"], given["path"], reserve_bytes=given["reserve_bytes"]
        )
        there = examine(layout, wish)
        told = there or take(layout, wish, module.check_mode)
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    facts = {name: told[name] for name in ("mounted", "found", "laid") if name in told}
    nothing: dict[str, Any] = {"image": None, "files": []}
    after = {"image": wish.image_id, "files": list(wish.take)}
    diff = {"before": after if there else nothing, "after": after}
    module.exit_json(changed=not there, path=wish.path, diff=diff, **facts)


if __name__ == "__main__":
    main()
