# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings that say how what is kept is read again."""

from __future__ import annotations

from ._setting import Setting

__all__ = ["VERIFY"]

VERIFY: tuple[Setting, ...] = (
    Setting("verify_days", "int", "Daily runs of verify read all that is kept in so many days.", 14, "days", minimum=1),
    Setting("verify_bytes_per_second", "int", "Most that verify reads; 0: no limit.", 0, "bytes per second", minimum=0),
    Setting(
        "verify_source",
        "bool",
        "Whether daily compares all that the dirty bitmap calls unchanged with the VM's disks, not a share of it.",
        default=False,
    ),
    Setting("verify_all", "bool", "Whether verify reads all that is kept, not a day's share.", default=False),
)
