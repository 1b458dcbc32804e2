# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``resilient-vm takeover``: the standby host takes a VM over when its active host and the control node are both gone.

What it asks, decides and does is what the failover playbook asks, decides and does, from this host: it looks itself,
and the backup storage looks and decides when it is asked by the VM's key; or this host does, where that can't be
reached and somebody wants it so.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Callable

from . import _address, _change, _fence, _host, _takeover, _takeover_report
from ._ask_storage import Storage, Unreachable, prepared, say, user
from ._claim import Claim, request_of
from ._clock import now as utc_now
from ._errors import ResilientVmError
from ._files import read_json
from ._layout import Layout
from ._look import Target, look, way_out
from ._process import Runner, run
from ._promote import intend, withdraw
from ._standbys import standbys_of
from ._state import State
from ._take import take_over
from ._takeover import Decision, Facts
from ._unwitnessed import ALLOW
from ._virsh import Virsh

__all__ = ["Alone", "as_typed", "main"]

_PATIENCE_SECONDS = 2.0
_NO_FENCE = "its settings are in the inventory, so it can't be asked from here"


def as_typed(sentence: str) -> str:
    """A sentence of the playbook's decision as this command says it: settings are its options."""
    said = sentence.replace("-e resilient_vm_despite_findings=true", "--despite-findings")
    said = said.replace(ALLOW, "--without-backup-storage")
    said = re.sub(r"-e resilient_vm_([a-z_]+)=", lambda found: f"--{found.group(1).replace('_', '-')} ", said)
    said = said.replace("resilient_vm_confirm", "--confirm")
    return re.sub(r"\bfailover\b", "takeover", said)


@dataclass(frozen=True)
class Itself:
    """This host, where it decides by itself: the same questions, answered by its own documents."""

    layout: Layout
    host: str

    def ask(self, claim: Claim) -> dict[str, Any]:
        if claim.ask == "word":
            return {"nonce": _change.ask(self.layout, claim.epoch)}
        request = request_of(claim, self.host, claim.told, unwitnessed=True)
        return {"state": _change.change(self.layout, request, utc_now())[1].as_dict()}


@dataclass(frozen=True)
class Alone:
    """A takeover of one VM by this host."""

    layout: Layout
    host: str
    version: str
    user: str
    plan: Mapping[str, Any]
    storage: Storage
    run: Runner = run
    tell: Callable[[str], object] = say
    clock: Callable[[], float] = time.monotonic

    def go(self, confirm: str, command: str) -> None:
        """Bring the VM to run here, or say why not: ResilientVmError, with the ``command`` that goes on if there is
        one. May be run again after it was cut off anywhere."""
        begun, looked = self.clock(), utc_now()
        facts = self._facts()
        # Without the backup storage this host's own document is the only one.
        silent = not facts.hosts[self.plan["backup_storage"]]["answered"]
        state: Mapping[str, Any] = facts.hosts[self.host if silent else self.plan["backup_storage"]]["state"]
        if state and self._lives_here(state):
            return
        decision = _takeover.decide(self.plan, facts, confirm)
        evidence = {**decision.evidence, "control": f"not there: {self.host} looked in its place"}
        decision = replace(decision, evidence=evidence)
        if decision.action == "nothing":
            if not silent:
                _change.follow(self.layout, self._decided(state), self._who, utc_now())
            self.tell(decision.why)
        elif decision.action == "witness":
            raise ResilientVmError(f"{decision.why} only by the failover or the daily playbook; run that")
        elif decision.action == "confirm":
            raise ResilientVmError(self._demand(decision, command))
        else:
            self._take(decision, begun, looked)

    def _decider(self, decision: Decision) -> Storage | Itself:
        return Itself(self.layout, self.host) if decision.unwitnessed else self.storage

    @property
    def _who(self) -> str:
        return f"{self.user}@{self.host}"

    # looking

    def _facts(self) -> Facts:
        """What this host and the backup storage see and hold, asked for at once."""
        active_or_standby = [self.plan["production"], self.plan["standby"]]
        name, storage = self.layout.name, self.plan["backup_storage"]
        wanted = {name: (self.layout, self.plan["domain"])}
        guest = self.plan["guest_address"]
        with ThreadPoolExecutor(5) as several:
            answering = several.submit(self.storage.ask, Claim("look"))
            looking = several.submit(self._look)
            hearing = several.submit(_address.sighting, guest, self.plan["domain"], self.run) if guest else None
            describing = several.submit(_host.domains_of, wanted, self.run)
            holding = several.submit(standbys_of, wanted, self.run)
            seen = looking.result()
            try:
                answer = {"answered": True, **answering.result()}
            except Unreachable as error:
                self.tell(str(error))
                answer = {"answered": False, "msg": str(error)}
            own = {
                "answered": True,
                "version": self.version,
                "state": read_json(self.layout.state),
                "domain": describing.result()[name],
            }
            held = holding.result()[name]
            address = hearing.result() if hearing else {}
        looks = {
            self.host: seen,
            _takeover.CONTROL: {host: seen.get(host, "") for host in active_or_standby},
        }
        if answer["answered"]:
            looks[storage] = answer["seen"]
        # Whether both run the same version is asked by the claim itself, for what it needs.
        state = answer.get("state") or own["state"]
        fenced = [(self.host, {"power": _fence.FAILED, "told": _NO_FENCE})] if self._has_fence(state) else []
        hosts = {self.host: own, storage: answer}
        return Facts(hosts, {self.host: held}, looks, utc_now(), fenced=fenced, address=address)

    def _look(self) -> dict[str, str]:
        wanted = [Target.of(each) for each in _takeover.targets(self.plan, self.host)]
        return look([*wanted, *way_out()], self.run, _PATIENCE_SECONDS)

    def _has_fence(self, state: Mapping[str, Any] | None) -> bool:
        active = _takeover.hosts_of(self.plan, state)[0]
        return bool(self.plan["machine_settings"][active]["fence_agent"])

    def _lives_here(self, state: Mapping[str, Any]) -> bool:
        """Whether it does already, without a takeover that is to be ended. Refuses on a host that isn't to take it."""
        taker = _takeover.hosts_of(self.plan, state)[1]
        vm, active = self.plan["vm"], state["active"]
        if taker == self.host:
            return False
        if active != self.host:
            since = f"since epoch {state['epoch']} (phase {state['phase']})"
            raise ResilientVmError(f"{vm} lives on {active} {since}, and {self.host} does not stand by for it")
        running = Virsh(self.run).state(self.plan["domain"])[0]
        if running != "running":
            raise ResilientVmError(
                f"{self.host} is the active host of {vm} already, where it is {running or 'not there'}; start it with: "
                f"virsh start {self.plan['domain']}"
            )
        self.tell(f"{vm} runs on {self.host} already, which is its active host since epoch {state['epoch']}")
        return True

    # acting

    def _demand(self, decision: Decision, command: str) -> str:
        nonce = self._decider(decision).ask(Claim("word", decision.epoch))["nonce"]
        # After the new word: what an earlier run has left can't be decided by any more, but on a silent backup storage.
        if not decision.unwitnessed:
            withdraw(self.layout, decision.new_epoch)
        return _takeover.demand(asdict(decision), self.plan["vm"], nonce, command)

    def _take(self, decision: Decision, begun: float, looked: datetime) -> None:
        document = decision.document if decision.resumed else self._claimed(decision, looked)
        given = {
            "domain": self.plan["domain"],
            "host": self.host,
            "epoch": decision.new_epoch,
            "document": document,
            "who": self._who,
            "networks": self.plan["networks"],
            "guest_wait_seconds": self.plan["guest_wait_seconds"],
            "guest_address": self.plan["guest_address"],
            "despite_findings": self.plan["despite_findings"],
            "point": self.plan["takeover_point"],
            "now": None,
        }
        done = take_over(self.layout, given, dry=False)
        if self.plan["steps"]:
            untaken = f"not taken, since only the control node can: {', '.join(self.plan['steps'])}"
            done["remarks"] = [*done["remarks"], untaken]
        report = _takeover_report.report(asdict(decision), self.plan["vm"], done, self.clock() - begun)
        finish = Claim("finish", decision.new_epoch, who=self.user, told=report)
        finished = self._decided(self._decider(decision).ask(finish)["state"])
        _change.follow(self.layout, finished, self._who, utc_now(), evidence=report)
        self.tell("\n".join(report["lines"]))
        if "silent" in (done["guest"], done["port"]):
            silent = "its guest agent" if done["guest"] == "silent" else self.plan["guest_address"]
            raise ResilientVmError(
                f"{self.plan['vm']} runs on {self.host}, but {silent} has not answered within "
                f"{self.plan['guest_wait_seconds']} seconds; look at its console here"
            )

    def _claimed(self, decision: Decision, looked: datetime) -> dict[str, Any]:
        """Have it decided. From the intent on, or from the moment in which this host decides by itself, the other one
        gets no confirmation from it."""
        claim = Claim("take", decision.epoch, decision.nonce, self.user, decision.evidence)
        if decision.unwitnessed:
            return dict(self._decider(decision).ask(claim)["state"])
        intend(self.layout, decision.new_epoch, utc_now(), unasked_since=looked)
        try:
            return dict(self.storage.ask(claim)["state"])
        except ResilientVmError:
            self._take_back(decision)
            raise

    def _take_back(self, decision: Decision) -> None:
        """Only where it surely was not decided: after this no word for this epoch is good any more. Where the backup
        storage is silent, or ahead, the intent stays; run again goes on."""
        try:
            self.storage.ask(Claim("word", decision.epoch))
        except ResilientVmError:
            return
        withdraw(self.layout, decision.new_epoch)

    def _decided(self, document: Any) -> State:
        return State.from_json(document, f"the state document of {self.layout.name} on {self.plan['backup_storage']}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resilient-vm takeover",
        description="Take a VM over on this host when its active host is down and there is no control node.",
    )
    parser.add_argument("vm", metavar="CUSTOMER/VM")
    parser.add_argument("--confirm", default="", metavar="WORD", help="your word that the active host is off")
    parser.add_argument("--max-data-loss-hours", type=int, metavar="HOURS", help="start from an older generation too")
    parser.add_argument(
        "--takeover-point", metavar="ID", help="start from this generation, when the current one is damaged"
    )
    parser.add_argument(
        "--without-backup-storage",
        action="store_true",
        help="decide by itself when the backup storage can't be reached",
    )
    parser.add_argument("--despite-findings", action="store_true", help="though this host says it could not start it")
    return parser


def _prepared(given: argparse.Namespace, layout: Layout, host: str, version: str) -> Alone:
    plan, storage = prepared(layout, host, "takeover", run)
    wanted = {
        "despite_findings": given.despite_findings,
        "takeover_point": given.takeover_point,
        "without_backup_storage": given.without_backup_storage,
    }
    if given.max_data_loss_hours is not None:
        wanted["max_data_loss_hours"] = given.max_data_loss_hours
    return Alone(layout, host, version, user(), {**plan, **wanted}, storage)


def _again(given: argparse.Namespace) -> str:
    """The command as it was typed, without a word."""
    words = ["resilient-vm", "takeover", given.vm]
    if given.max_data_loss_hours is not None:
        words.append(f"--max-data-loss-hours {given.max_data_loss_hours}")
    if given.takeover_point:
        words.append(f"--takeover-point {given.takeover_point}")
    return " ".join([*words, *(["--despite-findings"] if given.despite_findings else [])])


def main(arguments: list[str], layout_of: Callable[[str], Layout], host: str, version: str) -> int:
    """Take it over; 0 when it runs here. What is refused is raised, 1; what can't be understood ends with 2."""
    given = _parser().parse_args(arguments)
    try:
        _prepared(given, layout_of(given.vm), host, version).go(given.confirm, _again(given))
    except ResilientVmError as error:
        raise ResilientVmError(as_typed(str(error))) from error
    return 0
