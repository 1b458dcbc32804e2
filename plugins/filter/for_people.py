# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines as the output of this run shows them best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

from ansible import constants
from ansible.plugins.loader import callback_loader

DOCUMENTATION = r"""
name: for_people
short_description: Lines as the output of this run shows them best
version_added: 0.1.0
description:
  - With C(result_format=yaml) the default callback shows a text of several lines as it is, and any other output shows a
    list best, one line after the other. Gives the one or the other.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
options:
  _input:
    description: The lines.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Say what was done
  ansible.builtin.debug:
    msg: "{{ report.lines | edgecloud.resilient_vm.for_people }}"
"""

RETURN = r"""
_value:
  description: A text of several lines, or the list as it was given.
  type: raw
"""


def for_people(lines: Sequence[str]) -> Any:
    # Reads its options' definitions, which another callback than this would leave unread.
    callback_loader.get("default", class_only=True)
    wanted = constants.config.get_config_value("result_format", plugin_type="callback", plugin_name="default")
    return "\n".join(lines) if wanted == "yaml" else list(lines)


class FilterModule:
    """A filter of every playbook that tells people something."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"for_people": for_people}
