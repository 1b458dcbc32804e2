# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a VM's run is red."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _report

DOCUMENTATION = r"""
name: failures
short_description: Say why a VM's run is red
version_added: 0.1.0
description:
  - Collects what went wrong for one VM in a run of the role P(edgecloud.resilient_vm.cycle#role).
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
options:
  _input:
    description: The variables of the VM, which is C(hostvars[inventory_hostname]).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Fail for each VM that failed
  ansible.builtin.fail:
    msg: "{{ hostvars[inventory_hostname] | edgecloud.resilient_vm.failures | join(', ') }}"
  when: hostvars[inventory_hostname] | edgecloud.resilient_vm.failures | length > 0
"""

RETURN = r"""
_value:
  description: One sentence for each reason; empty when there is none.
  type: list
  elements: str
"""


class FilterModule:
    """A filter of the daily cycle."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"failures": _report.failures}
