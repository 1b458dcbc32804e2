# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a killed lab may have left on the box, and in which order to remove it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from . import cgroups
from .config import MACHINES, Lab
from .machine import attached_loops, running, supervised
from .network import existing_namespaces, network_down
from .shell import log, run

__all__ = ["Found", "clean", "close_masters", "look", "plan"]


@dataclass(frozen=True)
class Found:
    """What exists of one lab outside its state folder."""

    healthy: frozenset[str] = frozenset()  # machines that run under a living supervisor
    grouped: frozenset[str] = frozenset()  # machines that have control groups
    loops: dict[str, list[str]] = field(default_factory=dict)  # machine -> its attached loop devices
    mounts: tuple[str, ...] = ()  # mount points under the state folder, as the box sees them
    namespaces: tuple[str, ...] = ()
    masters: bool = False  # whether a folder of ssh masters exists


@dataclass(frozen=True)
class Step:
    """One thing to remove: what kind, and which."""

    kind: str
    name: str


def look(lab: Lab) -> Found:
    """Look for everything of this lab."""
    loops = {name: attached_loops(lab.machine_dir(name)) for name in MACHINES}
    return Found(
        healthy=frozenset(name for name in MACHINES if running(lab, name) and supervised(lab, name)),
        grouped=frozenset(name for name in MACHINES if any(group.exists() for group in cgroups.groups(lab, name))),
        loops={name: found for name, found in loops.items() if found},
        mounts=mounts_below(lab.state, Path("/proc/self/mounts").read_text()),
        namespaces=tuple(existing_namespaces(lab)),
        masters=lab.control_paths.exists(),
    )


def mounts_below(folder: Path, table: str) -> tuple[str, ...]:
    """Return the mount points under a folder, innermost first."""
    # The kernel writes a blank as \040.
    points = [line.split()[1].replace("\\040", " ") for line in table.splitlines()]
    return tuple(sorted((point for point in points if Path(point).is_relative_to(folder)), reverse=True))


def plan(found: Found) -> list[Step]:
    """Return what to remove so that only healthy machines, and what they need, are left."""
    steps = [Step("machine", name) for name in sorted((found.grouped | found.loops.keys()) - found.healthy)]
    steps += [Step("mount", point) for point in found.mounts]
    for name, devices in sorted(found.loops.items()):
        if name not in found.healthy:
            steps += [Step("loop", device) for device in devices]
    if not found.healthy:
        if found.masters:
            steps.append(Step("masters", ""))
        if found.namespaces:
            steps.append(Step("network", ""))
    return steps


def clean(lab: Lab) -> None:
    """Remove what a killed lab of the same id left."""
    for step in plan(look(lab)):
        log(f"removing a leftover: {step.kind} {step.name}".rstrip())
        if step.kind == "machine":
            cgroups.kill_all(lab, step.name)
            cgroups.remove(lab, step.name)
        elif step.kind == "mount":
            run(["umount", step.name])
        elif step.kind == "loop" and step.name in attached_loops(lab.state):
            run(["losetup", "--detach", step.name])
        elif step.kind == "masters":
            close_masters(lab)
        elif step.kind == "network":
            network_down(lab)


def close_masters(lab: Lab, name: str | None = None) -> None:
    """End the ssh masters to one machine, or all of them: a stale one makes the next connection hang."""
    if not lab.control_paths.is_dir():
        return
    for socket in sorted(lab.control_paths.iterdir()):
        if name is None or socket.name.startswith(f"{MACHINES[name].address}-"):
            # A master that is already gone refuses; what is left is its socket.
            run(["ssh", "-F", lab.ssh_config, "-S", socket, "-O", "exit", "lab"], check=False)
            socket.unlink(missing_ok=True)
    if name is None:
        shutil.rmtree(lab.control_paths.parent)
