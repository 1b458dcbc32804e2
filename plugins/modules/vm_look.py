#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look from a machine whether others can be reached."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_look
short_description: Look from a machine whether others can be reached
version_added: 0.1.0
description:
  - Tries a TCP connection to each target, where a refused one counts as an answer, and an echo where the machine has
    the program C(ping). All at once; takes as long as it has patience when a target is silent.
  - Doesn't ask for anything but an answer, and fails for no target.
  - With O(job) in place of O(targets) it looks for nothing, but tells what a look found that
    M(edgecloud.resilient_vm.host_info) began, and forgets it, in check mode too.
  - With O(guest) it also asks, meanwhile, whether somebody uses a guest's IPv4 address in the networks of this host
    that the guest is attached to (by ARP probes, which claim nothing).
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
attributes:
  check_mode:
    description: Changes nothing in either mode.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
options:
  targets:
    description: What to look for. Either this or O(job).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name in the result.
        type: str
        required: true
      address:
        description: Address or name.
        type: str
        required: true
      port:
        description: TCP port.
        type: int
        required: true
  guest:
    description: A machine of this host's libvirt that shall have an address.
    type: dict
    suboptions:
      domain:
        description: Name of the libvirt domain.
        type: str
        required: true
      address:
        description: Its address and a port, like V(192.0.2.80:443).
        type: str
        required: true
  gateway:
    description:
      - Whether this machine's default gateway is looked for as well, by an echo and on port 53; C(its gateway) in
        RV(seen). A machine without one sees none.
    type: bool
    default: false
  patience_seconds:
    description:
      - How long it waits for an answer, in seconds. With O(job) as the look had it, to which 20 seconds are added.
    type: float
    default: 2.0
  job:
    description:
      - The look to tell of, as RV(edgecloud.resilient_vm.host_info#module:looking) names it. It is told of once.
    type: str
"""

EXAMPLES = r"""
- name: Look for the production host from here
  edgecloud.resilient_vm.vm_look:
    targets:
      - name: a
        address: 192.0.2.11
        port: 22
  register: looked

- name: Tell what the look found that was begun beside another question
  edgecloud.resilient_vm.vm_look:
    job: "{{ asked.looking }}"
"""

RETURN = r"""
began:
  description: When it began to look, by the machine's own clock.
  returned: success
  type: str
  sample: "2026-01-14T11:30:00Z"
seen:
  description: How each target was reached, by its name; empty where it was not.
  returned: success
  type: dict
  sample:
    a: ""
    c: port 22 of 10.77.0.13 answers
address:
  description:
    - Who uses the guest's address, C(mac) on C(device), empty for nobody; C(own) tells that it is the guest's own MAC
      address. C(unchecked) says why nobody could be asked.
  returned: with O(guest), or when the look of O(job) had it
  type: dict
  sample:
    address: 192.0.2.80
    devices: [vmbr0]
    mac: ""
    device: ""
    own: false
    unchecked: ""
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _looking
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import look_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run


def main() -> None:
    module = AnsibleModule(
        {**look_spec(needed=False), "job": {"type": "str"}},
        mutually_exclusive=[("targets", "job")],
        required_one_of=[("targets", "job")],
        supports_check_mode=True,
    )
    given = module.params
    try:
        if given["job"] is None:
            found = _looking.seen(given, run)
        else:
            found = _looking.outcome(given["job"], given["patience_seconds"])
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
