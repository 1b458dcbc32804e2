# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The product's own code as the simulation calls it. Only this file and disks.py know its rooms.

Each function is what one module, unit or forced command does on one machine. Documents, intents, nonces, journals,
gates, images and disks are real files in the folder that stands for the machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import (
    _change,
    _clock,
    _commit,
    _fence,
    _files,
    _gate,
    _hook,
    _journal,
    _power,
    _preflight,
    _promote,
    _reprotect,
    _resolve,
    _superseded,
    _switch,
    _takeover,
    _undo,
    _unwitnessed,
    _word,
)
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._plan import make_plan
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._registry import Entry, Place, Registry
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._state import Inventory, State, settle
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._virsh import Virsh
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._word import VALID_MINUTES

if TYPE_CHECKING:
    from unit.simulation.machine import Machine
    from unit.simulation.world import World

__all__ = ["CONTROL", "ROLES", "VALID_MINUTES", "Completed", "Failed", "Layout"]

CONTROL = _takeover.CONTROL
Failed = ResilientVmError
ROLES = Path(__file__).resolve().parents[3] / "roles"
UUID = "3c6bb72f-2a19-44b9-af47-a8ee60341a79"
VERSION = "0.1.0"
GROUPS = {
    "all": ["a", "b", "c", "erp"],
    "production": ["a"],
    "standby": ["b"],
    "backup_storage": ["c"],
    "protected_vms": ["erp"],
}


def of_seconds(seconds: float) -> datetime:
    return datetime(2026, 1, 14, 2, tzinfo=timezone.utc) + timedelta(seconds=seconds)


@contextlib.contextmanager
def installed(world: World) -> Iterator[None]:
    """Everything that looks at a clock looks at the simulated machine's, and before each document is written the
    world may have something else happen, or cut the power."""
    numbers = iter(range(1, 1 << 30))
    write = _files.write_atomic

    def watched(path: str, *given: Any, **more: Any) -> None:
        world.before_writing(path)
        write(path, *given, **more)

    def now() -> datetime:
        return world.here.now()

    def number(_bytes: int) -> str:
        return f"{next(numbers):08x}"

    with (
        mock.patch.object(_change, "utc_now", now),
        mock.patch.object(_files, "write_atomic", watched),
        mock.patch.object(_word.secrets, "token_hex", number),
    ):
        yield


# the site playbook


def plan(guest_address: str | None = None, fencing: bool = False, **settings: Any) -> dict[str, Any]:
    variables = {"customer": "acme", "guest_address": guest_address, "shutdown_seconds": 1, **settings}
    named = {f"resilient_vm_{name}": value for name, value in variables.items()}
    agent = {"resilient_vm_fence_agent": "fence_simulated"} if fencing else {}
    return make_plan("erp", named, GROUPS, lambda _machine: agent)


def protect(machines: Mapping[str, Machine], start_unconfirmed: bool, self_stop_seconds: int) -> None:
    """What the site playbook leaves: documents, folders, and a gate on each host."""
    wanted = Inventory("acme", "erp", "erp", "a", "b", UUID)
    others: dict[str, State] = {}
    for name in ("c", "a", "b"):
        machine = machines[name]
        layout = machine.layout
        for folder in (layout.images, layout.generations, layout.incoming, layout.pins, layout.runtime):
            os.makedirs(folder)
        for path in (layout.lock, layout.asked):
            Path(path).touch()
        os.utime(layout.asked, (0, 0))
        others[name] = settle(wanted, name, None, others, machine.now())
        _files.write_json(layout.state, others[name].as_dict())
        if name == "c":
            continue
        ask = (Place("c", "c", 22), Place("b" if name == "a" else "a", "b" if name == "a" else "a", 22))
        entry = Entry(
            UUID, "acme", "erp", name, layout.state, "rvm-acme", True, start_unconfirmed, ask, self_stop_seconds
        )
        os.makedirs(machine.registry.folder)
        Path(machine.registry.path(UUID)).write_text(entry.text(), encoding="utf-8")


# what a machine holds


def document(machine: Machine) -> dict[str, Any]:
    """Its state document as it is. Raises Failed when it is damaged or gone."""
    return _change.held(machine.layout).as_dict()


def journal(machine: Machine) -> list[dict[str, Any]]:
    return _journal.read(machine.layout.journal)


def intent(machine: Machine) -> int | None:
    return (_files.read_json(machine.layout.intent) or {}).get("epoch")


def registry_of(root: Path) -> Registry:
    return Registry(str(root / "gate"), str(root / "run" / ".gate"))


# units and forced commands on A and B


def gate_of(machine: Machine) -> _gate.Gate:
    root = machine.root
    places = (str(root), str(root / "boot_id"))
    # One that goes on while the machine is off, too, is as good here: what was noted in another boot counts no more.
    return _gate.Gate(machine.run, machine.now, machine.registry, *places, uptime=lambda: machine.world.seconds)


def tell_epoch(machine: Machine) -> str:
    """The forced command by which another machine asks this one."""
    try:
        return _change.told(machine.layout)
    finally:
        # The file's time is this machine's clock, which is simulated.
        now = machine.now().timestamp()
        os.utime(machine.layout.asked, (now, now))


def hook(machine: Machine, operation: str = "start") -> str:
    """What libvirt's hook says to starting the VM here; "" is yes."""
    xml = f"<domain><uuid>{UUID}</uuid></domain>".encode()
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = _hook.main(
            ["erp", operation, "begin", "-"],
            xml,
            machine.registry.folder,
            machine.registry.confirmed,
            str(machine.root / "boot_id"),
        )
    return said.getvalue().strip().removeprefix(_hook.SAYS) if code else ""


def look_at_gate(machine: Machine) -> None:
    """M(gate) at the end of daily: the gates of what lives here are opened, and nothing is started."""
    gate_of(machine).openings()


def open_gates(machine: Machine) -> str:
    """One round of the gate's unit, as after a boot and at each tick of its timer; what it says."""
    times = iter((0.0, 1e9))
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        _gate.boot(gate_of(machine), lambda _seconds: None, lambda: next(times))
    return said.getvalue().strip()


def stop_superseded(machine: Machine) -> str:
    """The minute's look whether the VM was taken over elsewhere; what it says."""
    problems, _nobody_answers = _superseded.look(gate_of(machine))
    return "\n".join(f"resilient-vm: {problem}" for problem in problems)


# modules that change something


def change(
    machine: Machine,
    transition: str,
    epoch: int,
    why: str,
    unasked_since: str = "",
    nonce: str = "",
    unwitnessed: bool = False,
    seen: str | None = None,
) -> dict[str, Any]:
    since = _clock.parse(unasked_since) if unasked_since else None
    request = _change.Request(transition, epoch, "simulation", why, {}, since, nonce or None, unwitnessed, seen)
    return _change.change(machine.layout, request, machine.now())[1].as_dict()


def follow(machine: Machine, decided: Mapping[str, Any]) -> bool:
    """Whether it had not heard of it."""
    before, after = _change.follow(machine.layout, _state(decided), "simulation", machine.now())
    return before != after


def nonce(machine: Machine, epoch: int) -> str:
    return _change.ask(machine.layout, epoch)


def intend(machine: Machine, epoch: int, unasked_since: str) -> None:
    _promote.intend(machine.layout, epoch, machine.now(), unasked_since=_clock.parse(unasked_since))


def withdraw(machine: Machine, epoch: int) -> bool:
    return _promote.withdraw(machine.layout, epoch)


def promote(machine: Machine, decided: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    """M(vm_failover): follow, lay disks, define, open the gate, start."""
    _change.follow(machine.layout, _state(decided), "simulation", machine.now())
    promotion = _promote.Promotion(
        machine.layout,
        "erp",
        epoch,
        {},
        machine.run,
        gate_of(machine),
        machine.name,
        swtpm=str(machine.root / "swtpm"),
        sleep=lambda _seconds: None,
    )
    record = promotion.carry_out()
    _promote.withdraw(machine.layout, epoch)
    return {"guest": "not asked", "seconds": {}, "data_time": record["instant"], "generation": record["generation"]}


def shut_down(machine: Machine) -> None:
    _power.shut_down(Virsh(machine.run), UUID, 1, lambda _seconds: None)


def start(machine: Machine) -> None:
    _power.start(gate_of(machine), "acme/erp", UUID, 1, lambda _seconds: None)


class _Agent(_fence.Agent):
    """The agent's program is simulated; what is made of its answers is not."""

    def __init__(self, answer: Any) -> None:
        super().__init__("fence_simulated", {}, {}, 0.0, lambda _seconds: None)
        self._answer = answer

    def _call(self, action: str, deadline: float) -> Completed | None:
        del deadline
        answer: Completed | None = self._answer(action)
        return answer


def fence(_machine: Machine, answer: Any) -> dict[str, Any]:
    outcome = _Agent(answer).power_off()
    # How long it took is this computer's business.
    told = outcome.told.replace(" in 0.0 s", "").replace(" after 0 s", "").replace(" 0 seconds", " 60 seconds")
    return {"power": outcome.power, "told": told}


# what is decided on the control node


def failover(
    world: World, answers: Mapping[str, Any], confirm: str, scheduled: bool, without_c: bool
) -> _takeover.Decision:
    facts = _takeover.Facts(
        answers["hosts"], answers["standbys"], answers["looks"], world.control_now(), VERSION, answers["fenced"]
    )
    return _takeover.decide({**world.plan, "without_backup_storage": without_c}, facts, confirm, scheduled)


def demand(decision: _takeover.Decision, number: str) -> str:
    return _takeover.demand(dataclasses.asdict(decision), "erp", number, "failover --limit erp")


def taker(world: World, hosts: Mapping[str, Any]) -> tuple[str, str]:
    """By what the backup storage said, or the hosts where they were asked."""
    state = hosts["c"].get("state") or _unwitnessed.known(world.plan, hosts)
    return _takeover.hosts_of(world.plan, state)


def untold(world: World, hosts: Mapping[str, Any], images: list[dict[str, Any]]) -> str:
    return _unwitnessed.told(world.plan, hosts, images, {})


def resolve(world: World, answers: Mapping[str, Any], goal: str) -> _resolve.Decision:
    return _resolve.decide({**world.plan, "resolve_to": goal}, answers["hosts"], VERSION)


def switchover(world: World, answers: Mapping[str, Any], goal: str) -> _switch.Decision:
    wanted = {**world.plan, "switch_to": goal}
    return _switch.decide(wanted, answers["hosts"], answers["standbys"], VERSION)


def commit(world: World, answers: Mapping[str, Any]) -> _commit.Decision:
    return _commit.decide(world.plan, answers["hosts"], VERSION)


def undo(world: World, answers: Mapping[str, Any], confirm: str) -> _undo.Decision:
    return _undo.decide({**world.plan, "confirm": confirm}, answers["hosts"], VERSION)


def reprotect(world: World, answers: Mapping[str, Any]) -> _reprotect.Decision:
    return _reprotect.decide(world.plan, answers["hosts"], answers["images"], VERSION)


def cycle(world: World, answers: Mapping[str, Any], force: bool) -> _preflight.Decision:
    facts = _preflight.Facts(answers["hosts"], answers["images"], answers["standbys"], world.control_now(), VERSION)
    return _preflight.examine({**world.plan, "force": force}, facts)


def _state(decided: Mapping[str, Any]) -> State:
    return State.from_json(dict(decided), "the document that acme/erp shall follow")
