# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One question a machine about all its VMs."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _questions

DOCUMENTATION = r"""
name: questions
short_description: Arguments for asking each machine once about all its VMs
version_added: 0.1.0
description:
  - Turns plans into one item for each machine, for a loop over M(edgecloud.resilient_vm.host_info) and the like.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
positional: part, answers
options:
  _input:
    description: Plans of VMs, from P(edgecloud.resilient_vm.plans_of#filter).
    type: list
    elements: dict
    required: true
  part:
    description: Which machines of each VM are asked.
    type: str
    choices: [all, backup_storage, hosts, taker]
    required: true
  answers:
    description:
      - The registered loop over M(edgecloud.resilient_vm.host_info). It tells which of a VM's two hosts would take it
        over, and which machines could not be reached and are not asked again. Without it the inventory decides.
    type: dict
"""

EXAMPLES = r"""
- name: Ask every machine about itself and its VMs
  edgecloud.resilient_vm.host_info:
    root: "{{ item.root }}"
    vms: "{{ item.vms }}"
  loop: "{{ plans | edgecloud.resilient_vm.questions('all') }}"
  delegate_to: "{{ item.machine }}"
  run_once: true
  register: hosts
"""

RETURN = r"""
_value:
  description:
    - Items with C(machine), C(root), C(now), C(libvirt) (whether it is asked), C(parts) (what else is asked for) and
      C(vms).
  type: list
  elements: dict
"""


class FilterModule:
    """A filter of the daily cycle."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"questions": _questions.questions}
