# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state document of a VM: who it is, which host is its active one, since which epoch. Pure decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from ._clock import iso
from ._errors import ResilientVmError
from ._transitions import PHASES, Transition

__all__ = ["INTENDED", "SCHEMA", "Inventory", "State", "followed", "settle", "stepped"]

SCHEMA = 1
# Said in the place of a phase by a host that is about to have the backup storage decide that it takes the VM over.
INTENDED = "intended"
_KINDS: dict[str, tuple[type, ...]] = {
    "epoch": (int,),
    "uuid": (str, type(None)),
    "max_age_hours": (int, float, type(None)),
    "alarm_command": (str, type(None)),
    "unwitnessed": (str, type(None)),
}


@dataclass(frozen=True)
class State:
    """``state.json``, the same on all three machines; the watchdog's two fields have a value on C only."""

    customer: str
    vm: str
    domain: str
    uuid: str | None
    epoch: int
    active: str
    standby: str
    phase: str
    changed: str
    why: str
    max_age_hours: float | None = None
    alarm_command: str | None = None
    # When its active host took it over by itself, without the backup storage, which has not been told of it yet.
    unwitnessed: str | None = None

    @property
    def name(self) -> str:
        return f"{self.customer}/{self.vm}"

    def as_dict(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **{field.name: getattr(self, field.name) for field in fields(self)}}

    @classmethod
    def from_json(cls, document: Any, where: str) -> State:
        """The document as read from ``where``. Raises ResilientVmError when it is not one we understand."""
        if not isinstance(document, dict) or not isinstance(document.get("schema"), int):
            raise ResilientVmError(f"{where} is not a state document; move it aside and run the site playbook")
        if document["schema"] != SCHEMA:
            raise ResilientVmError(
                f"{where} has schema {document['schema']}, this version understands {SCHEMA}; "
                "install the collection's newer version on every machine"
            )
        values: dict[str, Any] = {field.name: document.get(field.name) for field in fields(cls)}
        for name, value in values.items():
            if not isinstance(value, _KINDS.get(name, (str,))) or isinstance(value, bool):
                raise ResilientVmError(
                    f"{where} is damaged: {name} is {value!r}; move it aside and run the site playbook"
                )
        state = cls(**values)
        if state.phase not in PHASES or state.epoch < 1 or state.active == state.standby:
            raise ResilientVmError(
                f"{where} contradicts itself (phase {state.phase}, epoch {state.epoch}, "
                f"active {state.active}, standby {state.standby}); move it aside and run the site playbook"
            )
        return state


@dataclass(frozen=True)
class Inventory:
    """What the inventory (and the domain itself) says about a VM."""

    customer: str
    vm: str
    domain: str
    production: str
    standby: str
    uuid: str | None = None
    max_age_hours: float | None = None
    alarm_command: str | None = None

    @property
    def name(self) -> str:
        return f"{self.customer}/{self.vm}"


def settle(
    wanted: Inventory,
    machine: str,
    own: State | None,
    others: Mapping[str, State],
    now: datetime,
    silent: Sequence[str] = (),
) -> State:
    """The document ``machine`` should hold, given what it holds and what other machines hold.

    A first protection starts at epoch 1 on the production host. Later only what the inventory owns
    follows the inventory (domain name, the host that isn't active, the watchdog's fields); epoch,
    active host and phase never do. A backup storage in the place of a lost one needs the word of both hosts, and
    ``silent`` are those that gave none. Raises ResilientVmError when documents or inventory disagree.
    """
    known = {**others, **({machine: own} if own else {})}
    _check_identity(wanted, known)
    lead = max(known, key=lambda name: known[name].epoch, default=None)
    if lead is None:
        return State(
            customer=wanted.customer,
            vm=wanted.vm,
            domain=wanted.domain,
            uuid=wanted.uuid,
            epoch=1,
            active=wanted.production,
            standby=wanted.standby,
            phase="protected",
            changed=iso(now),
            why="site",
            max_age_hours=wanted.max_age_hours,
            alarm_command=wanted.alarm_command,
        )
    _check_agreement(wanted, machine, own, known, lead)
    if own is None and silent:
        # Of the two, the silent one may know a newer epoch; an older one decided here would let both run it.
        gone = silent[0]
        raise ResilientVmError(
            f"{machine} knows nothing of {wanted.name}, {lead} says {known[lead].active} is its active host, and "
            f"{gone} can't be asked whether that is still so; bring {gone} back, or, when it is gone for good, add "
            f'-e \'{{"resilient_vm_lost_hosts": ["{gone}"]}}\''
        )
    found = own or known[lead]
    hosts = {wanted.production, wanted.standby}
    if found.active not in hosts:
        raise ResilientVmError(
            f"the active host of {wanted.name} is {found.active} (epoch {found.epoch}), but the inventory "
            f"names {wanted.production} and {wanted.standby}; name {found.active} as one of them"
        )
    settled = replace(
        found,
        domain=wanted.domain,
        uuid=found.uuid or wanted.uuid or next((state.uuid for state in known.values() if state.uuid), None),
        standby=(hosts - {found.active}).pop(),
        max_age_hours=wanted.max_age_hours,
        alarm_command=wanted.alarm_command,
        # Whoever learns of it is a witness.
        unwitnessed=own.unwitnessed if own else None,
    )
    return settled if settled == own else replace(settled, changed=iso(now), why="site")


def stepped(state: State, step: Transition, epoch: int, now: datetime, why: str, unwitnessed: bool = False) -> State:
    """The document after a step that was decided on at ``epoch``. Raises ResilientVmError when it is not allowed.

    ``unwitnessed``: it is a host's own step, since the backup storage can't be asked.
    """
    if epoch != state.epoch:
        raise ResilientVmError(
            f"{state.name} is at epoch {state.epoch} with {state.active} active, and {step.name} was decided on at "
            f"epoch {epoch}: somebody else was faster; look at its status and decide anew"
        )
    if state.phase not in step.before:
        raise ResilientVmError(
            f"{state.name} is in phase {state.phase}, from which there is no {step.name} (only from "
            f"{' or '.join(step.before)}); look at its status"
        )
    active, standby = (state.standby, state.active) if step.swaps else (state.active, state.standby)
    return replace(
        state,
        phase=step.after,
        epoch=state.epoch + step.new_epoch,
        active=active,
        standby=standby,
        changed=iso(now),
        why=why,
        unwitnessed=(state.unwitnessed or iso(now)) if unwitnessed else None,
    )


def followed(own: State, decided: State) -> State:
    """A host's document after it learnt what the backup storage decided. Raises when it would lose an epoch."""
    same = (own.customer, own.vm) == (decided.customer, decided.vm) and own.uuid in (None, decided.uuid)
    if not same:
        raise ResilientVmError(
            f"the state document of {decided.name} ({decided.uuid}) is not that of {own.name} ({own.uuid}); "
            "find out which VM is meant"
        )
    if decided.epoch < own.epoch or (decided.epoch == own.epoch and decided.active != own.active):
        raise ResilientVmError(
            f"{own.name} is at epoch {own.epoch} with {own.active} active here, and is told of epoch {decided.epoch} "
            f"with {decided.active} active; find out where it runs before anything is changed"
        )
    return replace(decided, max_age_hours=own.max_age_hours, alarm_command=own.alarm_command)


def _check_identity(wanted: Inventory, known: Mapping[str, State]) -> None:
    for name, state in known.items():
        if (state.customer, state.vm) != (wanted.customer, wanted.vm):
            raise ResilientVmError(
                f"the state document for {wanted.name} on {name} is {state.name}'s; move it aside and run again"
            )
    uuids = {name: state.uuid for name, state in known.items() if state.uuid}
    if wanted.uuid:
        uuids[f"domain {wanted.domain}"] = wanted.uuid
    if len(set(uuids.values())) > 1:
        said = ", ".join(f"{name}: {uuid}" for name, uuid in sorted(uuids.items()))
        raise ResilientVmError(
            f"{wanted.name} is protected under one UUID and found under another ({said}); "
            "if it is a new VM, run the unprotect playbook for the old one first"
        )


def _check_agreement(wanted: Inventory, machine: str, own: State | None, known: Mapping[str, State], lead: str) -> None:
    top = known[lead]
    for name, state in known.items():
        if state.epoch == top.epoch and state.active != top.active:
            raise ResilientVmError(
                f"{lead} says {top.active} is the active host of {wanted.name} at epoch {top.epoch}, "
                f"{name} says {state.active}; stop the VM on the wrong one and run the resolve playbook"
            )
    if own is not None and own.epoch < top.epoch:
        raise ResilientVmError(
            f"{machine} holds epoch {own.epoch} of {wanted.name}, {lead} holds epoch {top.epoch} with "
            f"{top.active} active: the VM moved while {machine} was away; its document is left as it is"
        )
