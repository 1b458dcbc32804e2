# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings that only the drill playbook takes; part of the one table."""

from __future__ import annotations

from ._setting import Setting

__all__ = ["DRILLS"]

DRILLS: tuple[Setting, ...] = (
    Setting(
        "drill_tasks",
        "path",
        "For the drill playbook: a file of tasks on the control node that try the twin; the drill fails with them.",
    ),
    Setting(
        "drill_ready_text",
        "str",
        "For the drill playbook: the twin is ready when this appears on its serial console; its guest agent is asked "
        "when not set.",
    ),
    Setting(
        "drill_wait_seconds",
        "int",
        "For the drill playbook: how long the twin may take until it is ready.",
        default=300,
        unit="seconds",
        minimum=1,
    ),
    Setting(
        "drill_expire_seconds",
        "int",
        "For the drill playbook: the twin is gone after this time whatever became of the playbook.",
        default=3600,
        unit="seconds",
        minimum=10,
    ),
)
