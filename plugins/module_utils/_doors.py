# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The doors between machines: whose key is let in for what, and which host keys are pinned."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ._errors import ResilientVmError

__all__ = ["Peer", "host_keys", "machine_name", "merge_authorized", "merge_known_hosts", "public_key"]

_PUBLIC_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{40,200}={0,2}")
_HOST_KEY = re.compile(r"[a-z0-9@.-]{1,60} [A-Za-z0-9+/]{40,4000}={0,2}")
_HEADER = "# Laid by edgecloud.resilient_vm; its site and unprotect playbooks rewrite the lines of their VMs.\n"


def public_key(text: str, where: str) -> str:
    """Type and key of a public key line. What another machine says never becomes more than one entry."""
    match = _PUBLIC_KEY.match(text)
    if match is None or "\n" in text.strip("\n"):
        raise ResilientVmError(f"{where} is not a public key of type ssh-ed25519; remove it and run the site playbook")
    return match.group(0)


def machine_name(word: str) -> str:
    """A name or address that stands in lines which ssh and its shell read. Raises ResilientVmError for any other."""
    if not re.fullmatch(r"[A-Za-z0-9_.:%-]+", word):
        raise ResilientVmError(f"{word!r} can't name a machine for ssh; correct its name or resilient_vm_address")
    return word


def host_keys(pattern: str = "/etc/ssh/ssh_host_*_key.pub") -> list[str]:
    """Type and key of each host key of this machine, for other machines to pin."""
    found = []
    for path in sorted(glob.glob(pattern)):
        with open(path, encoding="utf-8") as stream:
            match = _HOST_KEY.match(stream.read())
        if match is not None:
            found.append(match.group(0))
    if not found:
        raise ResilientVmError(f"there is no host key {pattern}; create them with ssh-keygen -A")
    return found


def merge_authorized(text: str, entries: dict[str, dict[str, str | None]]) -> str:
    """An authorized_keys file in which each named VM has one entry for each holder of a key.

    An empty entry is a holder that could not be asked: what it had stays. So do lines of other VMs.
    """
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for name, wanted in entries.items():
        unasked = tuple(f" {name}@{holder}" for holder, entry in wanted.items() if entry is None)
        lines = [line for line in lines if f" forced {name} " not in line or line.endswith(unasked)]
        lines += [entry for entry in wanted.values() if entry is not None]
    return _HEADER + "".join(f"{line}\n" for line in sorted(lines)) if lines else ""


def merge_known_hosts(text: str, peers: Iterable[Peer]) -> str:
    """A known_hosts file in which each peer has exactly its pinned keys; other machines' lines stay."""
    peers = [peer for peer in peers if peer.host_keys]
    names = {name for peer in peers for name in peer.names}
    lines = [
        line
        for line in text.splitlines()
        if line and not line.startswith("#") and not names & set(line.split(" ", 1)[0].split(","))
    ]
    lines += [f"{','.join(peer.names)} {key}" for peer in peers for key in peer.host_keys]
    return _HEADER + "".join(f"{line}\n" for line in sorted(lines)) if lines else ""


@dataclass(frozen=True)
class Peer:
    """A machine as this one reaches it: where, and under which host keys."""

    name: str
    address: str
    port: int = 22
    host_keys: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """As ssh looks them up: by HostKeyAlias (the inventory name) and by address."""
        address = self.address if self.port == 22 else f"[{self.address}]:{self.port}"
        return (self.name, address) if self.name != address else (self.name,)

    @classmethod
    def of(cls, name: str, given: dict[str, Any]) -> Peer:
        keys = tuple(given.get("host_keys") or ())
        for key in keys:
            if not _HOST_KEY.fullmatch(key):
                raise ResilientVmError(f"{key!r} is not a host key of {name}; run the site playbook on {name} again")
        return cls(machine_name(name), machine_name(given["address"]), int(given.get("port") or 22), keys)
