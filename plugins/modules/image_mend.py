#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mend damage of images with a host's generations, and of those with the images."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_mend
short_description: Mend images and generations of a VM with what the other machine holds
version_added: 0.1.0
description:
  - Runs on the backup storage, after M(edgecloud.resilient_vm.image_verify) there and on the host.
  - For every block and definition file that is marked as damaged in an image, the host's generations are searched for
    the right one; then the images for what is marked in the generations. A few blocks travel, each named by its digest,
    over the connection from the backup storage to the host that images take.
  - Only what a digest proves is written, into the wrong block alone, and read back before the mark goes.
  - It runs as a unit on the backup storage; when one runs already, its end is waited for.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.common
  - edgecloud.resilient_vm.common.vm
attributes:
  check_mode:
    description: Does nothing, since only asking the other machine tells what it has.
    support: full
  diff_mode:
    description: Tells the known damage of the images before and after.
    support: full
options:
  peer:
    description: The host whose generations are asked and mended, as the backup storage reaches it.
    type: dict
    required: true
    suboptions:
      name:
        description: Its inventory name.
        type: str
        required: true
      address:
        description: Its address.
        type: str
        required: true
      port:
        description: Port of its ssh.
        type: int
        default: 22
  nice:
    description: Nice level of the processes on both machines.
    type: int
    default: 10
"""

EXAMPLES = r"""
- name: Mend what the verification has found
  edgecloud.resilient_vm.image_mend:
    customer: acme
    vm: erp
    peer:
      name: b
      address: 192.0.2.12
  delegate_to: c
"""

RETURN = r"""
repaired:
  description: What is right again; C(images) on the backup storage, C(generations) on the host.
  returned: success
  type: dict
  sample:
    images:
      - image: 20260114T020000Z
        disk: vda
        offset_bytes: 65536
        from: 20260114T020000Z on b
    generations: []
told:
  description: One sentence for each thing that was mended.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._mended import write_down
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._transfer import Transfer
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._verify import standing, told


def main() -> None:
    module = AnsibleModule(
        {
            **vm_spec(),
            "peer": {
                "type": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "address": {"type": "str", "required": True},
                    "port": {"type": "int", "default": 22},
                },
            },
            "nice": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    given = module.params
    repaired: dict[str, list[dict[str, Any]]] = {"images": [], "generations": []}
    try:
        layout = Layout(given["customer"], given["vm"], given["root"])
        before = standing(Store(layout))[0]
        if not module.check_mode:
            transfer = Transfer(layout, "mend", run)
            request = {"image_id": "", "peer": given["peer"], "streams": "1", "limits": {"nice": given["nice"]}}
            token, _attached = transfer.begin(request)
            repaired.update((transfer.wait(token, "") or {})["repaired"])
            for name, entries in repaired.items():
                write_down(layout, name, entries, _clock.now(given["now"]))
        after = standing(Store(layout))[0]
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    sentences = [line for name in repaired for line in told(Store(layout, name), repaired[name], [], [])["told"]]
    diff = {"before": {"damaged": before}, "after": {"damaged": after}}
    module.exit_json(changed=bool(sentences), repaired=repaired, told=sentences, diff=diff)


if __name__ == "__main__":
    main()
