# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root file system all machines of a release share: built once by mmdebstrap, never written again."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from .config import Lab
from .shell import log, run, succeeds

__all__ = ["base_path", "cache_lock", "ensure_base", "ensure_box_packages"]

# program that tells whether it is there -> Debian package that brings it
BOX_PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "mkfs.xfs": "xfsprogs",
    "xfs_io": "xfsprogs",
    "mkfs.ext4": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "sfdisk": "fdisk",
    "qemu-img": "qemu-utils",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "busybox": "busybox-static",
    "zstd": "zstd",
}
# What a real production machine would have; the machines cannot reach a mirror, so it must be in here.
BASE_PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "udev", "libpam-systemd", "openssh-server", "sudo", "procps", "kmod"),
    *("iproute2", "iputils-ping", "nftables", "ca-certificates", "tzdata", "python3", "python3-apt"),
    "python3-zstandard",
    *("rsync", "zstd", "acl", "socat", "xfsprogs", "e2fsprogs", "btrfs-progs"),
    *("qemu-system-x86", "qemu-utils", "ovmf", "swtpm", "swtpm-tools", "dmidecode"),
    *("libvirt-daemon-system", "libvirt-clients", "libvirt-daemon-driver-qemu", "dnsmasq-base"),
    *("python3-libvirt", "python3-libnbd", "libnbd-bin"),
    # For the backup storage, to take single files out of images.
    *("python3-guestfs", "libguestfs-xfs"),
    # What tests/bench measures itself against.
    "virtnbdbackup",
)
BASE_OPTIONS = (
    "--variant=minbase",
    '--aptopt=APT::Install-Recommends "false"',
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)


def ensure_box_packages(lab: Lab) -> None:
    """Install on the box what the lab runs on it, and nothing when all of it is there."""
    if _missing_packages():
        # Several labs may start on one box, and apt waits for nobody where it reads its lists.
        with cache_lock(lab, "box-packages"):
            _install(_missing_packages())


def _missing_packages() -> list[str]:
    search = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return sorted({pkg for program, pkg in BOX_PACKAGES.items() if not shutil.which(program, path=search)})


def _install(missing: list[str]) -> None:
    if not missing:
        return
    log(f"installing on this box: {' '.join(missing)}")
    install = ["apt-get", "install", "-y", "-qq", "-o", "DPkg::Lock::Timeout=300", "--no-install-recommends", *missing]
    # A fresh box has no package lists; asking for them is slow, so only when they turn out to be missing or old.
    if not succeeds(install):
        run(["apt-get", "update", "-qq"])
        run(install)


def recipe_hash(*parts: object) -> str:
    """Return the short name of a recipe; a changed recipe gets a folder of its own."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:10]


def base_path(lab: Lab, release: str) -> Path:
    """Return where the base of a release lies, built or not."""
    return lab.cache / f"base-{release}-{recipe_hash(BASE_PACKAGES, BASE_OPTIONS)}"


@contextlib.contextmanager
def cache_lock(lab: Lab, name: str) -> Iterator[None]:
    """Let one process build a thing of the cache; the others wait and then find it built."""
    lab.cache.mkdir(parents=True, exist_ok=True)
    with (lab.cache / f"{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"another lab is building {name}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def ensure_base(lab: Lab, release: str) -> Path:
    """Build the base of a release unless the cache has it."""
    base = base_path(lab, release)
    if base.exists():
        return base
    with cache_lock(lab, base.name):
        if base.exists():
            return base
        started = time.monotonic()
        log(f"building the {release} base for the machines (about a minute, once)")
        part = base.with_name(base.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        run(["mmdebstrap", "--quiet", *BASE_OPTIONS, f"--include={','.join(BASE_PACKAGES)}", release, part])
        finish_base(part)
        os.rename(part, base)
        log(f"{release} base built in {time.monotonic() - started:.0f} s")
    return base


def finish_base(root: Path) -> None:
    """Take out what must differ between machines or would reach for a network that is not there."""
    for path in (*root.glob("etc/ssh/ssh_host_*"), *root.glob("etc/apt/sources.list*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    # An empty list makes `apt-get update` succeed without a network.
    (root / "etc/apt/sources.list").write_text("")
    (root / "etc/machine-id").write_text("")
    for name in ("hostname", "resolv.conf"):
        (root / "etc" / name).unlink(missing_ok=True)
    (root / "etc/resolv.conf").write_text("")
    shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
    shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)
    for folder in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial"):
        (root / folder).mkdir(parents=True)
