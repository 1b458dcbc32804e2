#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a generation current on the standby host and define its machine, ready to start."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_standby
short_description: Make a generation current on the standby host and define its machine, ready to start
version_added: 0.1.0
description:
  - Runs on the standby host after an image arrived there as a generation.
  - Makes it the current generation in one step, defines the VM from the definition in it, and erases older generations.
  - The defined VM has the same UUID, MAC addresses, machine type and memory. It does not run, does not start with the
    host, and names disks that do not exist before a promotion makes them.
  - Disks, file systems and devices that were left out of the image are left out of the definition. CD-ROM drives are
    empty.
  - Refuses on the active host, when the VM runs here, and when another machine has its name.
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
    description:
      - With V(absent) the VM is undefined and all its generations are erased.
    type: str
    choices: [present, absent]
    default: present
  domain:
    description: Name of the libvirt domain.
    type: str
    required: true
  uuid:
    description: UUID the generation must be of. Left out, the generation's own.
    type: str
  image_id:
    description: Id of the generation. Required with O(state=present).
    type: str
  epoch:
    description: Epoch the generation must be of. Required with O(state=present).
    type: int
  keep_generations:
    description: How many of the newest complete generations stay, the current one counted.
    type: int
    default: 1
  networks:
    description:
      - Names that networks, bridges or devices of the VM's interfaces have on this host, by the name they have on the
        other one. What is not named keeps its name.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Make the image of this night current
  edgecloud.resilient_vm.vm_standby:
    customer: acme
    vm: erp
    domain: erp
    image_id: 20260114T020000Z
    epoch: 1
    networks:
      br-office: br-standby
  delegate_to: b

- name: Forget the VM
  edgecloud.resilient_vm.vm_standby:
    state: absent
    customer: acme
    vm: erp
    domain: erp
  delegate_to: b
"""

RETURN = r"""
unfit:
  description: Why this host could not start it now, a sentence each; empty when it could.
  returned: when it is present, not in check mode
  type: list
  elements: str
  sample: []
current:
  description: Id of the current generation, or null when there is none.
  returned: success
  type: str
  sample: 20260114T020000Z
switched:
  description: Whether another generation was current before.
  returned: success
  type: bool
  sample: true
defined:
  description: Whether the VM was defined, for the first time or anew.
  returned: success
  type: bool
  sample: true
erased:
  description: Ids of the generations that were erased.
  returned: success
  type: list
  elements: str
  sample: [20260113T020000Z]
"""

from dataclasses import fields
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _abilities, _standby
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run


def argument_spec() -> dict[str, Any]:
    return {
        **vm_spec(),
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "domain": {"type": "str", "required": True},
        "uuid": {"type": "str"},
        "image_id": {"type": "str"},
        "epoch": {"type": "int"},
        "keep_generations": {"type": "int", "default": 1},
        "networks": {"type": "dict", "default": {}},
    }


def plan(params: dict[str, Any], layout: Layout) -> _standby.Plan:
    if params["state"] == "absent":
        return _standby.plan_absent(layout, run, params["domain"], params["uuid"])
    wish = _standby.Wish(**{field.name: params[field.name] for field in fields(_standby.Wish)})
    return _standby.plan_present(layout, run, wish)


def main() -> None:
    module = AnsibleModule(
        argument_spec(), supports_check_mode=True, required_if=[("state", "present", ["image_id", "epoch"])]
    )
    unfit: dict[str, list[str]] = {}
    try:
        layout = Layout(module.params["customer"], module.params["vm"], module.params["root"])
        planned = plan(module.params, layout)
        if not module.check_mode:
            _standby.apply(layout, run, planned)
            if planned.uuid:
                unfit["unfit"] = _abilities.Host(run).unfit(layout, planned.uuid)
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    module.exit_json(
        changed=planned.changes,
        **unfit,
        diff={"before": planned.before, "after": planned.after},
        current=planned.after["current"],
        switched=planned.switch is not None,
        defined=planned.define is not None,
        erased=list(planned.erase),
    )


if __name__ == "__main__":
    main()
