# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One machine: its disks, the supervisor that runs it, and the way in."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from . import cgroups
from .base import base_path
from .config import MACHINES, Lab, LabError, Machine
from .identity import data_binds, ensure_host_key, write_identity
from .shell import PLAIN_ENVIRONMENT, log, run, until, write_file

__all__ = [
    "DISKS",
    "Facts",
    "as_in_machine",
    "attached_loops",
    "create",
    "facts",
    "in_machine",
    "kill",
    "run_in",
    "running",
    "start",
    "state_of",
    "stop",
    "supervise",
    "supervised",
]

# The folder that Python runs as the command `lab`.
ENTRY = Path(__file__).resolve().parents[1]
# Room for what a machine writes outside its data disk; the file is sparse.
ROOT_DISK = "16G"
DISKS = ("root", "data")
# /dev/kvm only when asked for: where KVM is there and can't run a guest, libvirt asks every QEMU anew at each call.
BOX_DEVICES = (*(["/dev/kvm"] if os.environ.get("RVM_LAB_KVM") else []), "/dev/net/tun", "/dev/fuse", "/dev/vhost-net")
GUEST_FOLDER = "usr/share/lab"
# nspawn's exit code when the machine asked for a reboot.
REBOOT = 133


@dataclass(frozen=True)
class Facts:
    """What a machine was made of; it keeps these until it is destroyed."""

    release: str
    base: str
    disk: str


def facts(lab: Lab, name: str) -> Facts | None:
    """Return what a machine was made of, or None when it was never made."""
    path = lab.machine_dir(name) / "machine.json"
    return Facts(**json.loads(path.read_text())) if path.exists() else None


def create(lab: Lab, machine: Machine, release: str, disk: str) -> Facts:
    """Make a machine's disks and keys."""
    folder = lab.machine_dir(machine.name)
    folder.mkdir(parents=True, exist_ok=True)
    ensure_host_key(lab, machine)
    for label, size in (("root", ROOT_DISK), ("data", disk)):
        image = folder / f"{label}.img"
        image.unlink(missing_ok=True)
        run(["truncate", "-s", size, image])
        run(["mkfs.xfs", "-q", "-m", "reflink=1", "-L", f"{label}-{machine.name}", image])
    made = Facts(release=release, base=str(base_path(lab, release)), disk=disk)
    # Last, so that a half-made machine is made anew.
    write_file(folder / "machine.json", json.dumps(asdict(made), indent=2) + "\n")
    return made


def supervised(lab: Lab, name: str) -> bool:
    """Return whether a machine's supervisor lives; it holds a lock that the kernel releases with it."""
    lock = lab.machine_dir(name) / "supervisor.lock"
    if not lock.exists():
        return False
    with lock.open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def running(lab: Lab, name: str) -> bool:
    """Return whether a machine's PID 1 runs."""
    return cgroups.pid_one(lab, name) is not None


def state_of(lab: Lab, name: str) -> str:
    """Return ``up``, ``frozen``, ``down`` or ``absent``."""
    if not running(lab, name):
        return "down" if facts(lab, name) else "absent"
    return "frozen" if cgroups.frozen(lab, name) else "up"


def start(lab: Lab, name: str) -> None:
    """Start a machine's supervisor and return at once."""
    cgroups.make(lab, name)
    console = lab.machine_dir(name) / "console.log"
    with console.open("w") as output:
        subprocess.Popen(
            # Mounts made in here vanish with the last process, however it dies, and their loop devices with them.
            # Slave, not private: a namespace file another lab unmounts must not stay alive in here.
            ["unshare", "--mount", "--propagation", "slave", "--", sys.executable, ENTRY, "_machine", name],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            env={**PLAIN_ENVIRONMENT, "RVM_LAB_STATE": str(lab.state), "RVM_LAB_CACHE": str(lab.cache)},
        )


def supervise(lab: Lab, name: str, guest_files: Path) -> int:
    """Mount a machine's disks and run it until it is powered off; this is a process of its own."""
    machine = MACHINES[name]
    folder = lab.machine_dir(name)
    made = facts(lab, name)
    if made is None:
        raise LabError(f"machine {name} was never made")
    cgroups.enter(lab, name)
    with (folder / "supervisor.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mounts = {label: folder / "mnt" / label for label in (*DISKS, "system")}
        for label in DISKS:
            mounts[label].mkdir(parents=True, exist_ok=True)
            run(["mount", "-t", "xfs", "-o", "loop", folder / f"{label}.img", mounts[label]])
        layers = {label: mounts["root"] / label for label in ("upper", "work")}
        for path in (*layers.values(), mounts["system"]):
            path.mkdir(exist_ok=True)
        options = f"lowerdir={made.base},upperdir={layers['upper']},workdir={layers['work']}"
        run(["mount", "-t", "overlay", lab.container(name), "-o", options, mounts["system"]])
        prepare_system(lab, machine, mounts, guest_files)
        while True:
            done = subprocess.run(nspawn_command(lab, machine, mounts), env=nspawn_environment(), check=False)
            if done.returncode != REBOOT:
                return done.returncode


def prepare_system(lab: Lab, machine: Machine, mounts: dict[str, Path], guest_files: Path) -> None:
    """Write what a machine needs before its PID 1 starts, and have it on disk."""
    system = mounts["system"]
    done = mounts["root"] / "identity-written"
    if not done.exists():
        write_identity(lab, machine, system)
        run(["sync", "-f", mounts["root"]])
        done.touch()
    for source, target in data_binds(machine).items():
        (mounts["data"] / source).mkdir(mode=0o711, exist_ok=True)
        (system / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
    kernels = system / GUEST_FOLDER
    kernels.mkdir(parents=True, exist_ok=True)
    for file in guest_files.iterdir():
        copy = kernels / file.name
        if not copy.exists() or copy.stat().st_mtime_ns != file.stat().st_mtime_ns:
            shutil.copy2(file, copy)
    # A power cut may come any time after this; what was written so far is the machine as installed.
    for label in DISKS:
        run(["sync", "-f", mounts[label]])


def nspawn_command(lab: Lab, machine: Machine, mounts: dict[str, Path]) -> list[str]:
    """Return the command that boots a machine."""
    binds = [f"--bind={device}" for device in BOX_DEVICES if Path(device).exists()]
    binds += [f"--bind={mounts['data'] / source}:{target}" for source, target in data_binds(machine).items()]
    return [
        *("systemd-nspawn", "--quiet", "--boot", "--settings=no", "--register=no", "--keep-unit", "--link-journal=no"),
        f"--directory={mounts['system']}",
        f"--machine={lab.container(machine.name)}",
        f"--hostname={machine.name}",
        *("--resolv-conf=off", "--timezone=off", "--console=pipe"),
        f"--network-namespace-path=/run/netns/{lab.netns(machine.name)}",
        # A network namespace alone makes nspawn drop CAP_NET_ADMIN, without which libvirt makes no tap device.
        "--capability=all",
        *binds,
    ]


def nspawn_environment() -> dict[str, str]:
    """Return the settings of nspawn that have no option: a pure cgroup2 tree and a writable /proc/sys/net."""
    return {
        **PLAIN_ENVIRONMENT,
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
    }


def in_machine(lab: Lab, name: str) -> list[str]:
    """Return the words that make a command run inside a machine, without the network being involved."""
    pid = cgroups.pid_one(lab, name)
    if pid is None:
        raise LabError(f"machine {name} is down; start it with `lab up {name}`")
    if cgroups.frozen(lab, name):
        raise LabError(f"machine {name} is frozen; let it go on with `lab thaw {name}`")
    clean = [f"{key}={value}" for key, value in PLAIN_ENVIRONMENT.items()]
    if "TERM" in os.environ:
        clean.append(f"TERM={os.environ['TERM']}")
    # The root too: on a box that is itself a chroot, the namespace's own root is not the machine's.
    program = ["nsenter", f"--target={pid}", "--all", "--root", "--"]
    return [*program, "/usr/bin/env", "--ignore-environment", "--chdir=/root", *clean]


def as_in_machine(lab: Lab, name: str) -> list[str]:
    """Return the words that make a command one of a machine's own processes: it freezes and dies with the machine."""
    return [*cgroups.entering(lab, name), *in_machine(lab, name)]


def run_in(
    lab: Lab, name: str, words: Sequence[str], *, stdin: str | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command inside a machine and return what it printed."""
    spoken = f"on machine {name}, {shlex.join(words)[:200]}"
    return run([*in_machine(lab, name), *words], stdin=stdin, check=check, name=spoken)


def stop(lab: Lab, name: str, seconds: float = 30) -> None:
    """Power a machine off as its owner would, and kill it only when that does not end in time."""
    pid = cgroups.pid_one(lab, name)
    ending = cgroups.pids(lab, name)
    if pid is not None:
        if cgroups.frozen(lab, name):
            cgroups.freeze(lab, name, on=False)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGRTMIN + 4)  # systemd: start poweroff.target
        if not until(lambda: not cgroups.pids(lab, name), seconds=seconds):
            log(f"machine {name} did not power off within {seconds:.0f} s and is killed")
    kill(lab, name, ending)


def kill(lab: Lab, name: str, ending: Sequence[int] = ()) -> None:
    """End every process of a machine at once, and wait until they and the use of its disks are over."""
    ending = [*ending, *cgroups.pids(lab, name)]
    cgroups.kill_all(lab, name)
    # Gone from the process table too, which needs the box's init; not worth failing for when that one is slow.
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in ending), seconds=5)
    folder = lab.machine_dir(name)
    if not until(lambda: not attached_loops(folder), seconds=20):
        raise LabError(f"a disk of machine {name} is still in use by {', '.join(attached_loops(folder))}")
    cgroups.remove(lab, name)


def attached_loops(folder: Path) -> list[str]:
    """Return the loop devices whose file lies under a folder."""
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        # The device may go away while it is looked at.
        with contextlib.suppress(OSError):
            if Path(backing.read_text().strip().removesuffix(" (deleted)")).is_relative_to(folder):
                found.append(f"/dev/{backing.parts[3]}")
    return found
