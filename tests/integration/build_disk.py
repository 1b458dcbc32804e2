# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a raw disk as a real guest may have: partitions, LVM, and several file systems. Runs on a machine of the lab.

python build_disk.py FILE
"""

from __future__ import annotations

import sys

import guestfs

MIB = 2048
FSTAB = "/dev/vda1 / ext4 defaults 0 1\n/dev/vg0/home /home xfs defaults 0 2\n/dev/vda9 /gone ext4 noauto 0 0\n"


def main() -> None:
    disk = guestfs.GuestFS(python_return_dict=True)
    disk.set_backend("direct")
    # It has its size; whatever it held goes.
    with open(sys.argv[1], "r+b") as stream:
        size = stream.seek(0, 2)
        stream.truncate(0)
        stream.truncate(size)
    disk.add_drive_opts(sys.argv[1], format="raw")
    disk.launch()
    disk.part_init("/dev/sda", "gpt")
    at = 1
    for size in (512, 384, 320, 64, 256):
        disk.part_add("/dev/sda", "p", at * MIB, (at + size) * MIB - 1)
        at += size
    disk.pvcreate("/dev/sda2")
    disk.vgcreate("vg0", ["/dev/sda2"])
    disk.lvcreate("home", "vg0", 352)
    disk.luks_format("/dev/sda4", "a key", 0)
    for device, kind in (
        ("/dev/sda1", "ext4"),
        ("/dev/vg0/home", "xfs"),
        ("/dev/sda3", "btrfs"),
        ("/dev/sda5", "ntfs"),
    ):
        disk.mkfs(kind, device)
    for device, name in (("/dev/sda3", "/btrfs"), ("/dev/sda5", "/ntfs")):
        disk.mount(device, "/")
        disk.write(name, name[1:])
        disk.umount("/")
    disk.mount("/dev/sda1", "/")
    for folder in ("/etc", "/bin", "/usr", "/var", "/home", "/boot", "/gone"):
        disk.mkdir(folder)
    disk.write("/etc/fstab", FSTAB)
    disk.write("/etc/debian_version", "12.11\n")
    disk.write("/etc/os-release", 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12"\n')
    disk.mount("/dev/vg0/home", "/home")
    disk.write("/home/xfs", "xfs")
    disk.shutdown()
    disk.close()


main()
