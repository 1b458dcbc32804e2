#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exchange the disks of a VM, in place, for those of an image."""

from __future__ import annotations

DOCUMENTATION = r"""
module: disk_exchange
short_description: Exchange the disks of a VM, in place, for those of an image
version_added: 0.1.0
description:
  - Runs on the VM's active host, while the VM's state says that it is being restored. The restore playbook calls it
    in the order V(prepared), M(edgecloud.resilient_vm.image_transfer) with C(hop=restore), V(exchanged), V(finished).
    Each step may be repeated after a run that was cut off anywhere.
  - The new files lie where the present ones lie, with their formats, owners, modes and SELinux labels. The present
    files are kept beside them, with C(.before-) and the time of the restore added to their names. NVRAM is exchanged
    in the same way. The VM's definition and the state of its TPM stay as they are.
  - Every block is checked before it takes a place. Checkpoints of this collection are forgotten, since their bitmaps
    are in the files that were kept aside.
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
  state:
    description:
      - V(prepared) stops the VM and begins the copy of the image with the VM's present disks, so that only what differs
        travels.
      - V(exchanged) puts the disks of the image, which has arrived, in the place of the present ones.
      - V(finished) starts the VM, if it ran before, and writes down what was kept aside. Changes nothing where no
        exchange is waiting for its end, whatever image it was of.
    type: str
    choices: [prepared, exchanged, finished]
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
    description:
      - Id of the image, or V(aside) for the disks that the last exchange kept aside. These take their places again;
        nothing is copied.
    type: str
    required: true
  disks:
    description: The image's disks as the backup storage's manifest has them.
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
      root_digest:
        description: Its root digest.
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
  bytes_allocated:
    description: What the image takes, in bytes.
    type: int
    default: 0
  reserve_bytes:
    description: What must stay free on every filesystem, in bytes.
    type: int
    default: 1073741824
  shutdown_seconds:
    description: How long the VM is given to shut down, in seconds.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Stop the VM, and begin with its present disks
  edgecloud.resilient_vm.disk_exchange:
    state: prepared
    customer: acme
    vm: erp
    uuid: "{{ restore.decision.uuid }}"
    epoch: "{{ restore.decision.epoch }}"
    image_id: 20260113T020000Z
    disks: "{{ restore.decision.disks }}"
    definition: "{{ restore.decision.definition }}"
  delegate_to: a
"""

RETURN = r"""
files:
  description: What is exchanged.
  returned: success
  type: list
  elements: dict
  contains:
    target:
      description: Target of the disk, or V(nvram).
      type: str
      sample: vda
    path:
      description: Where it lies.
      type: str
      sample: /var/lib/libvirt/images/erp-vda.qcow2
    format:
      description: Its format; empty for NVRAM.
      type: str
      sample: qcow2
    aside:
      description: Where the present file is kept.
      type: str
      sample: /var/lib/libvirt/images/erp-vda.qcow2.before-20260115T101500Z
since:
  description: Since when the disks that go back were kept aside, with O(image_id=aside); else empty.
  returned: success
  type: str
  sample: '2026-01-15T10:15:00Z'
exchanged:
  description: Whether the disks of the image lie in their place.
  returned: success
  type: bool
  sample: false
running:
  description: Whether the VM ran before.
  returned: success
  type: bool
  sample: true
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock, _exchange
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import restored_spec, vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run


def argument_spec() -> dict[str, object]:
    shared = restored_spec({"required": True})
    for name in ("format", "bytes_arriving"):
        del shared[name]
    return {
        **vm_spec(),
        **shared,
        "state": {"type": "str", "choices": ["prepared", "exchanged", "finished"], "required": True},
        "uuid": {"type": "str", "required": True},
        "epoch": {"type": "int", "required": True},
        "shutdown_seconds": {"type": "int", "default": 120},
    }


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    wanted = dict(module.params)
    try:
        layout = Layout(wanted.pop("customer"), wanted.pop("vm"), wanted.pop("root"))
        now, step = _clock.now(wanted.pop("now")), wanted.pop("state")
        wish = _exchange.Wish(**wanted)
        waiting = step == "finished"
        record = _exchange.exchanged(layout, wish) if waiting else _exchange.examine(layout, wish, now, run)
        if record is None:
            module.exit_json(changed=False, files=[], running=False, since="", exchanged=False)
            return
        already = bool(record["exchanged"])
        if not module.check_mode:
            if step == "prepared":
                _exchange.prepare(layout, wish, record, run)
            elif step == "exchanged":
                _exchange.exchange(layout, wish, record, run)
            else:
                _exchange.finish(layout, wish, record, run)
        kept = sorted(file["aside"] for file in record["files"])
        module.exit_json(
            changed=True,
            files=record["files"],
            running=record["running"],
            since=record.get("since", ""),
            exchanged=record["exchanged"],
            diff={"before": {"aside": kept if already else []}, "after": {"aside": kept}},
        )
    except (ResilientVmError, OSError) as error:
        fail(module, error)


if __name__ == "__main__":
    main()
