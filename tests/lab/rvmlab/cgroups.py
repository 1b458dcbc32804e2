# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a machine's processes are counted, frozen and killed, all at once."""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path

from .config import Lab, LabError
from .shell import until

__all__ = [
    "enter",
    "entering",
    "freeze",
    "frozen",
    "kill_all",
    "make",
    "pid_one",
    "pids",
    "remove",
    "roots",
    "supervisor",
]


def roots() -> list[Path]:
    """Return the mount points in which machines get groups: cgroup2 first, and systemd's own v1 tree beside it.

    On a box with the old mixed layout systemd-nspawn would otherwise leave groups in the root of the v1 tree.
    """
    unified: list[Path] = []
    named: list[Path] = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        target, kind, options = line.split()[1:4]
        if kind == "cgroup2":
            unified.append(Path(target))
        elif kind == "cgroup" and "name=systemd" in options.split(","):
            named.append(Path(target))
    if not unified:
        raise LabError("this box has no cgroup2 mounted, which the machines' systemd needs")
    return [unified[0], *named[:1]]


def groups(lab: Lab, name: str) -> list[Path]:
    """Return a machine's groups, cgroup2 first."""
    return [root / lab.prefix / name for root in roots()]


def make(lab: Lab, name: str) -> None:
    """Create a machine's groups."""
    for group in groups(lab, name):
        group.mkdir(parents=True, exist_ok=True)


def enter(lab: Lab, name: str) -> None:
    """Move the calling process into a machine's groups, so that freezing and killing reach it too."""
    for group in groups(lab, name):
        (group / "cgroup.procs").write_text("0")


def entering(lab: Lab, name: str) -> list[str]:
    """Return the words that make a command that follows them a process of a machine's groups before it starts."""
    enter_all = "".join(f"echo 0 > {shlex.quote(str(group / 'cgroup.procs'))} && " for group in groups(lab, name))
    return ["/bin/sh", "-c", f'{enter_all}exec "$@"', "lab"]


def pids(lab: Lab, name: str) -> list[int]:
    """Return every process of a machine, the lab's own supervisor included."""
    found: set[int] = set()
    for group in groups(lab, name):
        # os.walk passes over groups that vanish while a machine starts or stops.
        for folder, _folders, _files in os.walk(group):
            found.update(members(Path(folder)))
    return sorted(found)


def members(group: Path) -> list[int]:
    """Return the processes of one group; one that was just removed has none."""
    try:
        return [int(word) for word in (group / "cgroup.procs").read_text().split()]
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return []
        raise


def pid_one(lab: Lab, name: str) -> int | None:
    """Return the box's number of a machine's PID 1, or None when the machine does not run."""
    for pid in pids(lab, name):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            command = Path(f"/proc/{pid}/comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended since it was listed
        numbers = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
        # Relative to the lab: a lab may itself run inside a container with more namespaces around it.
        if len(numbers) >= 2 and numbers[-1] == "1" and command == "systemd":
            return pid
    return None


def supervisor(lab: Lab, name: str) -> int:
    """Return the lab's own process of a machine, in whose mount namespace the machine's disks are."""
    for pid in pids(lab, name):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"_machine" in words and name.encode() in words:
            return pid
    raise LabError(f"machine {name} has no supervisor; run `lab up {name}` to start it cleanly")


def freeze(lab: Lab, name: str, *, on: bool) -> None:
    """Stop all processes of a machine where they are, or let them go on."""
    group = groups(lab, name)[0]
    (group / "cgroup.freeze").write_text("1" if on else "0")
    wanted = f"frozen {int(on)}"
    if not until(lambda: wanted in (group / "cgroup.events").read_text(), seconds=10, pause=0.01):
        raise LabError(f"machine {name} did not become {'frozen' if on else 'thawed'} within 10 s")


def frozen(lab: Lab, name: str) -> bool:
    """Return whether a machine is frozen."""
    state = groups(lab, name)[0] / "cgroup.freeze"
    return state.exists() and state.read_text().strip() == "1"


def kill_all(lab: Lab, name: str) -> None:
    """Kill every process of a machine at the same instant, frozen ones too, and wait until they are gone."""
    group = groups(lab, name)[0]
    if group.exists():
        (group / "cgroup.kill").write_text("1")
    if not until(lambda: not pids(lab, name), seconds=20):
        raise LabError(f"processes of machine {name} survive being killed: {pids(lab, name)}")


def remove(lab: Lab, name: str) -> None:
    """Remove a machine's empty groups and, after the last machine, the lab's."""
    for group in groups(lab, name):
        if group.exists():
            for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                folder.rmdir()
            group.rmdir()
        try:
            group.parent.rmdir()
        except OSError as error:
            # Machines end side by side: another one has removed it, or is still in it.
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EBUSY):
                raise
