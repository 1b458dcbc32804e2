# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the gate of a VM's hosts."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _questions

DOCUMENTATION = r"""
name: gate_problems
short_description: What is wrong with the gate of a VM's hosts
version_added: 0.1.0
description:
  - Picks what concerns one VM out of the registered loop of M(edgecloud.resilient_vm.gate) over
    P(edgecloud.resilient_vm.questions#filter).
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
positional: plan
options:
  _input:
    description: The registered result.
    type: dict
    required: true
  plan:
    description: The VM's plan.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Fail for a VM whose hosts would start it twice, or not at all
  ansible.builtin.fail:
    msg: "{{ gates | edgecloud.resilient_vm.gate_problems(planned.plan) | join(' ') }}"
  when: gates | edgecloud.resilient_vm.gate_problems(planned.plan) | length > 0
"""

RETURN = r"""
_value:
  description: One sentence for each problem; empty when there is none.
  type: list
  elements: str
"""


class FilterModule:
    """A filter of the daily cycle."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"gate_problems": _questions.gate_problems}
