#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a VM over on its standby host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_failover
short_description: Take a VM over on its standby host
version_added: 0.1.0
description:
  - With O(state=intended) the host says that it is about to take the VM over; from then on it tells the other host
    nothing that would open its gate. O(state=withdrawn) takes that back, which is safe only after
    M(edgecloud.resilient_vm.failover_nonce) has made every word for this epoch void.
  - With O(state=running) it takes over the backup storage's O(document), by which it is the active host, makes disks of
    its current generation (reflink clones with an overlay on each; the generation stays as it is), defines the machine
    with the same identity and another generation id where it has one, opens the gate, sees that nobody uses
      O(guest_address), starts it, and has QEMU announce its new place to the network (which libvirt notes as a taint).
  - Every step may be repeated after a run that was cut off anywhere.
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
    description: What the host shall have done.
    type: str
    choices: [intended, withdrawn, running]
    default: running
  host:
    description: This host's inventory name. Required with O(state=running).
    type: str
  domain:
    description: Name of the libvirt domain. Required with O(state=running).
    type: str
  epoch:
    description: Epoch of the VM once it is taken over.
    type: int
    required: true
  unasked_since:
    description:
      - When this host began to look for the other one, by its own clock. With O(state=intended) it fails when that one
        has asked here since then whether it may run the VM.
    type: str
  document:
    description: The backup storage's state document after its step. Required with O(state=running).
    type: dict
  who:
    description: On whose behalf, for the journal. Required with O(state=running).
    type: str
  point:
    description: Id of the generation that is started with O(state=running); the current one when not set.
    type: str
  networks:
    description: Which network or bridge of this host takes the place of which of the other host.
    type: dict
    default: {}
  guest_wait_seconds:
    description: How long to wait for the guest agent of a machine that has one, and for O(guest_address), in seconds.
    type: int
    default: 120
  guest_address:
    description: Address and TCP port of the guest itself. Left out, nobody is asked for it.
    type: str
  despite_findings:
    description: Whether it is started where another machine has that address.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Say that it is about to be taken over
  edgecloud.resilient_vm.vm_failover:
    state: intended
    customer: acme
    vm: erp
    epoch: 2
  delegate_to: b

- name: Take it over
  edgecloud.resilient_vm.vm_failover:
    customer: acme
    vm: erp
    host: b
    domain: erp
    epoch: 2
    document: "{{ decided.state }}"
    who: mary
  delegate_to: b
"""

RETURN = r"""
generation:
  description: Id of the generation that it runs from.
  returned: with O(state=running), not in check mode
  type: str
  sample: 20260114T020000Z
data_time:
  description: Instant of that generation, which is the recovery point.
  returned: with O(state=running), not in check mode
  type: str
  sample: "2026-01-14T02:00:00Z"
guest:
  description: >-
    V(answers) when its guest agent does, V(silent) when it did not in time, V(not asked) when it has none.
  returned: with O(state=running), not in check mode
  type: str
  sample: answers
port:
  description: The same of O(guest_address), as this host sees it.
  returned: with O(state=running), not in check mode
  type: str
  sample: not asked
remarks:
  description: What went wrong without stopping anything, a sentence each.
  returned: with O(state=running), not in check mode
  type: list
  elements: str
  sample: []
seconds:
  description: How long each phase took, in seconds.
  returned: with O(state=running), not in check mode
  type: dict
  sample:
    disks: 0.11
    definition: 0.06
    gate: 0.31
    start: 0.62
    guest: 3.05
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._promote import intend, withdraw
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._take import take_over


def argument_spec() -> dict[str, Any]:
    return {
        **vm_spec(),
        "state": {"type": "str", "choices": ["intended", "withdrawn", "running"], "default": "running"},
        "host": {"type": "str"},
        "domain": {"type": "str"},
        "epoch": {"type": "int", "required": True},
        "unasked_since": {"type": "str"},
        "document": {"type": "dict"},
        "point": {"type": "str"},
        "who": {"type": "str"},
        "networks": {"type": "dict", "default": {}},
        "guest_wait_seconds": {"type": "int", "default": 120},
        "guest_address": {"type": "str"},
        "despite_findings": {"type": "bool", "default": False},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec(),
        supports_check_mode=True,
        required_if=[("state", "running", ["host", "domain", "document", "who"])],
    )
    given = module.params
    try:
        layout = Layout(given["customer"], given["vm"], given["root"])
        if given["state"] == "running":
            result = take_over(layout, given, module.check_mode)
        else:
            intends = given["state"] == "intended"
            now = _clock.now(given["now"])
            since = _clock.parse(given["unasked_since"], "unasked_since") if given["unasked_since"] else None
            changed = (
                intend(layout, given["epoch"], now, module.check_mode, since)
                if intends
                else withdraw(layout, given["epoch"], module.check_mode)
            )
            told = {"intent": given["epoch"] if intends else None}
            result = {"changed": changed, "diff": {"before": {"intent": None} if intends else {}, "after": told}}
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
