#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Erase what a host keeps aside of a VM's earlier disks, when its days are over."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aside_prune
short_description: Erase disks of a VM that were kept aside, when their days are over
version_added: 0.1.0
description:
  - Runs on a host. A restore in place (M(edgecloud.resilient_vm.disk_exchange)) and the return of a host
    (M(edgecloud.resilient_vm.vm_aside)) keep the disks of before under other names. This erases those that are older
    than O(keep_days), with the definition and TPM state that belong to them.
  - Nothing goes while an exchange of the VM's disks is not over, nothing of a return that is not over, and no file that
    a domain on this host has as its disk.
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
  keep_days:
    description: Files that were put aside so many days ago are erased; V(0) for none.
    type: int
    default: 14
"""

EXAMPLES = r"""
- name: Erase what was kept aside two weeks ago
  edgecloud.resilient_vm.aside_prune:
    customer: acme
    vm: erp
    keep_days: 14
  delegate_to: a
"""

RETURN = r"""
erased:
  description: The files that were erased, or would be in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    target:
      description: Target of the disk, V(nvram), or the name of a file that belonged to them.
      type: str
      sample: vda
    path:
      description: Where it lay.
      type: str
      sample: /var/lib/libvirt/images/erp-vda.qcow2
    aside:
      description: Where it was kept.
      type: str
      sample: /var/lib/libvirt/images/erp-vda.qcow2.before-20260115T101500Z
    when:
      description: When it was put aside.
      type: str
      sample: '2026-01-15T10:15:00Z'
    bytes_allocated:
      description: What it took, in bytes; blocks that it shared with other files are counted all the same.
      type: int
      sample: 4294967296
stays:
  description: A sentence for each file whose days are over and that stays, because it is in use.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock, _kept
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run


def main() -> None:
    module = AnsibleModule(
        {**vm_spec(), "keep_days": {"type": "int", "default": 14}},
        supports_check_mode=True,
    )
    given = module.params
    try:
        layout = Layout(given["customer"], given["vm"], given["root"])
        before = [entry["aside"] for entry in _kept.kept(layout)]
        erased, stays = _kept.due(layout, given["keep_days"], _clock.now(given["now"]), run)
        if erased and not module.check_mode:
            _kept.erase(layout, erased)
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    gone = [entry["aside"] for entry in erased]
    diff = {"before": {"aside": before}, "after": {"aside": [path for path in before if path not in gone]}}
    module.exit_json(changed=bool(erased), erased=erased, stays=stays, diff=diff)


if __name__ == "__main__":
    main()
