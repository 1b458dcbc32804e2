#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take one step of a VM's state where it is decided, or follow a decision."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_state
short_description: Change a protected VM's state by compare and set, or follow what was decided
version_added: 0.1.0
description:
  - On the backup storage, takes one O(transition), decided on at an O(epoch). It is refused when the VM has another
    epoch by now, or is in a phase from which there is no such step.
  - On a host, takes over the O(document) of the backup storage. It is refused when that would lose an epoch.
  - Both are written into the VM's journal on that machine. An image of an epoch that is over is never published
    afterwards.
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
  transition:
    description: Step to take, on the backup storage. The page on takeover lists them.
    type: str
  epoch:
    description: Epoch of the VM when the step was decided on. Required with O(transition).
    type: int
  seen:
    description:
      - C(changed) of the backup storage's RV(state) when the step was decided on. The step is refused when that has
        changed since, though the epoch is the same.
    type: str
  document:
    description:
      - The backup storage's RV(state), to be followed on a host. The host that is not to run the VM is told first.
    type: dict
  unasked_since:
    description:
      - An instant by the clock of this machine. The step is refused when the active host has asked since then
        whether it may still run the VM; it is up, then.
    type: str
  nonce:
    description:
      - End of the operator's word that the active host is off, from M(edgecloud.resilient_vm.failover_nonce). The step
        is refused when it is not the last one that was issued, is older than 15 minutes, or when the active host has
        asked since whether it may still run the VM.
    type: str
  unwitnessed:
    description:
      - Whether a host takes the step by itself, since the backup storage can't be reached. Only for a takeover; the
        document says so until the backup storage has been told.
    type: bool
    default: false
  who:
    description: On whose behalf.
    type: str
    required: true
  why:
    description: Reason of the step. Required with O(transition).
    type: str
  evidence:
    description: What was seen that led to the step.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Let nobody but its owner touch the VM
  edgecloud.resilient_vm.vm_state:
    customer: acme
    vm: erp
    transition: begin_maintenance
    epoch: 1
    who: mary
    why: new disks
  delegate_to: c
  register: decided

- name: Tell the host
  edgecloud.resilient_vm.vm_state:
    customer: acme
    vm: erp
    document: "{{ decided.state }}"
    who: mary
  delegate_to: a
"""

RETURN = r"""
state:
  description: The VM's state document on this machine as it is now.
  returned: success
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _change
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._clock import now, parse
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._state import State


def argument_spec() -> dict[str, Any]:
    return {
        **vm_spec(),
        "transition": {"type": "str"},
        "epoch": {"type": "int"},
        "seen": {"type": "str"},
        "document": {"type": "dict"},
        "unasked_since": {"type": "str"},
        "nonce": {"type": "str"},
        "unwitnessed": {"type": "bool", "default": False},
        "who": {"type": "str", "required": True},
        "why": {"type": "str"},
        "evidence": {"type": "dict", "default": {}},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec(),
        supports_check_mode=True,
        mutually_exclusive=[("transition", "document")],
        required_one_of=[("transition", "document")],
        required_by={
            "transition": ["epoch", "why"],
            "seen": ["transition"],
            "unasked_since": ["transition"],
            "nonce": ["transition"],
        },
    )
    given = module.params
    try:
        layout = Layout(given["customer"], given["vm"], given["root"])
        when = now(given["now"])
        if given["transition"]:
            request = _change.Request(
                given["transition"],
                given["epoch"],
                given["who"],
                given["why"],
                given["evidence"],
                parse(given["unasked_since"], "unasked_since") if given["unasked_since"] else None,
                given["nonce"],
                given["unwitnessed"],
                given["seen"],
            )
            before, after = _change.change(layout, request, when, module.check_mode)
        else:
            decided = State.from_json(given["document"], f"the document that {layout.name} shall follow")
            before, after = _change.follow(layout, decided, given["who"], when, module.check_mode, given["evidence"])
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    module.exit_json(
        changed=before != after, diff={"before": before.as_dict(), "after": after.as_dict()}, state=after.as_dict()
    )


if __name__ == "__main__":
    main()
