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
        "Whether the VM may start after a boot of its active host when the other host can't be asked. Dangerous.",
        default=False,
    ),
    Setting(
        "self_stop_seconds",
        "int",
        "After so long without an answer from another machine the active host stops the VM by itself; never at 0.",
        default=0,
        unit="seconds",
        minimum=0,
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
        "Address of the guest itself with a TCP port: while it answers, or anybody has it, failover refuses; "
        "afterwards it has to answer. Not asked when not set.",
        pattern=r"[A-Za-z0-9._-]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}",
        hint="an address and a port like 192.0.2.80:443 or [2001:db8::80]:443",
    ),
    Setting(
        "guest_wait_seconds",
        "int",
        "How long a takeover waits for the guest agent of a VM that has one, and for C(resilient_vm_guest_address).",
        default=120,
        unit="seconds",
        minimum=0,
    ),
    Setting(
        "guest_checks",
        "path",
        "A file of tasks on the control node that try the guest when it has changed its host; the run fails with them.",
    ),
    Setting(
        "takeover_steps",
        "list",
        "What else is done when the VM changes its host, in this order; see the page on takeover.",
        default=[],
        elements="dict",
        hint="a list of mappings, each with a name and one of command, nsupdate and tasks",
    ),
    Setting(
        "prefer",
        "str",
        "Whether a takeover starts at once from what the standby host has, or first brings it a newer image that the "
        "backup storage holds.",
        default="time",
        pattern="time|newest",
        hint="time or newest",
    ),
    Setting(
        "switch_to",
        "str",
        "Host on which the VM shall live after the switchover playbook; one of its two.",
    ),
    Setting(
        "resolve_to",
        "str",
        "Host whose disks of the VM count, for the resolve playbook, when its machines disagree; one of its two.",
    ),
    Setting(
        "fence_agent",
        "str",
        "Fence agent (a program with their standard interface) that powers this host off before a takeover.",
        scope="machine",
        pattern=r"fence_[A-Za-z0-9_]+|/[^\s]+",
        hint="the name of a fence agent like fence_ipmilan, or an absolute path",
    ),
    Setting(
        "fence_options",
        "dict",
        "What that program is told by C(name=value) lines on its standard input.",
        default={},
        scope="machine",
        hint="a mapping of texts like {ip: 192.0.2.111, username: fence, lanplus: '1'}",
    ),
    Setting(
        "fence_secrets",
        "dict",
        "What it is told beside that and nobody shall read, like its password; for a vault.",
        default={},
        scope="machine",
        secret=True,
        hint="a mapping of texts like {password: secret}",
    ),
    Setting(
        "fence_seconds",
        "int",
        "How long it may take until this host is off.",
        default=60,
        unit="seconds",
        scope="machine",
        minimum=5,
    ),
    Setting(
        "max_data_loss_hours",
        "int",
        "A takeover from a generation older than this is refused; raise it for the one command to go on all the same.",
        default=48,
        unit="hours",
        minimum=1,
    ),
    Setting(
        "confirm",
        "str",
        "The operator's word for what can't be undone, as the refusal of failover, failover_undo or restore named it.",
    ),
    Setting(
        "shutdown_seconds",
        "int",
        "How long a VM is given to shut down before a restore in place stops it like a power cut.",
        default=120,
        unit="seconds",
        minimum=0,
    ),
    Setting(
        "relocate_folder",
        "str",
        "For the relocate playbook: the folder of the active host that disks go to; where they once lay when not set.",
        pattern="/.+",
        hint="a path like /var/lib/libvirt/images",
    ),
    Setting(
        "relocate_format",
        "str",
        "For the relocate playbook: the format that disks get; that which they had there, else qcow2, when not set.",
        pattern="qcow2|raw",
        hint="qcow2 or raw",
    ),
    Setting(
        "keep_aside_days",
        "int",
        "Disks that a restore in place or reprotect keeps aside are erased after so many days by daily; 0: never.",
        default=14,
        unit="days",
        minimum=0,
    ),
    Setting(
        "lost_hosts",
        "list",
        "For the site playbook: hosts that are gone for good. Neither a new backup storage nor the other host's gate "
        "waits for their word.",
        default=[],
        hint="a list of inventory names like [a]",
    ),
    Setting(
        "despite_findings",
        "bool",
        "Whether failover and switchover go on where the standby host says that it could not start the VM, or another "
        "machine has its address.",
        default=False,
    ),
    Setting(
        "without_backup_storage",
        "bool",
        "Whether failover has the standby host decide by itself when the backup storage can't be reached. Refused in "
        "scheduled jobs.",
        default=False,
    ),
    Setting(
        "witnesses",
        "list",
        "What this host has to see, one of them, to take a VM over without the backup storage; its default gateway "
        "when empty.",
        default=[],
        scope="machine",
        elements="str",
        pattern=r"[A-Za-z0-9._-]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}",
        hint="a list of addresses and ports like [192.0.2.1:53]",
    ),
    Setting(
        "takeover_point",
        "str",
        "For the failover playbook: id of the generation on the standby host that is started, where the current one is "
        "damaged.",
        pattern=r"\d{8}T\d{6}Z",
        hint="the id of a generation like 20260114T020000Z",
    ),
    Setting("reason", "str", "Why the VM changes its host, for the journal; the playbook's name when not set."),
)
