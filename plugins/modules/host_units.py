#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lay systemd units and have them begin with the host, all in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_units
short_description: Lay systemd units and have them begin with the host
version_added: 0.1.0
description:
  - Lays unit files in C(/etc/systemd/system), has those that should begin with the host do so, and starts those that
    should run from now on. One call for all units of a host, since each call costs more than what it does.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
attributes:
  check_mode:
    description: Can run in check mode and say what it would change without changing anything.
    support: full
  diff_mode:
    description: Returns the files that differ, and which units are enabled and started, before and after.
    support: full
options:
  units:
    description: The units.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the unit, with its suffix.
        type: str
        required: true
      content:
        description: What its file holds.
        type: str
        required: true
      enabled:
        description: Whether it begins with the host. One that shall not is left as it is.
        type: bool
        default: false
      started:
        description: Whether it runs from now on. It is started anew when its file was another one.
        type: bool
        default: false
"""

EXAMPLES = r"""
- name: Ask every minute whether a VM was taken over elsewhere
  edgecloud.resilient_vm.host_units:
    units:
      - name: resilient-vm-superseded.service
        content: "{{ lookup('ansible.builtin.template', 'resilient-vm-superseded.service.j2') }}"
      - name: resilient-vm-superseded.timer
        content: "{{ lookup('ansible.builtin.template', 'resilient-vm-superseded.timer.j2') }}"
        enabled: true
        started: true
"""

RETURN = r"""
enabled:
  description: Which of the units begin with the host now.
  returned: success
  type: list
  elements: str
  sample: [resilient-vm-superseded.timer]
started:
  description: Which of the units run now.
  returned: success
  type: list
  elements: str
  sample: [resilient-vm-superseded.timer]
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._tree import Tree
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._unit_files import Unit, UnitFiles


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "units": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "content": {"type": "str", "required": True},
                    "enabled": {"type": "bool", "default": False},
                    "started": {"type": "bool", "default": False},
                },
            },
        },
        supports_check_mode=True,
    )
    tree = Tree(dry=module.check_mode)
    try:
        before, after = UnitFiles(run, tree).settle([Unit(**unit) for unit in module.params["units"]])
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    module.exit_json(
        changed=tree.changed or before != after,
        diff={"before": {**tree.before, **asdict(before)}, "after": {**tree.after, **asdict(after)}},
        **asdict(after),
    )


if __name__ == "__main__":
    main()
