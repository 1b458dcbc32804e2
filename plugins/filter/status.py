# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How VMs are protected right now, as data."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _report

DOCUMENTATION = r"""
name: status
short_description: How VMs are protected right now, as data
version_added: 0.1.0
description:
  - Makes one document a VM of what the machines said. Ages are in seconds since the instant of the snapshot.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.hostvars
positional: vms
"""

EXAMPLES = r"""
- name: Say it as JSON
  ansible.builtin.debug:
    msg: "{{ hostvars | edgecloud.resilient_vm.status(ansible_play_hosts_all) | to_nice_json }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: A document for each VM. Its C(alarm) is a sentence when the newest image is too old or unknown.
  type: list
  elements: dict
"""


class FilterModule:
    """A filter of the daily cycle."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"status": _report.status}
