#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what the standby host holds of VMs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: standby_info
short_description: Tell what the standby host holds of VMs
version_added: 0.1.0
description:
  - Runs on the standby host and answers for any number of VMs in one call. Nothing is written.
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
"""

EXAMPLES = r"""
- name: See which generation of erp stands by
  edgecloud.resilient_vm.standby_info:
    vms:
      - customer: acme
        vm: erp
  delegate_to: b
  register: standby
"""

RETURN = r"""
standbys:
  description: What is held of each VM, by C(customer/vm).
  returned: success
  type: dict
  sample:
    acme/erp:
      current:
      generations: []
      incoming:
      defined: true
      uuid: 11111111-2222-4333-8444-555555555555
      state: shut off
      former: false
      mended: []
      problems: []
  contains:
    current:
      description: The current generation in the form of C(generations), or null.
      type: dict
      returned: success
    generations:
      description:
        - All generations, oldest first. Each is its manifest, with C(complete), C(problem), C(damaged), C(reading) and
          C(bytes_allocated) beside it. Sizes are in bytes.
      type: list
      elements: dict
      returned: success
    incoming:
      description: Id and allocated bytes of a generation that is arriving, or whose transfer was interrupted, or null.
      type: dict
      returned: success
    defined:
      description: Whether the domain is defined on this host.
      type: bool
      returned: success
    uuid:
      description: Its UUID, or null.
      type: str
      returned: success
    state:
      description: Its state in libvirt's words, or null.
      type: str
      returned: success
    former:
      description:
        - Whether the host has the VM still as it ran there before it moved, so that it can't stand by for it. Not
          looked at, and V(false), in phase V(protected).
      type: bool
      returned: success
    unfit:
      description: Why this host could not start it now, a sentence each; empty also when it stands by with nothing.
      type: list
      elements: str
      returned: success
    crowded:
      description: Why this host could not run all the VMs that it was asked about at once; empty when it could.
      type: str
      returned: success
    mended:
      description:
        - The last twenty blocks and files that were mended, as RV(edgecloud.resilient_vm.image_verify#module:repaired)
          has them, with C(store) and C(when) beside it.
      type: list
      elements: dict
      returned: success
    problems:
      description: A sentence for each thing that is wrong.
      type: list
      elements: str
      returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vms_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._host import layouts_of
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._standbys import standbys_of


def main() -> None:
    module = AnsibleModule(vms_spec(domain={"type": "str"}), supports_check_mode=True)
    try:
        standbys = standbys_of(layouts_of(module.params["vms"], module.params["root"]), run)
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    module.exit_json(changed=False, standbys=standbys)


if __name__ == "__main__":
    main()
