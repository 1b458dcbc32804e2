# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's one error class: a sentence for a person, and facts for a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["ResilientVmError", "refusal"]


class ResilientVmError(Exception):
    """Something that stops the work, said in one sentence: what, where, and what to do next.

    ``facts`` are plain JSON values that a module returns beside the sentence.
    """

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts

    def __str__(self) -> str:
        return self.message


def refusal(problems: Sequence[str]) -> ResilientVmError:
    """The error that says each of them, a sentence a line; ``problems`` among its facts has them as a list."""
    return ResilientVmError("\n".join(problems), problems=list(problems))
