# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters with which playbooks ask machines in batches and tell people what came of it."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _questions, _report
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError


def _told(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the collection's errors as Ansible's."""

    def filtered(*args: Any, **named: Any) -> Any:
        try:
            return function(*args, **named)
        except ResilientVmError as error:
            raise AnsibleFilterError(str(error)) from error

    return filtered


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            name: _told(function)
            for name, function in {
                "plans_of": _questions.plans_of,
                "questions": _questions.questions,
                "told_of": _questions.told_of,
                "recap": _report.recap,
                "status": _report.status,
            }.items()
        }
