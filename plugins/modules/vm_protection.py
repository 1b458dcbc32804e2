#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lay, or remove, what protected VMs need on one machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_protection
short_description: Lay what protected VMs need on one machine, or forget them
version_added: 0.1.0
description:
  - Lays folders, keys, the entries that let other machines' keys in, pinned host keys and the state document
    of all VMs that have a part on this machine, in one call.
  - The site playbook calls it twice on hypervisors and once on the backup storage. The first call (without
    O(vms[].keys)) makes keys and reports UUIDs and state documents. The later one lays entries and state
    documents with what the other machines reported.
  - A VM that can't be done doesn't keep the others from being done. The module then fails at the end with one
    sentence for each such VM.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.common
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  part:
    description: What this machine is to these VMs.
    type: str
    required: true
    choices: [hypervisor, backup_storage]
  name:
    description: Inventory name of this machine.
    type: str
    required: true
  state:
    description:
      - V(present) lays what the VMs need.
      - V(absent) removes it again. Images stay unless O(erase_images=true).
    type: str
    choices: [present, absent]
    default: present
  allow_full_copies:
    description: Accept a filesystem on which files can't share blocks.
    type: bool
    default: false
  erase_images:
    description: With O(state=absent), also erase all images or generations of the VMs.
    type: bool
    default: false
  machines:
    description:
      - The other machines as this one reaches them, by inventory name. Their host keys get pinned.
      - Each value has C(address), C(port) and C(host_keys), the last as RV(host_keys) of that machine.
    type: dict
    default: {}
  vms:
    description: The VMs that have a part on this machine.
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
        description: Name of the libvirt domain.
        type: str
        required: true
      production:
        description: Inventory name of the host on which the VM lives by default.
        type: str
        required: true
      standby:
        description: Inventory name of the other host.
        type: str
        required: true
      backup_storage:
        description: Inventory name of the backup storage.
        type: str
        required: true
      uuid:
        description: UUID of the domain as its active host reports it.
        type: str
      max_age_hours:
        description: Age of the newest image at which the watchdog alarms. Kept on the backup storage only.
        type: float
      alarm_command:
        description: Command the watchdog runs with its text. Kept on the backup storage only.
        type: str
      who:
        description: On whose behalf this is done, for the VM's journal.
        type: str
        default: site
      autostart:
        description: Whether the gate starts the VM with this host, while it is the active one. libvirt no longer does.
        type: bool
        default: false
      start_unconfirmed:
        description: Whether the gate opens after a boot of this host although no other machine can be asked.
        type: bool
        default: false
      self_stop_seconds:
        description:
          - After so long without an answer from another machine this host stops the VM by itself, in seconds.
          - C(0) means never.
        type: int
        default: 0
      lost_hosts:
        description:
          - Hosts that are gone for good. A backup storage that knows nothing of a VM, while one of its hosts does, else
            waits until both have said where it ran last.
        type: list
        elements: str
        default: []
      keys:
        description:
          - Public keys that may log in for this VM, by the inventory name of the machine that holds the key.
          - An empty value is a key that isn't made yet, which is accepted in check mode only.
          - When absent, entries and state document are left alone.
        type: dict
      plan:
        description:
          - What a takeover without the control node has to know of the VM, from
            P(edgecloud.resilient_vm.registrations#filter). Kept beside its state document, for root only.
          - When absent, what is there is left alone.
        type: dict
      states:
        description: State documents of this VM on other machines, by inventory name, as RV(states).
        type: dict
        default: {}
"""

EXAMPLES = r"""
- name: Make this VM's key on the backup storage, let the hypervisors' keys in
  edgecloud.resilient_vm.vm_protection:
    part: backup_storage
    name: c
    machines:
      a: {address: 192.0.2.11, port: 22, host_keys: ["ssh-ed25519 AAAA..."]}
      b: {address: 192.0.2.12, port: 22, host_keys: ["ssh-ed25519 AAAA..."]}
    vms:
      - customer: acme
        vm: erp
        domain: erp
        production: a
        standby: b
        backup_storage: c
        max_age_hours: 26
        keys:
          a: ssh-ed25519 AAAA...
          b: ssh-ed25519 AAAA...
"""

RETURN = r"""
host_keys:
  description: Public host keys of this machine, for others to pin.
  returned: success
  type: list
  elements: str
  sample: ["ssh-ed25519 AAAA..."]
public_keys:
  description:
    - Public key of each VM on this machine, by C(customer/vm). It is null in check mode while the key isn't made.
  returned: success
  type: dict
  sample: {"acme/erp": "ssh-ed25519 AAAA..."}
uuids:
  description: UUID of each VM's domain on this machine, by C(customer/vm); null where there is no such domain.
  returned: success on a hypervisor
  type: dict
  sample: {"acme/erp": "6e1f3c0a-3a5f-4c50-9f7e-3a3f0d9a2c11"}
autostarts:
  description: Whether each VM starts with this host, by C(customer/vm).
  returned: success on a hypervisor
  type: dict
  sample: {"acme/erp": true}
states:
  description: State document of each VM on this machine, by C(customer/vm), as it is after the call.
  returned: success
  type: dict
kept:
  description: With O(state=absent), ids of the images or generations that stay, by C(customer/vm).
  returned: success
  type: dict
problems:
  description: One sentence for each VM that could not be done.
  returned: always
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._arguments import common_spec
from ..module_utils._clock import now
from ..module_utils._doors import Peer, host_keys
from ..module_utils._errors import ResilientVmError, fail
from ..module_utils._layout import Layout
from ..module_utils._process import run
from ..module_utils._protection import Machine, Protection, Vm
from ..module_utils._state import Inventory, State
from ..module_utils._tree import Tree

VM_SPEC = {
    "customer": {"type": "str", "required": True},
    "vm": {"type": "str", "required": True},
    "domain": {"type": "str", "required": True},
    "production": {"type": "str", "required": True},
    "standby": {"type": "str", "required": True},
    "backup_storage": {"type": "str", "required": True},
    "uuid": {"type": "str"},
    "max_age_hours": {"type": "float"},
    "alarm_command": {"type": "str"},
    "who": {"type": "str", "default": "site"},
    "autostart": {"type": "bool", "default": False},
    "start_unconfirmed": {"type": "bool", "default": False},
    "self_stop_seconds": {"type": "int", "default": 0},
    "lost_hosts": {"type": "list", "elements": "str", "default": []},
    "plan": {"type": "dict"},
    # Public halves.
    "keys": {"type": "dict", "no_log": False},
    "states": {"type": "dict", "default": {}},
}
SPEC: dict[str, Any] = {
    **common_spec(),
    "part": {"type": "str", "required": True, "choices": ["hypervisor", "backup_storage"]},
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "allow_full_copies": {"type": "bool", "default": False},
    "erase_images": {"type": "bool", "default": False},
    "machines": {"type": "dict", "default": {}},
    "vms": {"type": "list", "elements": "dict", "default": [], "options": VM_SPEC},
}


def wanted(given: dict[str, Any], root: str) -> Vm:
    """One item of ``vms`` as the module's room takes it."""
    names = ("customer", "vm", "domain", "production", "standby", "uuid", "max_age_hours", "alarm_command")
    return Vm(
        inventory=Inventory(**{name: given[name] for name in names}),
        layout=Layout(given["customer"], given["vm"], root),
        backup_storage=given["backup_storage"],
        keys=given["keys"],
        who=given["who"],
        autostart=given["autostart"],
        start_unconfirmed=given["start_unconfirmed"],
        self_stop_seconds=given["self_stop_seconds"],
        lost_hosts=tuple(given["lost_hosts"]),
        plan=given["plan"],
        others={
            name: State.from_json(document, f"the state document of {given['vm']} on {name}")
            for name, document in given["states"].items()
            if document
        },
    )


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    given = module.params
    try:
        tree = Tree(dry=module.check_mode)
        machine = Machine(given["name"], given["part"], given["root"], allow_full_copies=given["allow_full_copies"])
        protection = Protection(machine, tree, run, now(given["now"]))
        vms = [wanted(vm, given["root"]) for vm in given["vms"]]
        if given["state"] == "present":
            protection.present(vms, {name: Peer.of(name, peer) for name, peer in given["machines"].items()})
        else:
            protection.absent(vms, given["erase_images"])
        found = protection.result(host_keys())
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    if found["problems"]:
        module.fail_json(msg=" ".join(found["problems"]), **found)
    module.exit_json(**found)


if __name__ == "__main__":
    main()
