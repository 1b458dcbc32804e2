# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of each VM in a run."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _report

DOCUMENTATION = r"""
name: recap
short_description: Say what came of each VM in a run
version_added: 0.1.0
description:
  - Tells for people what the role P(edgecloud.resilient_vm.cycle#role) did for VMs, or why it failed.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.hostvars
positional: vms, check_mode
options:
  check_mode:
    description: Whether nothing was changed, and the lines say what would be.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Say what came of each VM
  ansible.builtin.debug:
    msg: "{{ hostvars | edgecloud.resilient_vm.recap(ansible_play_hosts_all) }}"
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
        return {"recap": _report.recap}
