# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each machine saw."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _takeover

DOCUMENTATION = r"""
name: looks_of
short_description: What each machine saw
version_added: 0.1.0
description:
  - Picks what M(edgecloud.resilient_vm.vm_look) returned out of the registered loop over C(failover_job), each with the
    machine's name in C(machine), that collects the answers of looks that were begun on several machines.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
positional: tried, active
options:
  _input:
    description: The registered result.
    type: dict
    required: true
  tried:
    description: The registered result of a task that the control node ran on the active host, if it could.
    type: dict
    required: true
  active:
    description: Inventory name of the active host.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what each machine saw
  ansible.builtin.debug:
    msg: "{{ looks | edgecloud.resilient_vm.looks_of(tried, 'a') }}"
"""

RETURN = r"""
_value:
  description: What each machine that could look saw, by its name. V(localhost) is the control node.
  type: dict
"""


class FilterModule:
    """A filter of the takeover."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"looks_of": _takeover.looks_of}
