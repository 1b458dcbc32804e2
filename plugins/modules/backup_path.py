#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove with a throwaway backup that snapshots can be read on this host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_path
short_description: Prove that snapshots can be read on this host
version_added: 0.1.0
description:
  - Starts a transient, paused domain without an operating system on a small disk of its own, opens a backup of it
    and reads that as the data plane's account, then removes everything again.
  - This is what shows whether AppArmor, SELinux and the modes of folders let a backup through.
  - Done again only when something has changed that the proof depends on, like the version of QEMU.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
attributes:
  check_mode:
    description: Can run in check mode and say whether a proof is due, without doing it.
    support: full
  diff_mode:
    description: Returns what the last proof depended on, and what this one does.
    support: full
options:
  root:
    description: Folder under which everything of this collection lies on this machine.
    type: path
    default: /var/lib/resilient-vm
  account:
    description: Account of the data plane on this host.
    type: str
    required: true
  domain_type:
    description: Type of the domain, like V(kvm) or V(qemu). By default V(kvm) where libvirt offers it.
    type: str
"""

EXAMPLES = r"""
- name: Prove that snapshots can be read here
  edgecloud.resilient_vm.backup_path:
    account: rvm-acme
"""

RETURN = r"""
circumstances:
  description: What the proof depends on. It is null in check mode on a machine where libvirt is still to be installed.
  returned: success
  type: dict
  sample: {"account": "rvm-acme", "libvirt": "9.0.0", "qemu": "7.2.22", "root": "/var/lib/resilient-vm"}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._backup_path import BackupPath
from ..module_utils._errors import ResilientVmError, fail
from ..module_utils._layout import DEFAULT_ROOT
from ..module_utils._process import run


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": DEFAULT_ROOT},
            "account": {"type": "str", "required": True},
            "domain_type": {"type": "str"},
        },
        supports_check_mode=True,
    )
    given = module.params
    path = BackupPath(given["root"], given["account"], run, given["domain_type"])
    try:
        before = path.proven()
        after = path.circumstances(may_lack_libvirt=module.check_mode)
        if before != after and not module.check_mode:
            path.prove(after)
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    module.exit_json(
        changed=before != after or after is None,
        circumstances=after,
        diff={"before": before or {}, "after": after or {}},
    )


if __name__ == "__main__":
    main()
