#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move the disks of a VM from where a takeover put them to their owner's place, while it runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_relocate
short_description: Move a VM's disks to their owner's place and format
version_added: 0.1.0
description:
  - A host that took a VM over, or to which it was switched back, runs it on disks beside its generations. This module
    has QEMU copy them to where the VM's disks once lay on that host, or to a folder, while the machine runs, and has it
    go over to them. Then what lay where the takeover put it is erased. The variables of UEFI firmware stay there, since
    it has them open.
  - The copy is libvirt's; it goes on when whoever waits for it is killed, and the next call attaches to it.
  - Only while the VM is in phase C(protected), running on its active host.
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
    description: Inventory name of this host, the VM's active one.
    type: str
    required: true
  uuid:
    description: UUID of the VM.
    type: str
    required: true
  epoch:
    description: Epoch at which that was looked up.
    type: int
    required: true
  folder:
    description: Folder for the disks. Without it each goes to where it lay before the VM left this host.
    type: path
  format:
    description: Format of the disks. Without it that which each had there, else V(qcow2).
    type: str
    choices: [qcow2, raw]
  reserve_bytes:
    description: Bytes that have to stay free.
    type: int
    default: 0
  bytes_per_second:
    description: How many bytes a second are copied at most; V(0) is as fast as it goes.
    type: int
    default: 0
  wait_seconds:
    description: How many seconds this call waits for the end. The action plugin of this name calls until it is over.
    type: float
    default: 30
"""

EXAMPLES = r"""
- name: Move the disks of erp to where they once lay on a
  edgecloud.resilient_vm.vm_relocate:
    customer: acme
    vm: erp
    host: a
    uuid: 11111111-2222-4333-8444-555555555555
    epoch: 3
  delegate_to: a
"""

RETURN = r"""
disks:
  description: The disks that are moved.
  returned: success
  type: list
  elements: dict
  sample:
    - target: vda
      source: /var/lib/resilient-vm/acme/erp/running/vda.qcow2
      path: /var/lib/libvirt/images/erp-vda.qcow2
      format: qcow2
  contains:
    target:
      description: Target of the disk.
      type: str
      returned: success
    source:
      description: Where a takeover put it.
      type: str
      returned: success
    path:
      description: Where it goes.
      type: str
      returned: success
    format:
      description: Format that it has there.
      type: str
      returned: success
running:
  description: Whether it is still being copied.
  returned: success
  type: bool
  sample: false
progress:
  description: How far the copy is, in bytes of the disks.
  returned: while it is being copied
  type: dict
  sample: {bytes_done: 73400320, bytes_total: 402653184}
  contains:
    bytes_done:
      description: Bytes that are level.
      type: int
      returned: success
    bytes_total:
      description: Bytes of all disks.
      type: int
      returned: success
"""

from dataclasses import fields
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._relocate import Relocation, Wish


def relocate(params: dict[str, Any], dry: bool) -> dict[str, Any]:
    layout = Layout(params["customer"], params["vm"], params["root"])
    relocation = Relocation(layout, Wish(**{field.name: params[field.name] for field in fields(Wish)}), run)
    moves = relocation.examine()
    disks = [{"target": m.target, "source": m.source, "path": m.path, "format": m.format} for m in moves]
    result: dict[str, Any] = {
        "changed": bool(moves),
        "disks": disks,
        "running": False,
        "diff": {
            "before": {"disks": {move.target: move.source for move in moves}},
            "after": {"disks": {move.target: move.path for move in moves}},
        },
    }
    if dry:
        return result
    if not moves:
        # What a run left that was cut off at its very end.
        result["changed"] = relocation.tidy()
        return result
    told = relocation.carry_on(moves, params["wait_seconds"])
    if not told["over"]:
        result.update(running=True, progress={name: told[name] for name in ("bytes_done", "bytes_total")})
    return result


def main() -> None:
    module = AnsibleModule(
        {
            **vm_spec(),
            "host": {"type": "str", "required": True},
            "uuid": {"type": "str", "required": True},
            "epoch": {"type": "int", "required": True},
            "folder": {"type": "path"},
            "format": {"type": "str", "choices": ["qcow2", "raw"]},
            "reserve_bytes": {"type": "int", "default": 0},
            "bytes_per_second": {"type": "int", "default": 0},
            "wait_seconds": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        result = relocate(module.params, module.check_mode)
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
