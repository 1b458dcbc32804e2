# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host asks the backup storage by a VM's key, for the people who type a command there."""

from __future__ import annotations

import json
import os
import pwd
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from . import _laid_plan
from ._asking import call
from ._claim import Claim, line
from ._errors import ResilientVmError
from ._layout import Layout
from ._process import Runner
from ._registry import Entry, Place, Registry

__all__ = ["Storage", "Unreachable", "prepared", "say", "user"]

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
# ssh's own exit code when it got nowhere.
_NO_CONNECTION = 255


class Unreachable(ResilientVmError):
    """The backup storage gave no answer."""


@dataclass(frozen=True)
class Storage:
    """The backup storage, as this host asks it by the VM's key."""

    entry: Entry
    place: Place
    run: Runner

    def ask(self, claim: Claim) -> dict[str, Any]:
        """Its answer. Raises ResilientVmError when it refuses, or can't be reached."""
        done = call(self.entry, self.place, "claim", self.run, stdin=line(claim))
        reason = _shown((done.stderr.strip().splitlines() or [f"exit code {done.code}"])[-1])
        if done.code == _NO_CONNECTION:
            raise Unreachable(
                f"backup storage {self.place.name} can't be reached, and it has to decide; bring it back, or mend what "
                f"cuts {self.entry.host} off ({reason})"
            )
        try:
            answer = json.loads(done.stdout) if done.code == 0 else None
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or not answer:
            raise ResilientVmError(f"{self.place.name} takes no claims: {reason}")
        if "refused" in answer:
            raise ResilientVmError(f"{self.place.name} refuses: {_shown(answer['refused'])}")
        return answer


def _shown(text: Any) -> str:
    """What another machine says, for root's terminal."""
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in str(text))


def prepared(
    layout: Layout, host: str, command: str, run: Runner, more: Iterable[str] = ()
) -> tuple[dict[str, Any], Storage]:
    """What site has laid here for a ``command`` that people type: the VM's plan, with ``more`` names, and its
    backup storage.

    Raises ResilientVmError for anybody but root, and where the VM isn't.
    """
    if os.geteuid() != 0:
        raise ResilientVmError(f"{command} makes a VM run here; run it as root")
    plan = _laid_plan.read(layout, more)
    entry = Registry().of(layout.name)
    place = next((place for place in entry.ask if place.name == plan["backup_storage"]), None) if entry else None
    if entry is None or place is None:
        raise ResilientVmError(f"{host} is no host of {layout.name}; run {command} on the one that stands by for it")
    return plan, Storage(entry, place, run)


def say(text: str) -> None:
    """To whoever typed it."""
    sys.stdout.write(text + "\n")


def user() -> str:
    """Who typed it."""
    name = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    return name if _USER.fullmatch(name) else "root"
