# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing the lab up and down, and the faults that strike a whole machine."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import cgroups, machine, network
from .base import base_path, ensure_base, ensure_box_packages
from .config import DEFAULT_DISK, DEFAULT_RELEASE, MACHINES, Lab, LabError
from .guestkit import ensure_kit
from .identity import ensure_box_key, known_hosts_text, ssh_config_text
from .leftovers import clean, close_masters
from .shell import log, run, write_file

__all__ = ["crash", "destroy", "down", "powercut", "prepare", "state_lock", "status_lines", "up"]

# An sshd that answers counts as up; a box under load may need long for it.
START_SECONDS = 60


@contextlib.contextmanager
def state_lock(lab: Lab) -> Iterator[None]:
    """Let one process at a time change what runs."""
    lab.state.mkdir(parents=True, exist_ok=True)
    with (lab.state / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log("another command is changing this lab; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def prepare(lab: Lab, releases: Sequence[str]) -> None:
    """Install the box's packages and build what the cache lacks."""
    ensure_box_packages(lab)
    for release in sorted(set(releases)):
        ensure_base(lab, release)
    ensure_kit(lab)


def up(lab: Lab, names: Sequence[str], releases: Mapping[str, str], disks: Mapping[str, str]) -> None:
    """Start machines; ``releases`` and ``disks`` hold what was asked for, for machines not made yet."""
    for name in names:
        check_wish(lab, name, releases.get(name), disks.get(name))
    missing = [releases.get(name, DEFAULT_RELEASE) for name in names if not machine.facts(lab, name)]
    with state_lock(lab):
        prepare(lab, missing)
        clean(lab)
        network.network_up(lab)
        ensure_box_key(lab)
        started = []
        for name in names:
            made = machine.facts(lab, name) or machine.create(
                lab, MACHINES[name], releases.get(name, DEFAULT_RELEASE), disks.get(name, DEFAULT_DISK)
            )
            ensure_recorded_base(lab, name, made)
            if not machine.running(lab, name):
                network.heal(lab, name)
                machine.start(lab, name)
                started.append(name)
        write_file(lab.known_hosts, known_hosts_text(lab))
        write_file(lab.ssh_config, ssh_config_text(lab))
        wait_until_up(lab, started)


def check_wish(lab: Lab, name: str, release: str | None, disk: str | None) -> None:
    """Refuse a wish that a machine made earlier does not fulfil."""
    made = machine.facts(lab, name)
    if made is None:
        return
    for what, wish, fact in (("release", release, made.release), ("disk", disk, made.disk)):
        if wish is not None and wish != fact:
            raise LabError(f"machine {name} was made with {what} {fact}, not {wish}; run `lab destroy` first")


def ensure_recorded_base(lab: Lab, name: str, made: machine.Facts) -> None:
    """Have the very base a machine was made on: its own changes lie on top of that one only."""
    if not Path(made.base).exists():
        if str(base_path(lab, made.release)) != made.base:
            raise LabError(f"machine {name} needs {made.base}, which is gone; run `lab destroy` first")
        ensure_base(lab, made.release)


def wait_until_up(lab: Lab, names: Sequence[str]) -> None:
    """Wait until machines answer on port 22 and their systemd has started everything."""
    deadline = time.monotonic() + START_SECONDS
    probe = Path(__file__).with_name("sshprobe.py")
    for name in names:
        words = [*network.in_control_network(lab), sys.executable, str(probe), MACHINES[name].address]
        while run([*words, "1"], check=False).returncode != 0:
            if not machine.supervised(lab, name) and time.monotonic() > deadline - START_SECONDS + 5:
                console = (lab.machine_dir(name) / "console.log").read_text().strip().splitlines()
                raise LabError(f"machine {name} did not start: {' / '.join(console[-5:]) or 'it said nothing'}")
            if time.monotonic() > deadline:
                raise LabError(f"machine {name} has no ssh after {START_SECONDS} s; see {lab.machine_dir(name)}")
    for name in names:
        wait = ["timeout", str(START_SECONDS), "systemctl", "is-system-running", "--wait"]
        state = machine.run_in(lab, name, wait, check=False).stdout.strip()
        if state != "running":
            # Usable all the same, and a test may want it like that; but nobody shall have to guess.
            failed = machine.run_in(lab, name, ["systemctl", "--failed", "--plain", "--no-legend"]).stdout
            units = ", ".join(line.split()[0] for line in failed.splitlines() if line.strip())
            log(f"machine {name} is {state or 'still starting'}; failed units: {units or 'none'}")


def down(lab: Lab, names: Sequence[str]) -> None:
    """Power machines off; after the last one nothing of the lab is left but its folder."""
    with state_lock(lab):
        for name in names:
            close_masters(lab, name)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda name: machine.stop(lab, name), names))
        if not any(machine.running(lab, name) for name in MACHINES):
            close_masters(lab)
            network.network_down(lab)


def destroy(lab: Lab, names: Sequence[str]) -> None:
    """Take machines down and remove them and their disks, with the last one the lab; the cache stays."""
    down(lab, names)
    if set(names) == set(MACHINES):
        clean(lab)
        shutil.rmtree(lab.state)
        return
    for name in names:
        shutil.rmtree(lab.machine_dir(name), ignore_errors=True)


def crash(lab: Lab, name: str, *, power: bool = False) -> None:
    """End a machine without warning; with ``power``, what it had not yet written to its disks is lost too."""
    if not machine.running(lab, name):
        raise LabError(f"machine {name} is down already")
    network.cut(lab, name)
    if power:
        # First nothing runs any more, then its disks forget; a frozen process cannot notice the difference.
        cgroups.freeze(lab, name, on=True)
        pid = cgroups.supervisor(lab, name)
        for label in machine.DISKS:
            point = lab.machine_dir(name) / "mnt" / label
            run(["nsenter", f"--target={pid}", "--mount", "--root", "--", "xfs_io", "-x", "-c", "shutdown", point])
    machine.kill(lab, name)
    close_masters(lab, name)


def powercut(lab: Lab, name: str) -> None:
    """End a machine as if its plug was pulled."""
    crash(lab, name, power=True)


def status_lines(lab: Lab) -> list[str]:
    """Return one line about the lab and one about each machine."""
    lines = [f"lab {lab.id}  state {lab.state}  cache {lab.cache}"]
    for name, fixed in MACHINES.items():
        made = machine.facts(lab, name)
        words = [f"{name}  {fixed.address}  {machine.state_of(lab, name):7}"]
        if made:
            words.append(f"{made.release:9} disk {made.disk}")
        if machine.running(lab, name):
            words.append(f"{len(cgroups.pids(lab, name))} processes, network {network.link_state(lab, name)}")
        lines.append("  ".join(words))
    return lines
