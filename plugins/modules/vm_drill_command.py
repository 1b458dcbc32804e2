#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command in a drill's twin."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_drill_command
short_description: Run a command in a drill's twin
version_added: 0.1.0
description:
  - For the tasks that C(resilient_vm_drill_tasks) names. Runs on the host where the twin does, and reaches it through
    its guest agent, since no network leads there.
  - Fails when the command does. It is not given to a shell.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
attributes:
  check_mode:
    description: Does nothing in check mode, since nobody knows what the command does.
    support: none
  diff_mode:
    description: Shows no difference.
    support: none
options:
  name:
    description: Name of the twin's domain, which such tasks have as C(drill_name).
    type: str
    required: true
  argv:
    description: The program and its arguments.
    type: list
    elements: str
    required: true
  timeout_seconds:
    description: How long it may take, in seconds.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: See that the database answers
  edgecloud.resilient_vm.vm_drill_command:
    name: "{{ drill_name }}"
    argv: [psql, -c, select 1]
  delegate_to: "{{ drill_host }}"
"""

RETURN = r"""
rc:
  description: Its exit code; negative, the signal that ended it.
  returned: always
  type: int
  sample: 0
stdout:
  description: What it printed.
  returned: always
  type: str
  sample: "1"
stderr:
  description: What it said of errors.
  returned: always
  type: str
  sample: ""
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._guest import command
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._virsh import Virsh


def main() -> None:
    module = AnsibleModule(
        {
            "name": {"type": "str", "required": True},
            "argv": {"type": "list", "elements": "str", "required": True},
            "timeout_seconds": {"type": "int", "default": 60},
        },
    )
    given = module.params
    try:
        if not given["argv"]:
            raise ResilientVmError("argv is empty; name a program")
        virsh = Virsh(run)
        uuid = virsh.domains().get(given["name"])
        if uuid is None:
            raise ResilientVmError(f"no twin {given['name']} runs on this host; it was ended, or never started")
        ended = command(virsh, uuid, given["argv"], given["timeout_seconds"])
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    told = {"rc": ended.rc, "stdout": ended.stdout.rstrip("\n"), "stderr": ended.stderr.rstrip("\n")}
    if ended.rc != 0:
        said = told["stderr"] or told["stdout"] or "no message"
        module.fail_json(msg=f"{' '.join(given['argv'])} failed in the twin with {ended.rc}: {said}", **told)
    module.exit_json(changed=True, **told)


if __name__ == "__main__":
    main()
