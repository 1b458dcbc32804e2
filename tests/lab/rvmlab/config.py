# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab is made of and what everything in it is called. No side effects here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CONTROL", "DEFAULT_DISK", "DEFAULT_RELEASE", "MACHINES", "RELEASES", "Lab", "LabError", "Machine"]

RELEASES = ("bookworm", "trixie")
DEFAULT_RELEASE = "bookworm"
DEFAULT_DISK = "24G"
# Every lab has its own network namespaces, so all of them can use the same addresses.
PREFIX_LENGTH = 16
CHECKOUT = Path(__file__).resolve().parents[3]


class LabError(Exception):
    """Something that stops the lab, said in one sentence for the person at the terminal."""


@dataclass(frozen=True)
class Machine:
    """One of the machines, as the lab's design fixes it."""

    name: str
    address: str
    libvirt: bool


MACHINES: dict[str, Machine] = {
    machine.name: machine
    for machine in (
        Machine("a", "10.77.0.11", libvirt=True),
        Machine("b", "10.77.0.12", libvirt=True),
        Machine("c", "10.77.0.13", libvirt=False),
    )
}
# The control node is no machine but a view of the network: ansible-playbook runs on the box itself.
CONTROL = Machine("ctl", "10.77.0.1", libvirt=False)


@dataclass(frozen=True)
class Lab:
    """Where one lab keeps its things, and the names that set it apart from other labs on the box."""

    state: Path
    cache: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Lab:
        """Return the lab of this checkout, or the one the environment points to."""
        environment = os.environ if environment is None else environment
        state = Path(environment.get("RVM_LAB_STATE") or CHECKOUT / ".dev" / "lab")
        cache = Path(environment.get("RVM_LAB_CACHE") or "/var/cache/resilient-vm-lab")
        return cls(state=state.resolve(), cache=cache.resolve())

    @property
    def id(self) -> str:
        """Five hex digits; tests/lab/inventory computes the same ones."""
        return hashlib.sha256(str(self.state).encode()).hexdigest()[:5]

    @property
    def prefix(self) -> str:
        """What the name of everything outside the state folder begins with."""
        return f"rvm-{self.id}"

    def netns(self, name: str) -> str:
        """Name of the network namespace of a machine, of ``ctl`` or of the switch ``sw``."""
        return f"{self.prefix}-{name}"

    def container(self, name: str) -> str:
        """Name under which systemd-nspawn runs a machine."""
        return f"{self.prefix}-{name}"

    @property
    def ssh_config(self) -> Path:
        """The configuration with which ssh and Ansible reach the machines."""
        return self.state / "ssh_config"

    @property
    def private_key(self) -> Path:
        """The key the box uses for root on every machine."""
        return self.state / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The machines' pinned host keys."""
        return self.state / "known_hosts"

    @property
    def control_paths(self) -> Path:
        """Sockets of ssh masters; not under the state, whose path may be too long for a socket."""
        return Path(f"/run/{self.prefix}/ssh")

    def machine_dir(self, name: str) -> Path:
        """Disks and facts of one machine."""
        return self.state / name
