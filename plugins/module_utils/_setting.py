# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One resilient_vm_* inventory variable: what it takes, and how a given value is checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from ._errors import ResilientVmError

__all__ = ["PREFIX", "Setting"]

PREFIX = "resilient_vm_"

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
_KINDS = {
    "int": "a whole number",
    "bool": "true or false",
    "str": "a text",
    "path": "an absolute path",
    "list": "a list of texts",
    "dict": "a mapping of texts",
}


@dataclass(frozen=True)
class Setting:
    """One inventory variable. Without a default it is absent unless the owner sets it."""

    name: str
    type: str
    description: str
    default: Any = None
    unit: str = ""
    # Of a list: texts, or mappings that the room checks which knows what is in them.
    elements: str = "str"
    # Whose variable it is: a protected VM's or a machine's. In group_vars/all it is everybody's.
    scope: str = "vm"
    required: bool = False
    minimum: int | None = None
    maximum: int | None = None
    pattern: str = ""
    # Whether a text may be a number; YAML knows one without quotes as such.
    numbers: bool = False
    # Whether it is kept out of plans, which are shown.
    secret: bool = False
    # What a good value is, where type and range don't say it.
    hint: str = ""

    @property
    def variable(self) -> str:
        return PREFIX + self.name

    @property
    def wanted(self) -> str:
        """What the variable takes, for a sentence."""
        if self.hint:
            return self.hint
        text = _KINDS[self.type] + (f" of {self.unit}" if self.unit else "")
        if self.minimum is not None and self.maximum is not None:
            return f"{text} from {self.minimum} to {self.maximum}"
        return text if self.minimum is None else f"{text}, {self.minimum} or more"

    def read(self, raw: Any, owner: str) -> Any:
        """The value given for ``owner``, or the default for None.

        Raises ResilientVmError for a value that the variable doesn't take.
        """
        if raw is None or raw == "":
            if self.required:
                raise ResilientVmError(
                    f"{self.variable} is not set for {owner}; "
                    f"set it in the inventory (group_vars/all.yml) to {self.wanted}"
                )
            return self.default
        if self.numbers and isinstance(raw, int) and not isinstance(raw, bool):
            raw = str(raw)
        value = _mappings(raw) if self.elements == "dict" else _convert(self.type, raw)
        if value is None or not self._accepts(value):
            default = "" if self.default in (None, "", [], {}) else f" (default {_yaml_word(self.default)})"
            raise ResilientVmError(
                f"{self.variable} of {owner} is {raw!r}, but it takes {self.wanted}{default}; "
                "correct it in the inventory"
            )
        return value

    def _accepts(self, value: Any) -> bool:
        if self.minimum is not None and value < self.minimum:
            return False
        if self.maximum is not None and value > self.maximum:
            return False
        if not self.pattern:
            return True
        return all(re.fullmatch(self.pattern, word) for word in ([value] if isinstance(value, str) else value))


def _yaml_word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _convert(kind: str, raw: Any) -> Any:
    """The value as its type, or None when it isn't of that type.

    Texts are taken for numbers and booleans, because ``-e name=value`` only knows texts.
    """
    if kind == "bool":
        return _boolean(raw)
    if kind == "int":
        if isinstance(raw, bool) or not isinstance(raw, (int, str)):
            return None
        return int(raw) if re.fullmatch(r"-?[0-9]+", str(raw).strip()) else None
    if kind in ("str", "path"):
        if isinstance(raw, date):
            # What YAML makes of a time or a day without quotes.
            raw = raw.isoformat()
        if not isinstance(raw, str):
            return None
        return None if kind == "path" and not raw.startswith("/") else str(raw)
    if kind == "list":
        items = [item.strip() for item in raw.split(",")] if isinstance(raw, str) else raw
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
            return None
        return [str(item) for item in items]
    if not isinstance(raw, Mapping) or not all(isinstance(word, str) for pair in raw.items() for word in pair):
        return None
    return {str(name): str(value) for name, value in raw.items()}


def _mappings(raw: Any) -> list[dict[str, Any]] | None:
    if not isinstance(raw, (list, tuple)) or not all(isinstance(item, Mapping) for item in raw):
        return None
    return [dict(item) for item in raw]


def _boolean(raw: Any) -> bool | None:
    if isinstance(raw, bool):
        return raw
    word = str(raw).strip().lower()
    if word in _TRUE:
        return True
    return False if word in _FALSE else None
