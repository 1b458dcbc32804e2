# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one table of every resilient_vm_* inventory variable."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from . import _clock
from ._drill_settings import DRILLS
from ._errors import ResilientVmError
from ._files_settings import FILES
from ._layout import DEFAULT_ROOT
from ._limits import SLOTS
from ._pin_settings import PINS
from ._restore_settings import RESTORES
from ._setting import PREFIX, Setting
from ._takeover_settings import TAKEOVER
from ._verify_settings import VERIFY

__all__ = ["PREFIX", "TABLE", "Setting", "read_all", "unknown"]

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
        "keep_weekly",
        "int",
        "Of so many of the last weeks that have a complete image, the newest one stays beyond its days.",
        default=0,
        unit="images",
        minimum=0,
    ),
    Setting(
        "keep_monthly",
        "int",
        "Of so many of the last months that have a complete image, the newest one stays beyond its days.",
        default=0,
        unit="images",
        minimum=0,
    ),
    Setting(
        "keep_yearly",
        "int",
        "Of so many of the last years that have a complete image, the newest one stays beyond its days.",
        default=0,
        unit="images",
        minimum=0,
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
        numbers=True,
        hint="auto, off or a zstd level from 1 to 19",
    ),
    Setting(
        "streams",
        "str",
        "How many connections of ssh an image travels over; with C(auto) several where one cannot fill a long link.",
        default="auto",
        pattern=r"auto|[1-8]",
        numbers=True,
        hint="auto or a number from 1 to 8",
    ),
    Setting(
        "transfer_bytes_per_second",
        "int",
        "A copy of the VM takes no more of the line than this; 0 for as much as there is.",
        default=0,
        unit="bytes per second",
        minimum=0,
    ),
    Setting(
        "machine_transfer_bytes_per_second",
        "int",
        "All copies on this backup storage together take no more of the line than this; 0 for as much as there is.",
        default=0,
        unit="bytes per second",
        scope="machine",
        minimum=0,
    ),
    Setting(
        "max_transfers",
        "int",
        "So many copies run at once on this backup storage; the others wait.",
        default=4,
        unit="transfers",
        scope="machine",
        minimum=1,
        maximum=SLOTS,
    ),
    Setting(
        "transfer_window",
        "str",
        "Hours, in C(resilient_vm_timezone), in which copies of the VM run; outside of them they pause.",
        pattern=r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d",
        hint="two times of a day like 22:00-06:00",
    ),
    Setting(
        "nice",
        "int",
        "How far copies stand back behind everything else for the processor (a unit's C(Nice)).",
        default=10,
        minimum=0,
        maximum=19,
    ),
    # How what is kept is read again
    *VERIFY,
    *TAKEOVER,
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
    Setting(
        "seed",
        "dict",
        "For the seed playbook: path of a raw file for each disk with which the first copy begins.",
        default={},
        hint="a mapping like {vda: /mnt/usb/erp-vda.raw}",
    ),
    Setting(
        "seed_part",
        "str",
        "For the seed playbook: C(backup_storage) or C(standby), the machine where the files lie.",
        default="backup_storage",
        pattern=r"backup_storage|standby",
        hint="backup_storage or standby",
    ),
    *RESTORES,
    *PINS,
    *DRILLS,
    *FILES,
    Setting("force", "bool", "Whether an image is taken even though there is one of today.", default=False),
    Setting(
        "erase_images", "bool", "Whether unprotect erases the VM's images too; generations always go.", default=False
    ),
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
