# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with a gate, in a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _gate, _hook, _superseded
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._gate import Gate
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._registry import Entry, Place, Registry
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._state import State

NOW = datetime(2026, 1, 14, 2, tzinfo=timezone.utc)
UUID = "6e1f3c0a-3a5f-4c50-9f7e-3a3f0d9a2c11"
OWN = State("acme", "erp", "erp", UUID, 3, "a", "b", "protected", "2026-01-14T02:00:00Z", "site")


@dataclass
class World:
    """Host a in a folder; what other machines answer and which domains run is the test's to say."""

    place: Path
    answers: dict[str, str] = field(
        default_factory=lambda: {"192.0.2.13": "3 a protected\n", "192.0.2.12": "3 a protected\n"}
    )
    running: set[str] = field(default_factory=set)
    broken: str = ""
    defined: bool = True
    silent: str = "ssh: connect to host {} port 22: No route to host"
    # Whether the others answer about one VM at a time only.
    outdated: bool = False
    # VMs of which they say nothing where they are asked about several.
    untold: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    clock: float = 0.0
    # What the others answer from an instant of the clock on.
    later: dict[float, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def active(cls, place: Path) -> World:
        """Up since boot one, its VM confirmed and running."""
        home = place / "acme" / "erp"
        home.mkdir(parents=True)
        (home / "lock").touch()
        world = cls(place)
        world.register(state=str(home / "state.json"))
        (home / "state.json").write_text(json.dumps(OWN.as_dict()))
        world.boots("one")
        world.boot_unit()
        world.asked.clear()
        assert world.running == {UUID} and world.hook() == 0
        return world

    def another(self, number: int, customer: str = "acme") -> str:
        """One more VM that lives here and was confirmed, running."""
        uuid = f"11111111-2222-4333-8444-{number:012}"
        vm = f"vm{number}"
        home = self.place / customer / vm
        home.mkdir(parents=True)
        (home / "lock").touch()
        (home / "state.json").write_text(json.dumps(replace(OWN, customer=customer, vm=vm, uuid=uuid).as_dict()))
        self.register(uuid=uuid, customer=customer, vm=vm, state=str(home / "state.json"))
        (self.place / "confirmed" / f"{uuid}.json").write_text("{}")
        self.running.add(uuid)
        return uuid

    def turn(self) -> int:
        """A turn of the unit that looks whether a VM was taken over elsewhere."""
        return _superseded.stop(self.gate, self.sleep, lambda: self.clock)

    def run(self, argv: list[str], **options: Any) -> Completed:
        if argv[0] == "ssh":
            address = argv[-2].partition("@")[2]
            self.asked.append(address)
            said = self.answers.get(address)
            if not said:
                return Completed(255, "", self.silent.format(address) + "\n")
            if argv[-1] == "epochs":
                if self.outdated:
                    return Completed(1, "", "resilient-vm: this key may only ask for epoch of acme/erp\n")
                names = options["stdin"].split()
                said = "".join(f"{vm} {'a is no host of it' if vm in self.untold else said.strip()}\n" for vm in names)
            return Completed(0, said, "")
        if argv[0] == "systemctl":
            (self.stopped if argv[1] == "stop" else self.started).append(argv[-1])
            return Completed(0, "", "")
        if not self.defined:
            return Completed(1, "", f"error: failed to get domain '{argv[4]}'")
        if argv[3] == "domstate":
            return Completed(0, "running (booted)" if argv[4] in self.running else "shut off (unknown)", "")
        if argv[3] == "destroy":
            self.running.remove(argv[4])
            return Completed(0, "", "")
        assert argv[3] == "start"
        if self.broken:
            return Completed(1, "", f"error: {self.broken}")
        self.running.add(argv[4])
        return Completed(0, "", "")

    @property
    def gate(self) -> Gate:
        registry = Registry(str(self.place / "gate"), str(self.place / "confirmed"))
        places = (str(self.place), str(self.place / "boot_id"))
        return Gate(self.run, lambda: NOW, registry, *places, uptime=lambda: self.clock)

    def boots(self, name: str) -> None:
        (self.place / "boot_id").write_text(name)
        self.running.clear()

    def sleep(self, seconds: float) -> None:
        self.clock += seconds
        for at, answers in list(self.later.items()):
            if self.clock >= at:
                self.answers = answers
                del self.later[at]

    def boot_unit(self) -> int:
        return _gate.boot(self.gate, self.sleep, lambda: self.clock)

    def hook(self) -> int:
        xml = f"<domain><uuid>{UUID}</uuid></domain>".encode()
        places = (str(self.place / name) for name in ("gate", "confirmed", "boot_id"))
        return _hook.main(["erp", "start", "begin", "-"], xml, *places)

    def register(self, **changes: Any) -> None:
        ask = (Place("c", "192.0.2.13", 22), Place("b", "192.0.2.12", 22))
        state = str(self.place / "state.json")
        entry = replace(Entry(UUID, "acme", "erp", "a", state, "rvm-acme", True, False, ask), **changes)
        (self.place / "gate").mkdir(exist_ok=True)
        (self.place / "gate" / f"{entry.uuid}.json").write_text(entry.text())

    def holds(self, state: State) -> None:
        (self.place / "state.json").write_text(json.dumps(state.as_dict()))
