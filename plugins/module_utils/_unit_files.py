# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd units of a host as they should be: their files, which begin with the host, which run now."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ._errors import ResilientVmError
from ._process import Runner
from ._tree import Tree

__all__ = ["Unit", "UnitFiles"]

FOLDER = "/etc/systemd/system"
_NAME = re.compile(r"[A-Za-z0-9@_.-]+\.(service|timer|path|socket)")


@dataclass(frozen=True)
class Unit:
    """One unit as it should be. ``started``: it runs from now on, anew when its file is another one."""

    name: str
    content: str
    enabled: bool = False
    started: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ResilientVmError(f"{self.name!r} can't name a unit; end it with .service, .timer, .path or .socket")


@dataclass(frozen=True)
class Standing:
    """What systemd says of units, by name: those that begin with the host, and those that run."""

    enabled: tuple[str, ...]
    started: tuple[str, ...]


class UnitFiles:
    """The units of one host. ``settle`` makes them so; its tree collects what differed."""

    def __init__(self, run: Runner, tree: Tree, folder: str = FOLDER) -> None:
        self._run = run
        self._tree = tree
        self._folder = folder

    def standing(self, units: Sequence[Unit]) -> Standing:
        """Which of these are enabled, and which are active; a unit that is not there is neither."""
        # Of a template only instances could be either.
        units = [unit for unit in units if not unit.name.partition("@")[2].startswith(".")]
        shown = self._run(["systemctl", "show", "--property=UnitFileState,ActiveState", *[unit.name for unit in units]])
        # A paragraph a unit, in the order asked for.
        told = [dict(line.split("=", 1) for line in part.splitlines()) for part in shown.stdout.strip().split("\n\n")]
        if len(told) != len(units):
            raise ResilientVmError(f"systemctl tells of {len(told)} units where {len(units)} were asked for")
        return Standing(
            tuple(unit.name for unit, said in zip(units, told) if said.get("UnitFileState") == "enabled"),
            tuple(unit.name for unit, said in zip(units, told) if said.get("ActiveState") == "active"),
        )

    def settle(self, units: Sequence[Unit]) -> tuple[Standing, Standing]:
        """(before, after): lay the files, enable and start. In a dry run ``after`` is what would be."""
        before = self.standing(units)
        anew = {unit.name for unit in units if self._lay(unit)}
        enable = [unit.name for unit in units if unit.enabled and unit.name not in before.enabled]
        start = [unit.name for unit in units if unit.started and unit.name not in before.started]
        restart = [unit.name for unit in units if unit.started and unit.name in before.started and unit.name in anew]
        if not self._tree.dry:
            if anew:
                self._run(["systemctl", "daemon-reload"])
            for verb, names in (("enable", enable), ("restart", restart), ("start", start)):
                if names:
                    self._run(["systemctl", verb, *names], timeout_seconds=120.0)
        after = Standing(
            tuple(unit.name for unit in units if unit.name in (*before.enabled, *enable)),
            tuple(unit.name for unit in units if unit.name in (*before.started, *start)),
        )
        return before, after

    def _lay(self, unit: Unit) -> bool:
        return self._tree.text(os.path.join(self._folder, unit.name), unit.content, 0o644)
