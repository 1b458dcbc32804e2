# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How VMs are protected right now, as a table."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _report

DOCUMENTATION = r"""
name: status_table
short_description: How VMs are protected right now, as a table
version_added: 0.1.0
description:
  - The same as P(edgecloud.resilient_vm.status#filter) for people.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.hostvars
positional: vms
"""

EXAMPLES = r"""
- name: Say it
  ansible.builtin.debug:
    msg: "{{ hostvars | edgecloud.resilient_vm.status_table(ansible_play_hosts_all) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: Lines of text.
  type: list
  elements: str
"""


class FilterModule:
    """A filter of the daily cycle."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"status_table": _report.status_table}
