# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of restores; part of the one table. The restore playbook alone takes most of them."""

from __future__ import annotations

from . import _restore_point
from ._setting import Setting

__all__ = ["INSTANT_FORMAT", "NAME", "RESTORES"]

# Of a VM that is made beside the protected one.
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
# At once: a raw file can't say which of its blocks are still to come.
INSTANT_FORMAT = "qcow2"

RESTORES: tuple[Setting, ...] = (
    Setting(
        "restore_point",
        "str",
        "For the restore, restore_files and drill playbooks: an image id, a date, C(latest), C(-8d) for eight calendar "
        "days ago; C(aside), see docs/restore.md.",
        hint=_restore_point.FORMS,
    ),
    Setting(
        "restore_to",
        "str",
        "For the restore playbook: C(files) into a folder, a new VM C(beside) the protected one, or the C(place) of "
        "its own disks.",
        pattern=r"files|beside|place",
        hint="files, beside or place",
    ),
    Setting(
        "restore_host",
        "str",
        "For the restore playbook: which of the VM's three machines; for files the backup storage "
        "when not set, for a new VM the standby host.",
    ),
    Setting(
        "restore_path",
        "path",
        "For the restore and restore_files playbooks: the folder that is made for the files; it must not be there yet.",
        pattern=r"/[^\n]+",
        hint="an absolute path",
    ),
    Setting(
        "restore_format",
        "str",
        "For the restore playbook: format of the restored disks, C(raw) or C(qcow2).",
        default="raw",
        pattern=r"raw|qcow2",
        hint="raw or qcow2",
    ),
    Setting(
        "restore_name",
        "str",
        "For the restore playbook: name of the new VM that is made beside the protected one.",
        pattern=NAME,
        hint="a name of letters, digits and _.-",
    ),
    Setting(
        "restore_mode",
        "str",
        "For the restore playbook: a new VM beside is a C(copy) from the beginning, or runs in an "
        "C(instant) and gets its data meanwhile.",
        default="copy",
        pattern=r"copy|instant",
        hint="copy or instant",
    ),
    Setting(
        "restore_networks",
        "dict",
        "For the restore playbook: which network of that host the new VM gets for which of the old; none by default.",
        default={},
        hint="a mapping like {br-lan: br-test}",
    ),
    Setting(
        "restore_start",
        "bool",
        "For the restore playbook: whether the new VM is started.",
        default=False,
    ),
    Setting(
        "lend_to",
        "list",
        "Hosts of the VM on which root may have any of its images run by C(resilient-vm instant), without the control "
        "node.",
        default=[],
        hint="a list of inventory names like [b]",
    ),
)
