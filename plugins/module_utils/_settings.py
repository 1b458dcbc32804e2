# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one table of every resilient_vm_* inventory variable, and how a given value is checked against it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from . import _clock
from ._errors import ResilientVmError
from ._layout import DEFAULT_ROOT

__all__ = ["PREFIX", "TABLE", "Setting", "read_all", "unknown"]

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
    # Whose variable it is: a protected VM's or a machine's. In group_vars/all it is everybody's.
    scope: str = "vm"
    required: bool = False
    minimum: int | None = None
    maximum: int | None = None
    pattern: str = ""
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
        value = _convert(self.type, raw)
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
        if isinstance(raw, datetime):
            # What YAML makes of a time without quotes.
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


def _boolean(raw: Any) -> bool | None:
    if isinstance(raw, bool):
        return raw
    word = str(raw).strip().lower()
    if word in _TRUE:
        return True
    return False if word in _FALSE else None


_GIB = 1 << 30

TABLE: tuple[Setting, ...] = (
    # Who and where
    Setting(
        "customer",
        "str",
        "Name of the customer; accounts and folders on the machines carry it. Required.",
        required=True,
        pattern=r"[a-z0-9][a-z0-9-]{0,27}",
        hint="a name of 1 to 28 characters out of a-z, 0-9 and -",
    ),
    Setting("domain", "str", "Name of the libvirt domain; the VM's inventory name when not set."),
    Setting(
        "production_host",
        "str",
        "Machine of group C(production) on which the VM lives; needed only where that group has several.",
    ),
    Setting(
        "standby_host",
        "str",
        "Machine of group C(standby) that is kept ready to run the VM; needed only where that group has several.",
    ),
    Setting(
        "backup_storage_host",
        "str",
        "Machine of group C(backup_storage) that keeps the VM's images; needed only where that group has several.",
    ),
    Setting(
        "root",
        "path",
        "Folder under which everything of this collection lies on a machine, on a filesystem with reflink.",
        default=DEFAULT_ROOT,
        scope="machine",
        # It ends up in unit files, sshd's and AppArmor's rules: nothing that any of them would have to quote.
        pattern=r"(/[A-Za-z0-9_.+-]+)+",
        hint="an absolute path of letters, digits and _.+-, without a slash at the end",
    ),
    Setting(
        "address",
        "str",
        "Address under which the other two machines reach this one; C(ansible_host) when not set.",
        scope="machine",
    ),
    Setting(
        "port",
        "int",
        "Port of ssh on this machine as the other two machines reach it; C(ansible_port) when not set.",
        scope="machine",
        minimum=1,
        maximum=65535,
    ),
    # What is kept, and how long
    Setting(
        "retention_days",
        "int",
        "Images as many calendar days older than the newest one are erased.",
        default=14,
        unit="days",
        minimum=1,
    ),
    Setting(
        "retention_minimum",
        "int",
        "So many complete images stay whatever their age (never more than C(resilient_vm_retention_days)).",
        default=3,
        unit="images",
        minimum=1,
    ),
    Setting(
        "keep_generations",
        "int",
        "So many of the newest generations stay on the standby host, the current one counted.",
        default=1,
        unit="generations",
        minimum=1,
    ),
    Setting(
        "timezone",
        "str",
        "Time zone whose calendar days count for retention and for one image a day.",
        default="UTC",
        hint="the name of a time zone like UTC or Europe/Amsterdam",
    ),
    Setting(
        "min_interval_hours",
        "int",
        "A further image on the same calendar day is taken only when the newest one is at least so old.",
        default=18,
        unit="hours",
        minimum=0,
    ),
    Setting(
        "max_age_hours",
        "int",
        "A newest image older than this makes the status playbook fail and the watchdog raise the alarm.",
        default=26,
        unit="hours",
        minimum=1,
    ),
    Setting(
        "alarm_command",
        "str",
        "Command the watchdog on the backup storage runs when the newest image is too old.",
    ),
    # How a snapshot is taken
    Setting(
        "exclude_disks",
        "list",
        "Targets (like C(vdc)) of disks, and names of other devices, left out of every image; every status shows them.",
        default=[],
        pattern=r"\S.*",
        hint="a list of disk targets like [vdc]",
    ),
    Setting(
        "freeze",
        "bool",
        "Whether the guest's file systems are frozen for the instant of the snapshot when there is a guest agent.",
        default=True,
    ),
    Setting(
        "snapshot_expire_seconds",
        "int",
        "An open snapshot that nobody reads is closed after this time.",
        default=600,
        unit="seconds",
        minimum=60,
    ),
    Setting(
        "scratch_floor_bytes",
        "int",
        "When less than this is free for what the guest overwrites while a snapshot is open, the snapshot is given up.",
        default=_GIB,
        unit="bytes",
        scope="machine",
        minimum=0,
    ),
    Setting(
        "reserve_bytes",
        "int",
        "A new image or generation must leave so much free on this machine.",
        default=_GIB,
        unit="bytes",
        scope="machine",
        minimum=0,
    ),
    Setting(
        "allow_full_copies",
        "bool",
        "Whether this machine may keep images as full copies, on a filesystem without reflink.",
        default=False,
        scope="machine",
    ),
    Setting(
        "probe_domain_type",
        "str",
        "Type of the domain with which site proves that backups work here; C(kvm) where it can be had, else C(qemu).",
        scope="machine",
        pattern=r"[a-z]+",
        hint="kvm or qemu",
    ),
    # How images travel
    Setting(
        "compression",
        "str",
        "Whether images are compressed on their way: C(auto) where that is faster, C(off), or always at a zstd level.",
        default="auto",
        pattern=r"auto|off|[1-9]|1[0-9]",
        hint="auto, off or a zstd level from 1 to 19",
    ),
    # How the standby's definition differs
    Setting(
        "networks",
        "dict",
        "Which network or bridge of the standby host takes the place of which of the production host.",
        default={},
        hint="a mapping like {br-lan: vmbr0}",
    ),
    # Clocks, and what one run is told
    Setting(
        "max_clock_skew_seconds",
        "int",
        "Clocks of the active host, the backup storage and the control node that differ by more stop the cycle.",
        default=300,
        unit="seconds",
        minimum=1,
    ),
    Setting(
        "now",
        "str",
        "ISO 8601 time that replaces a clock in tests: the machine's, or the control node's when set for a VM.",
        scope="both",
    ),
    Setting("force", "bool", "Whether an image is taken even though there is one of today.", default=False),
    Setting("erase_images", "bool", "Whether unprotect erases the VM's images and generations too.", default=False),
    Setting("status_json", "bool", "Whether the status playbook prints JSON in place of its table.", default=False),
)


def read_all(variables: Mapping[str, Any], scope: str, owner: str) -> tuple[dict[str, Any], list[str]]:
    """Every setting of a scope by its short name, and one sentence for each that can't be used."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for setting in TABLE:
        if setting.scope not in (scope, "both"):
            continue
        try:
            values[setting.name] = setting.read(variables.get(setting.variable), owner)
            if setting.name == "timezone":
                _clock.zone(values[setting.name], f"{setting.variable} of {owner}")
            if setting.name == "now" and values[setting.name]:
                values[setting.name] = _clock.iso(_clock.now(values[setting.name]))
        except ResilientVmError as error:
            problems.append(str(error))
            values[setting.name] = setting.default
    return values, problems


def unknown(names: Iterable[str]) -> list[str]:
    """One sentence for every resilient_vm_* name that is no setting: most likely a slip of the pen."""
    known = [setting.variable for setting in TABLE]
    said = []
    for name in sorted(names):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            said.append(f"{name} is no setting of this collection" + (f"; {near[0]} is" if near else ""))
    return said
