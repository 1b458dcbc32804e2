#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot a twin of a VM, as one of its images has it, where it can reach nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_drill
short_description: Boot a twin of a VM where it can reach nothing
version_added: 0.1.0
description:
  - Runs on the host that stands by, to which M(edgecloud.resilient_vm.image_transfer) has brought the image.
  - The twin has another name, UUID and MAC addresses, its own copies of the disks, NVRAM and TPM state, and its
    interfaces are attached to nothing. It is transient; a unit holds it, and takes it away when O(expire_seconds) have
    passed.
  - Waits until it is ready. A twin that isn't is a result, not a failure of this module.
  - Refuses where the host does not stand by for the VM at rest. A drill that still runs is ended first.
  - M(edgecloud.resilient_vm.vm_drill_end) keeps the evidence and ends it.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.common
  - edgecloud.resilient_vm.common.vm
  - edgecloud.resilient_vm.common.restored
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  host:
    description: This host's inventory name.
    type: str
    required: true
  name:
    description: Name of the twin.
    type: str
    required: true
  definition:
    description: The files of the machine definition as the backup storage's manifest has them.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the file.
        type: str
        required: true
      sha256:
        description: Its SHA-256.
        type: str
        required: true
  ready_text:
    description: What its serial console shows when it is ready. The guest agent is asked when this is left out.
    type: str
  wait_seconds:
    description: How long it may take until it is ready, in seconds.
    type: int
    default: 300
  expire_seconds:
    description: After so many seconds it is taken away, whatever became of the playbook.
    type: int
    default: 3600
"""

EXAMPLES = r"""
- name: Boot a twin
  edgecloud.resilient_vm.vm_drill:
    customer: acme
    vm: erp
    host: b
    name: erp-drill
    image_id: 20260113T020000Z
    disks: "{{ drill.decision.disks }}"
    definition: "{{ drill.decision.definition }}"
  delegate_to: b
  register: twin
"""

RETURN = r"""
uuid:
  description: UUID of the twin, or null when it would be made.
  returned: success
  type: str
  sample: 7a1c1f0e-9e3b-4d55-9f0d-0a8d3a8f6b1c
ready:
  description: By what it is seen to be ready, whether it was, and what is to be said of it.
  returned: not in check mode
  type: dict
  sample:
    check: guest agent
    passed: true
    said: ready after 4.6 s
  contains:
    check:
      description: By what it is seen.
      type: str
      returned: success
    passed:
      description: Whether it was ready.
      type: bool
      returned: success
    said:
      description: How it went.
      type: str
      returned: success
seconds:
  description: Seconds from its start until it was ready, or was given up.
  returned: not in check mode
  type: float
  sample: 4.6
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _drill
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import restored_spec, vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._restored_files import Wish


def main() -> None:
    module = AnsibleModule(
        {
            **vm_spec(),
            **restored_spec({"required": True}),
            "host": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "ready_text": {"type": "str"},
            "wait_seconds": {"type": "int", "default": 300},
            "expire_seconds": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    wanted = dict(module.params)
    try:
        layout = Layout(wanted.pop("customer"), wanted.pop("vm"), wanted.pop("root"))
        del wanted["now"]
        name, host, text = wanted.pop("name"), wanted.pop("host"), wanted.pop("ready_text")
        twin = _drill.Twin(name, host, text or "", wanted.pop("wait_seconds"), wanted.pop("expire_seconds"))
        wish = Wish(path=layout.drill, store="restores", **wanted)
        _drill.examine(layout, wish, twin, run)
        diff = {"before": {"twin": "absent"}, "after": {"twin": f"{twin.name} of image {wish.image_id}"}}
        if module.check_mode:
            module.exit_json(changed=True, uuid=None, diff=diff)
        identity = _drill.begin(layout, wish, twin, run)
        wrong, seconds = _drill.boot(layout, twin, identity, run)
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    ready = {"check": twin.check, "passed": not wrong, "said": wrong or f"ready after {seconds:.1f} s"}
    module.exit_json(changed=True, uuid=identity, ready=ready, seconds=seconds, diff=diff)


if __name__ == "__main__":
    main()
