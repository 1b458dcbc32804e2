# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The word of an operator that a host is off: asked for with a number used once, on the backup storage."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from . import _clock
from ._errors import ResilientVmError
from ._files import read_json, write_json
from ._layout import Layout

__all__ = ["VALID_MINUTES", "Word", "check", "parse", "renew"]

VALID_MINUTES = 15
_AGAIN = "run failover without resilient_vm_confirm, and it names the one to give"
_WORD = re.compile(r"([A-Za-z0-9_.-]+)@([^@#\s]+)#([1-9][0-9]{0,8})-([0-9a-f]{8})")


@dataclass(frozen=True)
class Word:
    """``<vm>@<host>#<epoch>-<nonce>``: this host, on which the VM lived since this epoch, is off."""

    vm: str
    host: str
    epoch: int
    nonce: str

    def __str__(self) -> str:
        return f"{self.vm}@{self.host}#{self.epoch}-{self.nonce}"


def parse(text: str, vm: str, host: str, epoch: int) -> Word | None:
    """The word about this VM among those given, separated by commas; None when there is none.

    Raises ResilientVmError for one that isn't a word, or that is about another host or epoch.
    """
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _WORD.fullmatch(part)
        if match is None:
            raise ResilientVmError(f"resilient_vm_confirm {part!r} is not a confirmation; {_AGAIN}")
        word = Word(match.group(1), match.group(2), int(match.group(3)), match.group(4))
        if word.vm != vm:
            continue
        if (word.host, word.epoch) != (host, epoch):
            raise ResilientVmError(
                f"resilient_vm_confirm {part} is about host {word.host} at epoch {word.epoch}, and {vm} lives on "
                f"{host} since epoch {epoch}; {_AGAIN}"
            )
        return word
    return None


def renew(layout: Layout, epoch: int, now: datetime) -> str:
    """A new nonce, kept on the backup storage; earlier ones are void. The caller holds the VM's lock."""
    nonce = secrets.token_hex(4)
    write_json(layout.nonce, {"nonce": nonce, "epoch": epoch, "issued": _clock.iso(now)}, 0o600)
    return nonce


def check(layout: Layout, nonce: str, epoch: int, now: datetime) -> datetime:
    """When this nonce was issued. Raises ResilientVmError when it is not the last one, too old, or of another epoch.

    It is good once: what it allows raises the epoch.
    """
    known = read_json(layout.nonce) or {}
    if (known.get("nonce"), known.get("epoch")) != (nonce, epoch):
        raise ResilientVmError(
            f"the confirmation that ends in {nonce} was used already, or is not the last one that was asked for about "
            f"{layout.name}; {_AGAIN}"
        )
    issued = _clock.parse(known["issued"], layout.nonce)
    if now - issued > timedelta(minutes=VALID_MINUTES):
        raise ResilientVmError(
            f"the confirmation that ends in {nonce} was asked for at {known['issued']}, and is good for "
            f"{VALID_MINUTES} minutes; {_AGAIN}"
        )
    return issued
