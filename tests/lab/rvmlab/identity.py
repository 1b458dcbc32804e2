# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes one machine differ from the shared base: names, keys, and which services run."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from .config import CONTROL, MACHINES, Lab, Machine
from .shell import run, write_file

__all__ = ["data_binds", "ensure_box_key", "ensure_host_key", "known_hosts_text", "ssh_config_text", "write_identity"]

HOST_KEY = "ssh_host_ed25519_key"
# No udev, clock or mirror of their own in a container; libvirt-guests would save every guest at each `down`.
MASKED = (
    *("systemd-udevd.service", "systemd-udev-trigger.service", "systemd-timesyncd.service"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"),
    "libvirt-guests.service",
)
# All the machines share one base; a backup storage has no libvirt.
LIBVIRT_UNITS = (
    *("libvirtd.service", "libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket"),
    *("virtlogd.service", "virtlogd.socket", "virtlogd-admin.socket"),
    *("virtlockd.service", "virtlockd.socket", "virtlockd-admin.socket"),
)
# Every folder here lies on the machine's data disk.
STORE_FOLDER = "/var/lib/resilient-vm"
IMAGES_FOLDER = "/var/lib/libvirt/images"


def ensure_box_key(lab: Lab) -> None:
    """Make the key with which the box is root on the machines."""
    make_key(lab.private_key, "lab")


def ensure_host_key(lab: Lab, machine: Machine) -> None:
    """Make a machine's host key on the box, so that it is pinned before anything connects."""
    make_key(lab.machine_dir(machine.name) / HOST_KEY, machine.name)


def make_key(path: Path, comment: str) -> None:
    """Make a key pair unless it is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path])


def known_hosts_text(lab: Lab) -> str:
    """Return the pinned keys of the machines made so far, by name and by address."""
    lines = []
    for machine in MACHINES.values():
        public = lab.machine_dir(machine.name) / f"{HOST_KEY}.pub"
        if public.exists():
            lines.append(f"{machine.name},{machine.address} {' '.join(public.read_text().split()[:2])}\n")
    return "".join(lines)


def ssh_config_text(lab: Lab) -> str:
    """Return the ssh configuration for machines by name and by address."""
    names = " ".join(f"{machine.name} {machine.address}" for machine in MACHINES.values())
    lines = [
        f"Host {names}",
        "  User root",
        f'  IdentityFile "{lab.private_key}"',
        "  IdentitiesOnly yes",
        f'  UserKnownHostsFile "{lab.known_hosts}"',
        "  GlobalKnownHostsFile /dev/null",
        "  StrictHostKeyChecking yes",
        "  UpdateHostKeys no",
        # The box itself has no address on the lab's network: connections start in the control node's namespace.
        f"  ProxyCommand nsenter --net=/run/netns/{lab.netns('ctl')} busybox nc %h %p",
        # A machine that loses power sends nothing: give up on it instead of hanging.
        "  ConnectTimeout 10",
        "  ServerAliveInterval 5",
        "  ServerAliveCountMax 6",
    ]
    for machine in MACHINES.values():
        lines += [f"Host {machine.name}", f"  HostName {machine.address}"]
    return "\n".join(lines) + "\n"


def hosts_text(machine: Machine) -> str:
    """Return a machine's /etc/hosts, with every name of the lab."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"{other.address} {other.name}" for other in (CONTROL, *MACHINES.values())]
    return "\n".join(lines) + f"\n# this machine is {machine.name}\n"


def data_binds(machine: Machine) -> dict[str, str]:
    """Return which folders of the data disk appear where in a machine."""
    binds = {"resilient-vm": STORE_FOLDER}
    if machine.libvirt:
        binds["libvirt-images"] = IMAGES_FOLDER
    return binds


def write_identity(lab: Lab, machine: Machine, root: Path) -> None:
    """Make a fresh root file system the given machine's own."""
    etc = root / "etc"
    for old in etc.glob("ssh/ssh_host_*"):
        old.unlink()
    key = lab.machine_dir(machine.name) / HOST_KEY
    for name in (HOST_KEY, f"{HOST_KEY}.pub"):
        shutil.copy2(key.with_name(name), etc / "ssh" / name)
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    public = lab.private_key.with_name(lab.private_key.name + ".pub").read_text()
    write_file(root / "root/.ssh/authorized_keys", public, 0o600)
    write_file(etc / "hostname", f"{machine.name}\n")
    write_file(etc / "hosts", hosts_text(machine))
    write_file(etc / "machine-id", f"{uuid.uuid4().hex}\n", 0o444)
    write_file(etc / "fstab", "")
    write_file(etc / "timezone", "Etc/UTC\n")
    write_file(etc / "default/locale", "LANG=C.UTF-8\n")
    (etc / "localtime").unlink(missing_ok=True)
    (etc / "localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")
    # The journal of a machine that lost power is what one wants to read afterwards.
    (root / "var/log/journal").mkdir(exist_ok=True)
    write_file(etc / "systemd/journald.conf.d/lab.conf", "[Journal]\nStorage=persistent\nSystemMaxUse=64M\n")
    for unit in (*MASKED, *(() if machine.libvirt else LIBVIRT_UNITS)):
        link = etc / "systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
