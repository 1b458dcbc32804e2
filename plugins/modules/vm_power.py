#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shut a VM down cleanly, or start it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_power
short_description: Shut a VM down cleanly, or start it
version_added: 0.1.0
description:
  - Asks the guest to shut down and waits until it is off. One that doesn't shut down in time is a failure and runs on;
    it is never forced off.
  - A start opens the VM's gate first, which needs the word of the backup storage or of the other host.
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
  uuid:
    description: UUID of the VM.
    type: str
    required: true
  state:
    description: What it shall be.
    type: str
    choices: [running, stopped]
    required: true
  shutdown_seconds:
    description: How long it is given to shut down, in seconds.
    type: int
    default: 120
  settle_seconds:
    description:
      - With O(state=running), how long one that runs is watched, in seconds. One that was asked to shut down may heed
        that late; it is started again then.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Shut it down
  edgecloud.resilient_vm.vm_power:
    customer: acme
    vm: erp
    uuid: 11111111-2222-4333-8444-555555555555
    state: stopped
  delegate_to: a
"""

RETURN = r"""
was:
  description: What it was before, in libvirt's words.
  returned: success
  type: str
  sample: running
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock, _power
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._domain import STOPPED
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._gate import Gate
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._virsh import Virsh


def main() -> None:
    module = AnsibleModule(
        {
            **vm_spec(),
            "uuid": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["running", "stopped"], "required": True},
            "shutdown_seconds": {"type": "int", "default": 120},
            "settle_seconds": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    uuid, wanted = module.params["uuid"], module.params["state"]
    virsh = Virsh(run)
    try:
        layout = Layout(module.params["customer"], module.params["vm"], module.params["root"])
        now = _clock.now(module.params["now"])
        was = virsh.state(uuid)[0]
        started = False
        if not module.check_mode and wanted == "stopped":
            _power.shut_down(virsh, uuid, module.params["shutdown_seconds"])
        elif not module.check_mode:
            started = _power.start(Gate(run, lambda: now), layout.name, uuid, module.params["settle_seconds"])
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    # One that went off after the look was started, too.
    is_now = "stopped" if started or was in STOPPED else "running"
    module.exit_json(changed=is_now != wanted, was=was, diff={"before": {"state": is_now}, "after": {"state": wanted}})


if __name__ == "__main__":
    main()
