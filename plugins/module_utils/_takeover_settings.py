# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings that say where and when a VM may run, and what a takeover is told."""

from __future__ import annotations

from ._setting import Setting

__all__ = ["TAKEOVER"]

TAKEOVER: tuple[Setting, ...] = (
    # Where and when it may run
    Setting(
        "autostart",
        "bool",
        "Whether the VM starts with its active host; as libvirt had it when the VM was first protected when not set.",
    ),
    Setting(
        "start_unconfirmed",
        "bool",
        "Whether the VM may start after a boot of its active host when no other machine can be asked. Dangerous.",
        default=False,
    ),
    # How the standby's definition differs
    Setting(
        "networks",
        "dict",
        "Which network or bridge of the standby host takes the place of which of the production host.",
        default={},
        hint="a mapping like {br-lan: vmbr0}",
    ),
    # Takeover
    Setting(
        "guest_address",
        "str",
        "Address of the guest itself with a TCP port; while it answers, failover refuses. Not asked when not set.",
        pattern=r"[A-Za-z0-9._-]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}",
        hint="an address and a port like 192.0.2.80:443 or [2001:db8::80]:443",
    ),
    Setting(
        "guest_wait_seconds",
        "int",
        "How long a takeover waits for the guest agent of a VM that has one.",
        default=120,
        unit="seconds",
        minimum=0,
    ),
    Setting(
        "confirm",
        "str",
        "For the failover playbook: the operator's word that the active host is off, as the refusal before named it.",
    ),
    Setting("reason", "str", "For the failover playbook: why, for the journal.", default="failover"),
)
