# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings that only the restore_files playbook takes; part of the one table."""

from __future__ import annotations

from ._setting import Setting

__all__ = ["FILES"]

_PATH = r"/[^\n]*"

FILES: tuple[Setting, ...] = (
    Setting(
        "restore_files",
        "list",
        "For the restore_files playbook: files and directories to take out of the image, by their paths in the guest.",
        default=[],
        pattern=_PATH,
        hint="a list of absolute paths in the guest, like [/etc/fstab, /home/anna]",
    ),
    Setting(
        "list_files",
        "path",
        "For the restore_files playbook: the directory in the guest to list; nothing is taken out then.",
        pattern=_PATH,
        hint="an absolute path in the guest",
    ),
    Setting(
        "restore_files_device",
        "str",
        "For the restore_files playbook: the one file system to look at; what the guest's own system mounts when not "
        "set.",
        hint="a device as the playbook lists them, like vda1 or /dev/vg0/home",
    ),
    Setting(
        "restore_files_tools",
        "bool",
        "Whether site installs on a backup storage what restore_files needs, libguestfs.",
        default=False,
        scope="machine",
    ),
)
