# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transient systemd units: work that outlives the Ansible connection that asked for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ._process import Runner

__all__ = ["INSTALLED", "MOVER", "active", "end", "living", "start", "stop"]

# Where the site playbook installs the program that these units run.
MOVER = "/usr/local/bin/resilient-vm"
# What the site playbook noted there: this machine's name, and where everything lies.
INSTALLED = "/usr/local/lib/resilient-vm/resilient_vm_mover/version.json"

# ActiveState of a unit that still has a process, starting and stopping ones included (org.freedesktop.systemd1).
_LIVING = ("active", "activating", "deactivating", "reloading")


def start(
    run: Runner,
    unit: str,
    argv: Sequence[str],
    properties: Iterable[str] = (),
) -> None:
    """Start argv as a unit that leaves nothing behind when it ends; returns once it runs."""
    words = ["systemd-run", "--quiet", "--collect", f"--unit={unit}.service", "--service-type=exec"]
    for item in properties:
        words += ["-p", item]
    run([*words, *argv])


def stop(run: Runner, *units: str) -> None:
    """End units and wait for their ExecStopPost; a unit that isn't there is fine."""
    end(run, [unit for unit in units if active(run, unit)])


def end(run: Runner, units: Sequence[str]) -> None:
    """End units that are there, and wait for their ExecStopPost."""
    if units:
        run(["systemctl", "stop", *(f"{unit}.service" for unit in units)], timeout_seconds=120)


def active(run: Runner, unit: str) -> bool:
    """Whether a unit still has a process, starting and stopping ones included."""
    answer = run(["systemctl", "show", "--property=ActiveState", "--value", f"{unit}.service"])
    return answer.stdout.strip() in _LIVING


def living(run: Runner, pattern: str) -> list[str]:
    """Units whose name, without its suffix, is one of a pattern's, and that still have a process: by one program."""
    listed = run(["systemctl", "list-units", "--all", "--plain", "--no-legend", f"{pattern}.service"])
    found = [line.split() for line in listed.stdout.splitlines()]
    return [words[0].removesuffix(".service") for words in found if len(words) > 2 and words[2] in _LIVING]
