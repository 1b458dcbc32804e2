#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install the mover program, of which every machine runs the same version."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mover
short_description: Install the mover program
version_added: 0.1.0
description:
  - Installs the program that sends and receives images between machines, built from the very sources this
    collection's modules run with.
  - A new version takes the place of the old one at one instant. A mover that is running goes on with its own files.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
attributes:
  check_mode:
    description: Can run in check mode and say what it would change without changing anything.
    support: full
  diff_mode:
    description: Returns the settings of the program before and after.
    support: full
options:
  host:
    description: Inventory name of this machine.
    type: str
    required: true
  root:
    description: Folder under which everything of this collection lies on this machine.
    type: path
    default: /var/lib/resilient-vm
  full_copies:
    description: Whether images may be full copies where files can't share blocks.
    type: bool
    default: false
  collection:
    description: Version of the collection. Filled in on the control node.
    type: str
  sources:
    description: Digest of the program's sources. Filled in on the control node.
    type: str
  archive:
    description: The sources, as carried to the machine. Filled in on the control node when they are needed.
    type: path
"""

EXAMPLES = r"""
- name: Install the mover program
  edgecloud.resilient_vm.mover:
    host: "{{ inventory_hostname }}"
"""

RETURN = r"""
version:
  description: What the program was installed as.
  returned: success
  type: dict
  sample: {"collection": "0.1.0", "host": "a", "root": "/var/lib/resilient-vm"}
installed:
  description: Whether exactly this version is in force now.
  returned: success
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._errors import ResilientVmError, fail
from ..module_utils._layout import DEFAULT_ROOT, DEFAULT_RUNTIME
from ..module_utils._process import run
from ..module_utils._program import Program


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "root": {"type": "path", "default": DEFAULT_ROOT},
            "full_copies": {"type": "bool", "default": False},
            "collection": {"type": "str"},
            "sources": {"type": "str"},
            "archive": {"type": "path"},
        },
        supports_check_mode=True,
    )
    names = ("collection", "sources", "host", "root", "full_copies")
    wanted = {**{name: module.params[name] for name in names}, "runtime": DEFAULT_RUNTIME}
    try:
        program = Program(wanted)
        before = program.found()
        if before != wanted and module.params["archive"] and not module.check_mode:
            program.install(module.params["archive"], run)
        after = wanted if module.check_mode else program.found()
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    module.exit_json(
        changed=before != after,
        installed=after == wanted,
        version=wanted,
        diff={"before": before or {}, "after": after or {}},
    )


if __name__ == "__main__":
    main()
