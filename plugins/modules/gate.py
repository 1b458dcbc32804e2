#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove that libvirt on this host asks the gate, and open it for VMs that may run here."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gate
short_description: Prove that a host refuses to start VMs it is not the active host of, and open it for the others
version_added: 0.1.0
description:
  - The gate is a hook of libvirt that refuses to start a protected VM unless this host is its active one, and another
    machine has confirmed that since the host's boot.
  - Tries to start a throwaway domain that the gate must refuse, and fails when libvirt starts it.
  - Then asks the backup storage, or else the other host, for each VM that is active here and not confirmed yet.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.common
attributes:
  check_mode:
    description: Says what would be laid. Nothing is started and nothing is opened.
    support: full
  diff_mode:
    support: full
options:
  vms:
    description: The VMs to open the gate for, if this host is their active one.
    type: list
    elements: dict
    default: []
    suboptions:
      customer:
        description: Name of the customer.
        type: str
        required: true
      vm:
        description: Name of the VM, which is its inventory name.
        type: str
        required: true
      domain:
        description: Name of the libvirt domain. The gate goes by its UUID and needs no name.
        type: str
  install:
    description:
      - Inventory name of this machine. The gate is laid first, and libvirt restarted if it doesn't ask it yet.
        Running guests survive that.
      - Without it the gate is only proven.
    type: str
  domain_type:
    description: Type of the throwaway domain, like V(kvm) or V(qemu). By default V(kvm) where libvirt offers it.
    type: str
"""

EXAMPLES = r"""
- name: Lay the gate
  edgecloud.resilient_vm.gate:
    install: "{{ inventory_hostname }}"

- name: See that it is closed, and open for the VMs that live here
  edgecloud.resilient_vm.gate:
    vms:
      - customer: acme
        vm: erp
"""

RETURN = r"""
restarted:
  description: Whether libvirt had to be restarted.
  returned: success
  type: bool
open:
  description: Who confirmed it, of each VM in O(vms) that may be started here, by C(customer/vm).
  returned: success
  type: dict
  sample: {"acme/erp": "confirmed by c"}
problems:
  description: One sentence for each VM in O(vms) that is active here and can't be started, by C(customer/vm).
  returned: success
  type: dict
  sample: {}
after_a_boot:
  description:
    - One sentence for each VM in O(vms) that may be started here, but could not be if this host booted now, since then
      others have to confirm it and don't; by C(customer/vm).
  returned: success
  type: dict
  sample: {}
unregistered:
  description: VMs in O(vms) that have a state document here but are not known to the gate, by C(customer/vm).
  returned: success
  type: list
  elements: str
  sample: []
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import common_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._asking import AT_ONCE
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._gate import Gate, Opening
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._gate_proof import GateProof
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._tree import Tree
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._virsh import Unreachable


def told(gate: Gate, layouts: list[Layout], dry: bool) -> dict[str, Any]:
    """What the gate says of these VMs."""
    names = [layout.name for layout in layouts]
    entries, damaged = gate.registry.read()
    openings = {opening.entry.name: opening for opening in gate.openings(dry)} if names else {}
    known = {entry.name for entry in entries}
    return {
        "open": {name: openings[name].why for name in names if name in openings and openings[name].open},
        "after_a_boot": _after_a_boot(gate, [openings[name] for name in names if name in openings]),
        "problems": {name: openings[name].why for name in names if name in openings and not openings[name].open},
        # Without a state document the site playbook has not got to it, which others tell.
        "unregistered": [
            layout.name for layout in layouts if layout.name not in known and os.path.exists(layout.state)
        ],
        "opened": [opening.entry.name for opening in openings.values() if opening.changed],
        "damaged": damaged,
    }


def _after_a_boot(gate: Gate, openings: list[Opening]) -> dict[str, str]:
    # What was opened just now has just been confirmed.
    asked = [opening.entry for opening in openings if opening.open and not opening.changed]
    gate = gate.round(asked)
    with ThreadPoolExecutor(AT_ONCE) as several:
        found = zip(asked, several.map(gate.after_a_boot, asked))
        return {entry.name: why for entry, why in found if why}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **common_spec(),
            "install": {"type": "str"},
            "domain_type": {"type": "str"},
            "vms": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "customer": {"type": "str", "required": True},
                    "vm": {"type": "str", "required": True},
                    "domain": {"type": "str"},
                },
            },
        },
        supports_check_mode=True,
    )
    given = module.params
    tree = Tree(dry=module.check_mode)
    gate = Gate(run, lambda: _clock.now(given["now"]))
    proof = GateProof(run, given["domain_type"])
    restarted = False
    try:
        if given["install"] and proof.install(tree, given["install"]) and not module.check_mode:
            # Whatever is off now shall stay off: only a boot of this host starts VMs.
            gate.waiting(first=False)
        if not module.check_mode:
            restarted = proof.prove(may_restart=bool(given["install"]))
        layouts = [Layout(vm["customer"], vm["vm"], given["root"]) for vm in given["vms"]]
        found = told(gate, layouts, module.check_mode)
    except Unreachable as error:
        module.fail_json(msg=str(error), libvirt=False, **error.facts)
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    opened, damaged = found.pop("opened"), found.pop("damaged")
    if damaged:
        module.fail_json(msg=" ".join(damaged), **found)
    module.exit_json(
        changed=tree.changed or restarted or bool(opened),
        diff={"before": {**tree.before, "opened": []}, "after": {**tree.after, "opened": opened}},
        restarted=restarted,
        **found,
    )


if __name__ == "__main__":
    main()
