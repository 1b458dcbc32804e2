# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machines said of one VM."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _questions

DOCUMENTATION = r"""
name: told_of
short_description: What machines said of one VM
version_added: 0.1.0
description:
  - Picks what concerns one VM out of the registered result of a loop over P(edgecloud.resilient_vm.questions#filter).
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
- name: Decide what is done for the VM
  edgecloud.resilient_vm.vm_preflight:
    plan: "{{ planned.plan }}"
    hosts: "{{ hosts | edgecloud.resilient_vm.told_of(planned.plan) }}"
    images: "{{ images | edgecloud.resilient_vm.told_of(planned.plan) }}"
    standbys: "{{ standbys | edgecloud.resilient_vm.told_of(planned.plan) }}"
"""

RETURN = r"""
_value:
  description: By machine, whether it answered (C(answered), else C(msg)) and what.
  type: dict
"""


class FilterModule:
    """A filter of the daily cycle."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"told_of": _questions.told_of}
