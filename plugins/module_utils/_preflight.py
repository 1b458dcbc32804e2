# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tonight's run does for one VM, or why it does nothing: from the plan and what the machines said. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from . import _clock, _human, _unwitnessed
from ._domain import STOPPED
from ._due import base, image_due
from ._errors import ResilientVmError
from ._standing import standing
from ._untold import untold

__all__ = ["Decision", "Facts", "active_host", "examine", "standby_host"]

_SITE = "run the site playbook"
# Phases in which there is a standby to bring up to date.
_STANDBY_PHASES = ("protected", "switching", "reprotecting")


@dataclass(frozen=True)
class Facts:
    """What the machines said of this VM, each by inventory name: the answers of ``_questions.told_of``."""

    hosts: Mapping[str, Mapping[str, Any]]
    images: Mapping[str, Mapping[str, Any]]
    standbys: Mapping[str, Mapping[str, Any]]
    # The control node's: its clock, and the mover that the site playbook would install now.
    now: datetime
    version: str = ""


@dataclass(frozen=True)
class Decision:
    """What is to be done. ``later`` are sentences that turn the run red at its end without stopping it."""

    take_image: bool
    why: str
    active: str
    standby: str
    epoch: int
    uuid: str | None
    # Of the newest image whatever its state, and of the newest whole one.
    newest_id: str | None
    newest_complete_id: str | None
    base: dict[str, Any] | None
    adopt_id: str | None
    keep_checkpoint: str
    close_leftovers: bool
    refresh_standby: bool
    # It becomes the standby by that, for the first time since the VM left it.
    reprotects: bool
    standby_generation: str | None
    prune: bool
    # What the backup storage missed, and is told before anything else; all the rest is decided as if it knew.
    late: dict[str, Any] | None = None
    # Hosts that hold the VM in another phase than the backup storage does.
    untold: list[str] = field(default_factory=list)
    # Where the image goes, with the room there, for the snapshot's estimate.
    destinations: list[dict[str, Any]] = field(default_factory=list)
    later: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def active_host(plan: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]]) -> str:
    """The host that may run the VM, by the state document of the highest epoch, else by the inventory."""
    known = [state for state in (fact.get("state") for fact in hosts.values()) if state]
    if not known:
        return str(plan["production"])
    return str(max(known, key=lambda state: state["epoch"])["active"])


def standby_host(plan: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]]) -> str:
    """The other one of the two hosts."""
    return str(plan["standby"] if active_host(plan, hosts) == plan["production"] else plan["production"])


def examine(plan: Mapping[str, Any], facts: Facts) -> Decision:
    """The decision for one VM.

    Raises ResilientVmError, one sentence a line (``problems`` has the list), when nothing may be done.
    """
    stored = facts.images.get(plan["backup_storage"]) or {}
    late, hosts = _unwitnessed.caught_up(plan, facts.hosts, stored.get("images") or [], facts.standbys)
    facts = replace(facts, hosts=hosts)
    examination = _Examination(plan, facts, late)
    decision = examination.decide()
    if examination.problems:
        raise ResilientVmError("\n".join(examination.problems), problems=examination.problems)
    return decision


class _Examination:
    """One VM's facts under the questions of a preflight. Every check appends to ``problems`` or ``later``."""

    def __init__(self, plan: Mapping[str, Any], facts: Facts, late: _unwitnessed.Late | None = None) -> None:
        self.plan = plan
        self.late = late
        self.facts = facts
        self.vm = plan["vm"]
        self.storage_host = plan["backup_storage"]
        self.active = active_host(plan, facts.hosts)
        self.standby = standby_host(plan, facts.hosts)
        self.stored = facts.images.get(self.storage_host) or {}
        self.held = facts.standbys.get(self.standby) or {}
        # Whether that host is still to be made ready to stand by.
        self.former = False
        self.problems: list[str] = []
        self.later: list[str] = []
        self.notes = _unwitnessed.remark(late, plan["backup_storage"])
        # Without the backup storage nothing at all can be done; without one of the others, a part.
        self.usable = {name: self._usable(name) for name in (self.active, self.standby, self.storage_host)}

    def decide(self) -> Decision:
        if self.usable[self.storage_host]:
            self._check_storage()
            self._check_states()
            self._check_clocks()
        if self.usable[self.active]:
            self._check_active_host()
        if self.usable[self.standby]:
            self._check_standby_host()
        newest = self.stored.get("newest")
        newest_id = max((image["id"] for image in self.stored.get("images") or []), default=None)
        adopt_id = self._open_snapshot_to_adopt(newest_id)
        state = self._state(self.storage_host) or {}
        former = newest is not None and newest["epoch"] < (state.get("epoch") or 1)
        due, why = image_due(newest["id"] if newest else None, self.facts.now, self.plan, former)
        if adopt_id:
            due, why = True, f"snapshot {adopt_id} of an earlier run is still open"
        elif due:
            self._check_order(newest_id)
        take = due and self.usable[self.active]
        if due and not take:
            why = f"one is due ({why}), but {self.active} is out of reach"
        current = (self.held.get("current") or {}).get("id") or self._last_sent()
        reprotects = state.get("phase") == "reprotecting"
        standby = self.usable[self.standby] and state.get("phase") in _STANDBY_PHASES and not self.former
        return Decision(
            take_image=take,
            why=why,
            active=self.active,
            standby=self.standby,
            epoch=state.get("epoch") or 1,
            uuid=state.get("uuid"),
            newest_id=newest_id,
            newest_complete_id=newest["id"] if newest else None,
            base=base(newest, newest_id, state.get("epoch")),
            adopt_id=adopt_id,
            keep_checkpoint=(newest or {}).get("checkpoint") or "",
            close_leftovers=self.usable[self.active] and not take and self._leftovers(newest),
            refresh_standby=standby and (take or reprotects or self._standby_behind(newest)),
            reprotects=standby and reprotects,
            standby_generation=current,
            # After an image, and for what a killed run left; never when this night's image can't be had.
            prune=take or (newest is not None and not due),
            late=asdict(self.late) if self.late else None,
            untold=untold(state, {name: self._state(name) for name in (self.active, self.standby)}),
            destinations=[
                {
                    "name": name,
                    "free_bytes": self.facts.hosts[name]["root"]["free_bytes"],
                    "reserve_bytes": self.plan["machine_settings"][name]["reserve_bytes"],
                }
                for name in (self.storage_host, self.standby)
                if take and self.usable[name] and (name == self.storage_host or standby)
            ],
            later=self.later,
            notes=self.notes,
        )

    # what every machine must have

    def _usable(self, name: str) -> bool:
        """Whether a machine answered and is laid out; if not, the reason is among the problems (or ``later``)."""
        fact = self.facts.hosts.get(name) or {}
        told = self.problems if name == self.storage_host else self.later
        answers = [fact]
        if name == self.storage_host:
            answers.append(self.stored)
        if name == self.standby:
            answers.append(self.held)
        silent = next((answer for answer in answers if not answer.get("answered")), None)
        if silent is not None:
            unasked = f"machine {name} was not asked about {self.vm}; run the whole playbook"
            told.append(silent.get("msg") or unasked)
            return False
        self._check_machine(name, fact)
        return True

    def _check_machine(self, name: str, fact: Mapping[str, Any]) -> None:
        root = fact["root"]
        if not root["exists"]:
            self.problems.append(f"{root['path']} is not there on {name}; {_SITE}")
        elif not root["reflink"] and not self.plan["machine_settings"][name]["allow_full_copies"]:
            self.problems.append(
                f"{root['path']} on {name} is on {root['filesystem']}, where files can't share blocks; put it on XFS "
                f"(made with reflink=1) or Btrfs, or set resilient_vm_allow_full_copies for {name}"
            )
        if self.plan["customer"] in (fact.get("account_missing") or []):
            self.problems.append(f"account rvm-{self.plan['customer']} is not there on {name}; {_SITE}")
        version = fact["version"]
        if version is None:
            self.problems.append(f"the mover is not installed on {name}; {_SITE}")
        elif self.facts.version and version.split()[0] != self.facts.version:
            self.problems.append(
                f"the mover on {name} is {version} and this collection's is {self.facts.version}; {_SITE}"
            )

    def _state(self, name: str) -> Mapping[str, Any] | None:
        return (self.facts.hosts.get(name) or {}).get("state")

    def _check_states(self) -> None:
        found = standing(self.plan, self.facts.hosts, self.active, self.standby, bool(self.held.get("former")))
        self.problems += found.problems
        self.later += found.later
        self.former = found.former
        if self.active not in (self.plan["production"], self.plan["standby"]):
            self.problems.append(
                f"the active host of {self.vm} is {self.active}, which the inventory doesn't name for it; "
                "correct resilient_vm_production_host or resilient_vm_standby_host"
            )

    def _check_clocks(self) -> None:
        limit = self.plan["max_clock_skew_seconds"]
        ahead = {"the control node": 0.0}
        for name in (self.active, self.storage_host):
            if self.usable[name]:
                ahead[name] = _clock.seconds_ahead(self.facts.hosts[name], self.plan["nows"].get("localhost"))
        if max(ahead.values()) - min(ahead.values()) <= limit:
            return
        told = ", ".join(
            f"{name} {_human.clock_difference(seconds)}" for name, seconds in ahead.items() if name in self.usable
        )
        self.problems.append(
            f"clocks disagree by more than {limit} seconds (against the control node: {told}), so no image is taken "
            "and nothing erased; set the clocks (NTP), or raise resilient_vm_max_clock_skew_seconds"
        )

    def _check_order(self, newest_id: str | None) -> None:
        """An image taken now must be the newest one. Small differences of clocks are left to the snapshot itself."""
        if newest_id is None:
            return
        ahead = _clock.instant(newest_id) - self.facts.now
        if ahead > timedelta(seconds=self.plan["max_clock_skew_seconds"]):
            self.problems.append(
                f"image {newest_id} of {self.vm} on {self.storage_host} is from the future (it is "
                f"{_clock.iso(self.facts.now)}); set the clocks, or erase it if it was taken under a wrong one"
            )

    # the active host

    def _check_active_host(self) -> None:
        domain = self.facts.hosts[self.active].get("domain") or {}
        name = self.plan["domain"]
        if not domain.get("exists"):
            self.problems.append(
                f"{self.active} has no libvirt domain {name}, which {self.vm} is said to be; "
                "correct resilient_vm_domain or resilient_vm_production_host"
            )
            return
        wanted = (self._state(self.storage_host) or {}).get("uuid")
        if wanted and domain["uuid"] != wanted:
            self.problems.append(
                f"domain {name} on {self.active} has the UUID {domain['uuid']}, "
                f"but {self.vm} is protected as {wanted}; "
                "correct resilient_vm_domain, or run the unprotect playbook for the old one first"
            )
        if domain.get("backup_job") == "foreign":
            self.problems.append(
                f"a backup job that isn't ours is running on domain {name} on {self.active}; "
                "it is left alone: wait for it to end or end it (virsh domjobabort)"
            )
        refused = [disk for disk in domain.get("refused") or [] if disk["target"] not in self.plan["exclude_disks"]]
        for disk in refused:
            self.problems.append(
                f"disk {disk['target']} of {self.vm} can't be imaged ({disk['reason']}); "
                f"take it out of the VM or name it in resilient_vm_exclude_disks"
            )
        if domain.get("foreign_checkpoints"):
            self.notes.append(
                f"checkpoints that aren't ours are left alone: {', '.join(domain['foreign_checkpoints'])}"
            )
        if self.plan["exclude_disks"]:
            self.notes.append(f"excluded disks: {', '.join(self.plan['exclude_disks'])}")

    def _open_snapshot_to_adopt(self, newest_id: str | None) -> str | None:
        found = self._open_snapshot()
        if not found or not found.get("valid") or (newest_id is not None and found["id"] <= newest_id):
            return None
        return str(found["id"])

    def _open_snapshot(self) -> Mapping[str, Any] | None:
        return ((self.facts.hosts.get(self.active) or {}).get("domain") or {}).get("open_snapshot")

    def _leftovers(self, newest: Mapping[str, Any] | None) -> bool:
        """Whether the active host has something of an earlier run to clear away."""
        domain = (self.facts.hosts.get(self.active) or {}).get("domain") or {}
        if domain.get("open_snapshot") or domain.get("backup_job") == "ours":
            return True
        wanted = (newest or {}).get("checkpoint")
        return any(name != wanted for name in domain.get("own_checkpoints") or []) and domain.get("state") == "running"

    # the backup storage

    def _check_storage(self) -> None:
        if not self.stored.get("laid_out") and self._state(self.storage_host):
            self.problems.append(f"{self.vm} is not laid out on {self.storage_host}; {_SITE}")
        for image in self.stored.get("images") or []:
            if image["problem"]:
                self.problems.append(f"on {self.storage_host}: {image['problem']}")
            elif image["damaged"]:
                disks = ", ".join(sorted({mark["disk"] for mark in image["damaged"]}))
                self.notes.append(f"image {image['id']} is damaged (disk {disks}) and not used any more")

    def _last_sent(self) -> str | None:
        """What the backup storage last brought to the standby, for a night on which that can't be asked."""
        last = (self.stored.get("last_transfers") or {}).get("refresh") or {}
        return last.get("image_id") if last.get("published") else None

    # the standby host

    def _check_standby_host(self) -> None:
        domain = self.facts.hosts[self.standby].get("domain") or {}
        uuid = (self._state(self.storage_host) or {}).get("uuid") or (
            (self.facts.hosts[self.active].get("domain") or {}).get("uuid") if self.usable[self.active] else None
        )
        name = self.plan["domain"]
        if domain.get("exists"):
            if uuid and domain["uuid"] != uuid:
                self.problems.append(
                    f"domain {name} on {self.standby} has the UUID {domain['uuid']}, "
                    f"another machine than {self.vm} ({uuid}); rename that one, or set resilient_vm_domain"
                )
            elif domain["state"] not in STOPPED:
                self.problems.append(
                    f"{self.vm} is {domain['state']} on {self.standby}, its standby host; shut it down there, "
                    "or find out which of the two is the right one"
                )
        for sentence in self.held.get("problems") or []:
            self.problems.append(f"on {self.standby}: {sentence}")
        current = self.held.get("current")
        if current and self.usable[self.storage_host] and not self.stored.get("images"):
            self.notes.append(f"{self.storage_host} has lost its images, of which {current['id']} is on {self.standby}")

    def _standby_behind(self, newest: Mapping[str, Any] | None) -> bool:
        """Whether the standby lacks the newest image. One it has and the backup storage lost is not taken from it."""
        if newest is None:
            return False
        current = self.held.get("current")
        if current is None or not self.held.get("defined"):
            return True
        return (current["epoch"], current["id"]) < (newest["epoch"], newest["id"])
