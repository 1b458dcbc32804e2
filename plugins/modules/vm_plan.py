#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_plan
short_description: Read and check what the inventory says about a protected VM
version_added: 0.1.0
description:
  - Runs on the control node for a host of group C(protected_vms) and connects to nothing.
  - Checks all C(resilient_vm_*) variables of the VM and of its three machines. All that is wrong is told at once,
    a line for each.
  - Machines are looked for in the inventory's groups, never among the hosts of the play, so that C(--limit) takes none
    away.
  - Takes no options; what it reads is documented with the role P(edgecloud.resilient_vm.resilient_vm#role).
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
attributes:
  check_mode:
    description: Changes nothing in either mode.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
options: {}
"""

EXAMPLES = r"""
- name: Say where each VM lives
  hosts: protected_vms
  gather_facts: false
  tasks:
    - name: Read the plan
      edgecloud.resilient_vm.vm_plan:
      register: planned

    - name: Say it
      ansible.builtin.debug:
        msg: "{{ planned.plan.domain }} on {{ planned.plan.production }}"
"""

RETURN = r"""
plan:
  description: The VM's settings with all defaults filled in, and its machines.
  returned: success
  type: dict
  sample:
    vm: erp
    customer: acme
    domain: erp
    production: a
    standby: b
    backup_storage: c
    active: a
    machines: [a, b, c]
    addresses:
      a: {address: 192.0.2.11, port: 22}
      b: {address: 198.51.100.12, port: 22}
      c: {address: 203.0.113.13, port: 22}
    roots: {a: /var/lib/resilient-vm, b: /var/lib/resilient-vm, c: /var/lib/resilient-vm}
    nows: {a: null, b: null, c: null, localhost: null}
    retention_days: 14
    retention_minimum: 3
    timezone: UTC
  contains:
    vm:
      description: Inventory name of the VM.
      type: str
      returned: success
    domain:
      description: Name of the libvirt domain.
      type: str
      returned: success
    active:
      description: The production host; the state documents on the machines may say otherwise.
      type: str
      returned: success
    machines:
      description: Inventory names of the production host, the standby host and the backup storage.
      type: list
      elements: str
      returned: success
    who:
      description: Whoever runs this, for the journals of VMs - the job and user of AWX, else the control node's user.
      type: str
      returned: success
    machine_settings:
      description: Settings of each machine by its inventory name.
      type: dict
      returned: success
    addresses:
      description: Address and ssh port of each machine as the others reach it.
      type: dict
      returned: success
    roots:
      description: Folder under which everything lies, of each machine.
      type: dict
      returned: success
    nows:
      description: What replaces the clock of each machine and, as C(localhost), of the control node; null for nothing.
      type: dict
      returned: success
begun:
  description:
    - When the command began that this is a part of, in seconds since 1970 by the control node's clock.
    - Where the system does not tell, when this task ran.
  returned: success
  type: float
  sample: 1796068001.682269
problems:
  description: One sentence for each thing that is wrong.
  returned: failure
  type: list
  elements: str
  sample: [resilient_vm_retention_days of erp is 0, but it takes a whole number of days, 1 or more]
"""
