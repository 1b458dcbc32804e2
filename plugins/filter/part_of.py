# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machines said besides when they were asked about themselves."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _questions

DOCUMENTATION = r"""
name: part_of
short_description: What machines said of images or generations along with themselves
version_added: 0.1.0
description:
  - Makes of the registered result of a loop over M(edgecloud.resilient_vm.host_info) what a loop over
    M(edgecloud.resilient_vm.image_info) or M(edgecloud.resilient_vm.standby_info) would have registered.
  - Machines that gave no answer, or were not asked for the part, are left out.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
positional: part
options:
  _input:
    description: The registered result.
    type: dict
    required: true
  part:
    description: Which of the parts.
    type: str
    choices: [images, standbys]
    required: true
"""

EXAMPLES = r"""
- name: Decide what is done for the VM
  edgecloud.resilient_vm.vm_preflight:
    plan: "{{ planned.plan }}"
    hosts: "{{ hosts | edgecloud.resilient_vm.told_of(planned.plan) }}"
    images: "{{ hosts | edgecloud.resilient_vm.part_of('images') | edgecloud.resilient_vm.told_of(planned.plan) }}"
    standbys: "{{ hosts | edgecloud.resilient_vm.part_of('standbys') | edgecloud.resilient_vm.told_of(planned.plan) }}"
"""

RETURN = r"""
_value:
  description: C(results), an answer for each machine.
  type: dict
"""


class FilterModule:
    """A filter of the daily cycle."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"part_of": _questions.part_of}
