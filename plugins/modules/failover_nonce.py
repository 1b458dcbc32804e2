#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Issue what the operator's word that a host is off must end in."""

from __future__ import annotations

DOCUMENTATION = r"""
module: failover_nonce
short_description: Issue what the operator's word that a host is off must end in
version_added: 0.1.0
description:
  - Runs on the backup storage. Keeps a new number there, good for 15 minutes and for one takeover
    (M(edgecloud.resilient_vm.vm_state)); one that was issued before is void.
  - Fails when the VM has another epoch by now. After it, and until somebody is told the number, nobody takes the VM
    over from this epoch.
  - In check mode none is kept, and the one returned is good for nothing.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.common
  - edgecloud.resilient_vm.common.vm
attributes:
  check_mode:
    support: full
  diff_mode:
    description: What it keeps is good for minutes only.
    support: none
options:
  epoch:
    description: Epoch of the VM at which it is to be taken over.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Ask for the operator's word
  edgecloud.resilient_vm.failover_nonce:
    customer: acme
    vm: erp
    epoch: 1
  delegate_to: c
  register: asked
"""

RETURN = r"""
nonce:
  description: Eight hexadecimal digits.
  returned: success
  type: str
  sample: 3f9c2a1b
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _change
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout


def main() -> None:
    module = AnsibleModule({**vm_spec(), "epoch": {"type": "int", "required": True}}, supports_check_mode=True)
    given = module.params
    try:
        layout = Layout(given["customer"], given["vm"], given["root"])
        nonce = "0" * 8 if module.check_mode else _change.ask(layout, given["epoch"])
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    module.exit_json(changed=not module.check_mode, nonce=nonce)


if __name__ == "__main__":
    main()
