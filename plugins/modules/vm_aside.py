#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put aside what a host has of a VM that lives elsewhere now."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_aside
short_description: Put aside what a host has of a VM that lives elsewhere now
version_added: 0.1.0
description:
  - Runs on the host that a VM was taken over from, after it has learned of that, and makes it ready to stand by.
  - The files of the VM's disks and its NVRAM are renamed where they lie, to their name with C(.before-e) and the epoch
    added. Nothing is erased. The domain is undefined; its definition and the state of its TPM are kept in the VM's
    folder under C(before-e) and the epoch. Disks that are devices, and disks that no image holds, keep their names.
  - Where the host has no generation that serves for it, the copy of the newest image is begun with the disks put aside,
    so that only what differs travels. That reads them as a whole.
  - Refuses on the active host, and when the VM runs here. May be repeated after a run that was cut off anywhere.
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
  host:
    description: Name of this host in the inventory.
    type: str
    required: true
  uuid:
    description: UUID of the VM.
    type: str
    required: true
  epoch:
    description: Epoch of the VM.
    type: int
    required: true
  image_id:
    description: Id of the newest image.
    type: str
    required: true
  disks:
    description: Its disks.
    type: list
    elements: dict
    required: true
    suboptions:
      target:
        description: Target of the disk.
        type: str
        required: true
      size_bytes:
        description: Its size in bytes.
        type: int
        required: true
  bytes_allocated:
    description: What the image takes, in bytes.
    type: int
    default: 0
  reserve_bytes:
    description: What must stay free, in bytes.
    type: int
    default: 1073741824
"""

EXAMPLES = r"""
- name: Make the returned host ready to stand by
  edgecloud.resilient_vm.vm_aside:
    customer: acme
    vm: erp
    host: a
    uuid: "{{ reprotect.decision.uuid }}"
    epoch: "{{ reprotect.decision.epoch }}"
    image_id: "{{ reprotect.decision.image_id }}"
    disks: "{{ reprotect.decision.disks }}"
  delegate_to: a
"""

RETURN = r"""
files:
  description: What was put aside by this run, and what would be in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    target:
      description: Target of the disk, V(nvram), or the name of a file that belongs to them.
      type: str
      sample: vda
    path:
      description: Where it lay.
      type: str
      sample: /var/lib/libvirt/images/erp-vda.qcow2
    format:
      description: Its format, empty for what is no disk.
      type: str
      sample: qcow2
    aside:
      description: Where it is kept.
      type: str
      sample: /var/lib/libvirt/images/erp-vda.qcow2.before-e2
begun_with:
  description: Targets of the disks with which the copy of the newest image was begun.
  returned: success, not in check mode
  type: list
  elements: str
  sample: [vda]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _aside, _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run


def argument_spec() -> dict[str, object]:
    text = {"type": "str", "required": True}
    disk = {"target": text, "size_bytes": {"type": "int", "required": True}}
    return {
        **vm_spec(),
        "host": text,
        "uuid": text,
        "epoch": {"type": "int", "required": True},
        "image_id": text,
        "disks": {"type": "list", "elements": "dict", "required": True, "options": disk},
        "bytes_allocated": {"type": "int", "default": 0},
        "reserve_bytes": {"type": "int", "default": 1 << 30},
    }


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    wanted = dict(module.params)
    try:
        layout = Layout(wanted.pop("customer"), wanted.pop("vm"), wanted.pop("root"))
        now, wish = _clock.now(wanted.pop("now")), _aside.Wish(**wanted)
        record = _aside.examine(layout, wish, now, run)
        if record is None:
            module.exit_json(changed=False, files=[], begun_with=[])
            return
        begun_with: list[str] = []
        if not module.check_mode:
            begun_with = _aside.put_aside(layout, wish, record, run)
        files = record["files"]
        module.exit_json(
            changed=True,
            files=files,
            begun_with=begun_with,
            diff={
                "before": {"files": [file["path"] for file in files]},
                "after": {"files": [file["aside"] for file in files]},
            },
        )
    except (ResilientVmError, OSError) as error:
        fail(module, error)


if __name__ == "__main__":
    main()
