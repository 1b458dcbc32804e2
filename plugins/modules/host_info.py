#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what a machine is and what it knows of VMs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Tell what a machine is and what it knows of VMs
version_added: 0.1.0
description:
  - Runs on any of the three machines and answers for any number of VMs in one call.
  - Nothing is written, not even for a moment; but for what O(look_for) finds, in check mode too, which waits under
    C(/run) until it is asked for, or for ten minutes.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.common
  - edgecloud.resilient_vm.common.domains
attributes:
  check_mode:
    description: Changes nothing in either mode.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
options:
  libvirt:
    description: Whether libvirt is asked for the domains. A machine that only stores images needs none.
    type: bool
    default: true
  parts:
    description:
      - What else is told of the VMs in the same call, since a call costs more than its answer, V(images) as by
        M(edgecloud.resilient_vm.image_info) and V(standbys) as by M(edgecloud.resilient_vm.standby_info).
    type: list
    elements: str
    choices: [images, standbys]
    default: []
  newest:
    description: Whether the machine tells of the newest image it stores of each VM.
    type: bool
    default: false
  look_for:
    description:
      - What it begins to look for before it answers, as M(edgecloud.resilient_vm.vm_look) does, which tells what was
        found.
    type: dict
    suboptions:
      targets:
        description: What to look for.
        type: list
        elements: dict
        required: true
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
        description: Whether this machine's default gateway is looked for as well.
        type: bool
        default: false
      patience_seconds:
        description: How long it waits for an answer, in seconds.
        type: float
        default: 2.0
"""

EXAMPLES = r"""
- name: See whether erp can be copied
  edgecloud.resilient_vm.host_info:
    vms:
      - customer: acme
        vm: erp
  delegate_to: a
  register: active

- name: Ask the backup storage about its images, too
  edgecloud.resilient_vm.host_info:
    libvirt: false
    parts: [images]
    vms:
      - customer: acme
        vm: erp
  delegate_to: c
  register: storage
"""

RETURN = r"""
clock:
  description: This machine's clock in UTC, or what O(now) replaced it with.
  returned: success
  type: str
  sample: "2026-11-22T23:31:21Z"
version:
  description: What the installed mover calls itself, or null when the site playbook has not installed it.
  returned: success
  type: str
  sample: 0.1.0+000000000000 protocol 1
account_missing:
  description: Customers among O(vms) whose account is not on this machine.
  returned: success
  type: list
  elements: str
  sample: []
root:
  description: Where O(root) lies, or will lie. Measured on the nearest folder that exists.
  returned: success
  type: dict
  sample:
    path: /var/lib/resilient-vm
    exists: true
    filesystem: xfs
    reflink: true
    free_bytes: 25250185216
    total_bytes: 25702694912
  contains:
    path:
      description: The folder.
      type: str
      returned: success
    exists:
      description: Whether it is there.
      type: bool
      returned: success
    filesystem:
      description: Type of the filesystem.
      type: str
      returned: success
    reflink:
      description: Whether files there can share blocks, found by trying it on files without a name.
      type: bool
      returned: success
    free_bytes:
      description: Free space in bytes.
      type: int
      returned: success
    total_bytes:
      description: Size of the filesystem in bytes.
      type: int
      returned: success
libvirt:
  description: Versions of libvirt and QEMU, or null on a machine without libvirt.
  returned: success
  type: dict
  sample:
    version: 9.0.0
    qemu_version: 7.2.22
domains:
  description: What libvirt knows of each VM, by C(customer/vm). Empty on a machine without libvirt.
  returned: success
  type: dict
  sample:
    acme/nope:
      exists: false
    acme/vm1:
      exists: true
      uuid: 3c6bb72f-2a19-44b9-af47-a8ee60341a79
      state: running
      autostart: false
      disks:
        - target: vda
          path: /var/lib/libvirt/images/vm1-a.qcow2
          format: qcow2
          size_bytes: 268435456
          allocated_bytes: 237047808
      skipped:
        - target: sda
          reason: CD-ROM
      refused: []
      guest_agent: true
      backup_job:
      own_checkpoints: []
      foreign_checkpoints: []
      open_snapshot:
  contains:
    exists:
      description: Whether the domain is defined here. The other values are there only when it is.
      type: bool
      returned: success
    uuid:
      description: Its UUID.
      type: str
      returned: when it exists
    state:
      description: Its state in libvirt's words, like V(running) and V(shut off).
      type: str
      returned: when it exists
    autostart:
      description: Whether it starts with the host.
      type: bool
      returned: when it exists
    disks:
      description: Disks an image would hold, with their sizes in bytes.
      type: list
      elements: dict
      returned: when it exists
    skipped:
      description: Drives an image would not hold, with the reason.
      type: list
      elements: dict
      returned: when it exists
    refused:
      description: Disks and devices an image can't hold, with the reason, under the names that exclude them.
      type: list
      elements: dict
      returned: when it exists
    guest_agent:
      description: Whether a guest agent answers in it.
      type: bool
      returned: when it exists
    backup_job:
      description: V(ours), V(foreign), or null when none is active.
      type: str
      returned: when it exists
    own_checkpoints:
      description: Checkpoints of this collection.
      type: list
      elements: str
      returned: when it exists
    foreign_checkpoints:
      description: Checkpoints of others, which are left alone.
      type: list
      elements: str
      returned: when it exists
    open_snapshot:
      description:
        - C(id) of the snapshot that is open, and in C(valid) whether its watch vouches for it. Null when there is
          none. C(id) is null for what is left of one that broke.
      type: dict
      returned: when it exists
states:
  description: Each VM's state document on this machine, or null, by C(customer/vm).
  returned: success
  type: dict
  sample:
    acme/vm1:
parts:
  description:
    - Each of O(parts) that was asked for, as the result of its own module; with C(msg) in its place where that would
      have failed, which fails nothing else.
  returned: success
  type: dict
  sample: {}
newest:
  description: The newest whole image stored here of each VM, or null, by C(customer/vm).
  returned: with O(newest)
  type: dict
  sample:
    acme/vm1:
      id: 20260114T020000Z
      instant: "2026-01-14T02:00:00Z"
      epoch: 1
      complete: true
looking:
  description: Under which name M(edgecloud.resilient_vm.vm_look) tells what was found.
  returned: with O(look_for), also when the module fails
  type: str
  sample: 8f0c2a4e6b1d4f7a9c3e5d7b1a2f4c6e
stops:
  description:
    - When this host last stopped each VM by itself, because it lives elsewhere or because nobody answered, why, and at
      which epoch it took itself for its active host; null where it never did. By C(customer/vm).
  returned: success
  type: dict
  sample:
    acme/vm1:
      when: '2026-11-29T13:50:12Z'
      why: >-
        acme/vm1 was stopped on a: c says b is active since epoch 2; what it wrote here since then is on its disks only
      epoch: 1
kept_aside:
  description: Files of each VM's earlier disks that are kept aside on this machine, by C(customer/vm).
  returned: success
  type: dict
  sample:
    acme/vm1:
      - target: vda
        path: /var/lib/libvirt/images/vm1-vda.qcow2
        aside: /var/lib/libvirt/images/vm1-vda.qcow2.before-20260115T101500Z
        when: '2026-01-15T10:15:00Z'
        bytes_allocated: 4294967296
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock, _host
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import look_spec, vms_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail, sentence
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._images import images_of
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._standbys import standbys_of


def argument_spec() -> dict[str, Any]:
    return {
        **vms_spec(domain={"type": "str"}),
        "libvirt": {"type": "bool", "default": True},
        "parts": {"type": "list", "elements": "str", "choices": ["images", "standbys"], "default": []},
        "newest": {"type": "bool", "default": False},
        "look_for": {"type": "dict", "options": look_spec(needed=True)},
    }


def part(name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    try:
        if name == "images":
            return {name: {key: images_of(layout, run) for key, (layout, _domain) in wanted.items()}}
        return {name: standbys_of(wanted, run)}
    except (ResilientVmError, OSError) as error:
        return {"msg": sentence(error)}


def begun(wanted: dict[str, Any]) -> str:
    # Seldom asked for, and an import costs every call that reads it.
    from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _looking

    return _looking.begin(lambda: _looking.seen(wanted, run))


def ask(params: dict[str, Any]) -> dict[str, Any]:
    wanted = _host.layouts_of(params["vms"], params["root"])
    layouts = [layout for layout, _domain in wanted.values()]
    libvirt = _host.libvirt_of(run) if params["libvirt"] else None
    return {
        "clock": _clock.iso(_clock.now(params["now"])),
        "version": _host.mover_version(run),
        "account_missing": _host.missing_accounts(layouts),
        "root": _host.root_of(params["root"], run),
        "libvirt": libvirt,
        "domains": _host.domains_of(wanted, run) if libvirt else {},
        "states": _host.states_of(layouts),
        "parts": {name: part(name, wanted) for name in params["parts"]},
        **({"newest": _host.newest_of(layouts)} if params["newest"] else {}),
        "stops": _host.stops_of(layouts),
        "kept_aside": _host.kept_of(layouts),
    }


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    looking = {}
    try:
        if module.params["look_for"]:
            # First, since it takes the longest; what it finds is of use also when the rest can't be told.
            looking["looking"] = begun(module.params["look_for"])
        answer = ask(module.params)
    except (ResilientVmError, OSError) as error:
        fail(module, error, **looking)
    module.exit_json(changed=False, **answer, **looking)


if __name__ == "__main__":
    main()
