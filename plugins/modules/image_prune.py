#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Erase images that are old enough."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_prune
short_description: Erase images of VMs that are old enough
version_added: 0.1.0
description:
  - Runs on the backup storage, for any number of VMs in one call.
  - Goes through the images of a VM oldest first and erases each that is O(vms[].retention_days) calendar days or more
    older than the newest complete one.
  - An image stays that is pinned or being read, on which the standby's generation is based, that is the newest of a
    week, month or year to be kept, or without which fewer than O(vms[].minimum) complete images (never more than
    O(vms[].retention_days)) would remain.
  - While there is no newest image to count from, nothing is erased.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.common
attributes:
  check_mode:
    support: full
  diff_mode:
    description: Returns for each VM the images before and after, each with the reason why it goes or stays.
    support: full
options:
  vms:
    description: The VMs whose images are looked at.
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
      retention_days:
        description: Age in calendar days from which an image goes, counted from the newest one.
        type: int
        default: 14
      minimum:
        description: Number of complete images that stay whatever their age.
        type: int
        default: 3
      timezone:
        description: Time zone whose calendar days count.
        type: str
        default: UTC
      keep_weekly:
        description: Of so many of the last weeks (ISO 8601) that have a complete image, the newest one stays.
        type: int
        default: 0
      keep_monthly:
        description: Of so many of the last calendar months that have a complete image, the newest one stays.
        type: int
        default: 0
      keep_yearly:
        description: Of so many of the last calendar years that have a complete image, the newest one stays.
        type: int
        default: 0
      newest_id:
        description:
          - Id of the image that has just been published. Nothing is erased when it isn't there.
          - In check mode it may be an image that would be published; ages are then counted from it.
          - Left out, ages are counted from the newest complete image there is.
        type: str
      standby_generation:
        description: Id of the newest generation the standby host holds. Empty when it holds none.
        type: str
"""

EXAMPLES = r"""
- name: Keep fourteen days of erp
  edgecloud.resilient_vm.image_prune:
    vms:
      - customer: acme
        vm: erp
        retention_days: 14
        timezone: Europe/Amsterdam
        keep_monthly: 12
        standby_generation: 20260114T020000Z
  delegate_to: c
"""

RETURN = r"""
erased:
  description: Images that were erased, or in check mode would be, oldest first.
  returned: success
  type: list
  elements: dict
  sample:
    - vm: acme/erp
      id: 20260101T020000Z
      reason: 14 days older than the newest image 20260115T020000Z, 14 are kept
  contains:
    vm:
      description: The VM, as C(customer/vm).
      type: str
      returned: success
    id:
      description: Id of the image.
      type: str
      returned: success
    reason:
      description: Why it goes.
      type: str
      returned: success
kept:
  description: Images that stay, oldest first, in the same form.
  returned: success
  type: list
  elements: dict
  sample:
    - vm: acme/erp
      id: 20260102T020000Z
      reason: 13 days older than the newest image 20260115T020000Z, 14 are kept
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vms_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._prune import Wish, prune


def argument_spec() -> dict[str, Any]:
    return vms_spec(
        retention_days={"type": "int", "default": 14},
        minimum={"type": "int", "default": 3},
        timezone={"type": "str", "default": "UTC"},
        keep_weekly={"type": "int", "default": 0},
        keep_monthly={"type": "int", "default": 0},
        keep_yearly={"type": "int", "default": 0},
        newest_id={"type": "str"},
        standby_generation={"type": "str"},
    )


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    erased: list[dict[str, str]] = []
    kept: list[dict[str, str]] = []
    try:
        for given in module.params["vms"]:
            layout = Layout(given.pop("customer"), given.pop("vm"), module.params["root"])
            for verdict in prune(layout, Wish(**given), dry=module.check_mode):
                entry = {"vm": layout.name, "id": verdict.image.id, "reason": verdict.reason}
                (erased if verdict.erase else kept).append(entry)
    except (ResilientVmError, OSError) as error:
        fail(module, error, erased=erased)
    after = {f"{entry['vm']} {entry['id']}": entry["reason"] for entry in kept}
    before = {**after, **{f"{entry['vm']} {entry['id']}": entry["reason"] for entry in erased}}
    module.exit_json(changed=bool(erased), erased=erased, kept=kept, diff={"before": before, "after": after})


if __name__ == "__main__":
    main()
