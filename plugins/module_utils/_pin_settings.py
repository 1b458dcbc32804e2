# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings that only playbooks for one VM take; part of the one table."""

from __future__ import annotations

from . import _restore_point
from ._setting import Setting

__all__ = ["PINS"]

PINS: tuple[Setting, ...] = (
    Setting(
        "pin_point",
        "str",
        "For the pin playbook: the image, as an image id, a date, C(latest), or C(-8d) for eight calendar days ago.",
        hint=_restore_point.FORMS,
    ),
    Setting("pin_reason", "str", "For the pin playbook: why the image shall stay.", hint="a text"),
    Setting("pin_until", "str", "For the pin playbook: ISO 8601 time at which the pin runs out; never when not set."),
    Setting(
        "pin_state",
        "str",
        "For the pin playbook: C(present) lays the pin, C(absent) takes it away.",
        default="present",
        pattern=r"present|absent",
        hint="present or absent",
    ),
)
