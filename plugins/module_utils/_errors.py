# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's one error class: a sentence for a person, and facts for a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

__all__ = ["ResilientVmError", "fail", "refusal", "sentence"]


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


def sentence(error: ResilientVmError | OSError, place: str = "", machine: str = "this machine") -> str:
    """What to say of an error of this collection, or of one that a file gave: one in ``place`` where it names none."""
    if isinstance(error, ResilientVmError):
        return str(error)
    where = f" at {error.filename or place}" if error.filename or place else ""
    what = f"{error.strerror or type(error).__name__}{where} on {machine}"
    return f"{what}; free space or mend the filesystem, and run again"


def fail(module: Any, error: ResilientVmError | OSError, **facts: Any) -> NoReturn:
    """End a module with that sentence. ``facts`` go along, below those of the error."""
    known = error.facts if isinstance(error, ResilientVmError) else {}
    module.fail_json(msg=sentence(error), **{**facts, **known})
    raise SystemExit(1)
