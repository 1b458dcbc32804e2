#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell which images the backup storage holds."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_info
short_description: Tell which images of VMs the backup storage holds
version_added: 0.1.0
description:
  - Runs on the backup storage and answers for any number of VMs in one call.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.common
attributes:
  check_mode:
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
options:
  vms:
    description: The VMs to tell about.
    type: list
    elements: dict
    required: true
    suboptions:
      customer:
        description: Name of the customer.
        type: str
        required: true
      vm:
        description: Name of the VM, which is its inventory name.
        type: str
        required: true
"""

EXAMPLES = r"""
- name: See what is kept of erp
  edgecloud.resilient_vm.image_info:
    vms:
      - customer: acme
        vm: erp
  delegate_to: c
  register: kept
"""

RETURN = r"""
images:
  description: What is known of each VM, by C(customer/vm).
  returned: success
  type: dict
  sample:
    acme/erp:
      laid_out: true
      images: []
      newest:
      mended: []
      drills: []
      incoming:
      transfers: []
      last_transfers:
        fetch:
        refresh:
        restore:
      problems: []
      state:
  contains:
    laid_out:
      description: Whether the site playbook has laid the VM's folders on this machine.
      type: bool
      returned: success
    images:
      description:
        - All published images, oldest first. Each is its manifest with C(complete), C(problem), C(damaged),
          C(pinned_by), C(reading), C(bytes_allocated) and C(bytes_sent) beside it.
        - Sizes are in bytes. Space shared between images is counted in each.
      type: list
      elements: dict
      returned: success
    newest:
      description: The newest complete image, highest by epoch and id, or null.
      type: dict
      returned: success
    mended:
      description:
        - The last twenty blocks and files that were mended, as RV(edgecloud.resilient_vm.image_verify#module:repaired)
          has them, with C(store) and C(when) beside it.
      type: list
      elements: dict
      returned: success
    drills:
      description: The newest record of a drill of each image that has one (M(edgecloud.resilient_vm.image_drill)).
      type: list
      elements: dict
      returned: success
    incoming:
      description: Id and allocated bytes of an image that is arriving, or whose transfer was interrupted, or null.
      type: dict
      returned: success
    transfers:
      description: Transfers that run now, with their progress.
      type: list
      elements: dict
      returned: success
    last_transfers:
      description: The result the last transfer of each hop left, or null.
      type: dict
      returned: success
    problems:
      description: A sentence for each image that can't be used.
      type: list
      elements: str
      returned: success
    state:
      description: The VM's state document, or null.
      type: dict
      returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vms_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._images import images_of
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run


def main() -> None:
    module = AnsibleModule(vms_spec(), supports_check_mode=True)
    try:
        layouts = [Layout(vm["customer"], vm["vm"], module.params["root"]) for vm in module.params["vms"]]
        images = {layout.name: images_of(layout, run) for layout in layouts}
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    module.exit_json(changed=False, images=images)


if __name__ == "__main__":
    main()
