# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold after every step of a simulated world, whatever happened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unit.simulation import disks, product
from unit.simulation.playbook import Run
from unit.simulation.world import World

__all__ = ["Watch"]


class Watch:
    """Sees one world from step to step."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._epochs = dict.fromkeys("abc", 0)
        self._actives: dict[int, str] = {}
        self._published: dict[str, set[str]] = {name: set() for name in "abc"}
        # Hosts that have had a generation once.
        self._bootable: set[str] = set()
        self._begun: set[int] = set()

    def look(self) -> None:
        """Raises AssertionError, with all that happened, when something does not hold."""
        documents = {name: product.document(machine) for name, machine in self.world.machines.items()}
        broken = [
            *self._two(documents),
            *self._gates(documents),
            *self._lost_epochs(documents),
            *self._lost_writes(),
            *self._publications(documents),
            *self._generations(),
            *self._moved(),
        ]
        for machine in self.world.machines.values():
            product.journal(machine)  # raises when its chain is broken
        assert not broken, "\n".join([*broken, "--- what happened:", *self.world.log[-60:], self.world.status()])

    def finished(self, run: Run) -> None:
        """Of a playbook that has come to its end."""
        assert run.told, run.name
        if run.name == "failover":
            self._needs_nobody_else(run)

    def _vouched(self, documents: dict[str, dict[str, Any]], names: list[str]) -> bool:
        """Whether one of these hosts was said to be off by mistake, at the epoch that it still holds.

        Once it is told of a higher one, it has until its next look.
        """
        return any(
            epoch == documents[name]["epoch"] or self.world.looked[name] < documents[name]["epoch"]
            for name, epoch in self.world.lies
            if name in names
        )

    def _two(self, documents: dict[str, dict[str, Any]]) -> Iterator[str]:
        runs = [name for name, machine in self.world.machines.items() if machine.runs]
        if len(runs) > 1 and not self._vouched(documents, runs):
            yield f"erp runs on {' and '.join(runs)}, and nobody said of one that it is off"

    def _gates(self, documents: dict[str, dict[str, Any]]) -> Iterator[str]:
        hosts = [machine for machine in self.world.machines.values() if machine.name != "c" and machine.up]
        opened = [machine.name for machine in hosts if not product.hook(machine)]
        epochs = {documents[name]["epoch"] for name in opened}
        if len(opened) > 1 and (len(epochs) == 1 or not self._vouched(documents, opened)):
            yield f"the gates of {' and '.join(opened)} are open, at epochs {epochs}"

    def _lost_epochs(self, documents: dict[str, dict[str, Any]]) -> Iterator[str]:
        for name, document in documents.items():
            epoch = document["epoch"]
            if epoch < self._epochs[name]:
                yield f"{name} went from epoch {self._epochs[name]} back to {epoch}"
            if self._actives.setdefault(epoch, document["active"]) != document["active"]:
                yield f"at epoch {epoch} {self._actives[epoch]} was active, and {name} says {document['active']}"
            if epoch > documents["c"]["epoch"] and not document["unwitnessed"]:
                yield f"{name} is at epoch {epoch}, which c never decided"
            self._epochs[name] = epoch

    def _lost_writes(self) -> Iterator[str]:
        """A disk that the VM once ran on has what the VM wrote there, and nothing else, under one name or another."""
        for life in self.world.lives:
            if _is(life.path, life.file) or self._found(life.host, life):
                if Path(life.path).read_bytes() != life.content:
                    yield f"{life.path} was written by somebody else than the VM"
            else:
                yield f"{life.path} of epoch {life.epoch} is gone"

    def _found(self, host: str, life: Any) -> bool:
        for folder, _folders, names in os.walk(self.world.machines[host].root):
            for name in names:
                if _is(os.path.join(folder, name), life.file):
                    life.path = os.path.join(folder, name)
                    return True
        return False

    def _publications(self, documents: dict[str, dict[str, Any]]) -> Iterator[str]:
        for name, machine in self.world.machines.items():
            held = disks.images(machine) if name == "c" else disks.generations(machine)
            for image_id in set(held) - self._published[name]:
                if held[image_id] < documents[name]["epoch"]:
                    yield f"{name} published image {image_id} of epoch {held[image_id]}, which is over"
            self._published[name] |= set(held)

    def _generations(self) -> Iterator[str]:
        for name in "ab":
            machine = self.world.machines[name]
            now = disks.current(machine)
            if now is not None and now in disks.generations(machine):
                self._bootable.add(name)
            elif name in self._bootable:
                yield f"{name} had a generation to start from, and has none any more"

    def _moved(self) -> Iterator[str]:
        """A planned move begins on the disk that was left."""
        for life in self.world.lives:
            how, left = self.world.moves.get(life.epoch, ("", b""))
            if id(life) in self._begun:
                continue
            self._begun.add(id(life))
            if how == "switch" and life.content != left:
                yield f"{life.host} began at epoch {life.epoch} without all that was written before"

    def _needs_nobody_else(self, run: Run) -> None:
        """A takeover wants nothing of the host that it takes from; it may look at it, where it might be the one that
        knows."""
        asked = {machine for machine, what in run.calls if not what.endswith("facts")} - {"c"}
        assert len(asked) < 2, f"failover asked {asked}"


def _is(path: str, inode: int) -> bool:
    try:
        return os.stat(path).st_ino == inode
    except FileNotFoundError:
        return False
