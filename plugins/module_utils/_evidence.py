# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the active host down? What was seen, from where, and what an unplanned takeover may do about it. Pure.

Three machines look: the control node, the standby and the backup storage. None counts for all: whoever is cut off
sees everybody else down.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Decision", "Evidence", "decide"]

# What a takeover does next. "refuse": nothing; "confirm": ask the operator; "fence": power the host off, look, decide
# again; "take": go on.
ACTIONS = ("refuse", "confirm", "fence", "take")
# The host's power, as a fence agent says: not asked, asked without an answer, still on, proven off.
POWER = ("unknown", "failed", "on", "off")


@dataclass(frozen=True)
class Evidence:
    """What was seen. ``seen_by_*``: that machine reaches the active host; None: it could not be asked itself."""

    vm: str
    active: str
    standby: str
    backup_storage: str
    # The guest answers at its own address, or the active host's libvirt says that it runs.
    vm_answers: bool
    seen_by_control: bool
    seen_by_standby: bool | None
    seen_by_backup_storage: bool | None
    standby_sees_backup_storage: bool
    fencing: bool
    power: str
    # The operator's statement, of this epoch and nonce, that the host is off.
    confirmed: bool
    # Who asked the fence agent, and what it said.
    fenced: str = ""
    # Whether the standby may decide by itself while the backup storage is silent, and whether it sees anything else by
    # which it knows that it is not the one that is cut off.
    without_backup_storage: bool = False
    standby_sees_witness: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Decision:
    """What to do, and one sentence why."""

    action: str
    why: str


def decide(seen: Evidence) -> Decision:
    """The first row of the table that holds."""
    if seen.seen_by_standby is None:
        return Decision("refuse", f"standby host {seen.standby} can't be reached, and nothing else can run {seen.vm}")
    alone = seen.seen_by_backup_storage is None
    if alone and not seen.without_backup_storage:
        return Decision(
            "refuse", f"backup storage {seen.backup_storage} can't be reached, and it has to decide; bring it back"
        )
    refusal = _still_there(seen)
    if refusal:
        # Also when its fence agent says that it is off: agents are configured for the wrong machine.
        return Decision("refuse", refusal)
    if alone:
        refusal = _isolated(seen)
        if refusal:
            return Decision("refuse", refusal)
    elif not seen.standby_sees_backup_storage:
        return Decision(
            "refuse", f"{seen.standby} can't reach {seen.backup_storage}: it may be {seen.standby} that is cut off"
        )
    if seen.power == "off":
        return Decision("take", f"nobody sees {seen.active}, and it is off ({seen.fenced})")
    if seen.power == "on":
        return Decision(
            "refuse",
            f"{seen.active} could not be powered off ({seen.fenced}); switch it off by hand, or run it again with "
            f"-e resilient_vm_fence_agent= if that is not {seen.active}",
        )
    if seen.fencing and seen.power == "unknown":
        return Decision("fence", f"nobody sees {seen.active}; it is powered off to be sure")
    tried = f", its fence agent can't say that it is off ({seen.fenced})" if seen.power == "failed" else ""
    if seen.confirmed:
        return Decision("take", f"nobody sees {seen.active}{tried}, and the operator confirmed that it is off")
    return Decision("confirm", f"nobody sees {seen.active}{tried}, but only somebody who knows can say that it is off")


def _isolated(seen: Evidence) -> str:
    if seen.standby_sees_backup_storage:
        return (
            f"{seen.standby} still reaches {seen.backup_storage}, which decides: only the way to it from here is cut; "
            f"mend that, or run resilient-vm takeover on {seen.standby}"
        )
    if not seen.standby_sees_witness:
        return (
            f"{seen.standby} can't reach {seen.backup_storage}, nor its gateway or another witness: it may be "
            f"{seen.standby} that is cut off; set resilient_vm_witnesses for {seen.standby} to what it has to see"
        )
    return ""


def _still_there(seen: Evidence) -> str:
    if seen.vm_answers:
        return f"{seen.vm} runs on {seen.active}; shut it down there first"
    if seen.seen_by_control:
        return f"{seen.active} can be reached; shut {seen.vm} down there, or start it there"
    others = {seen.standby: seen.seen_by_standby, seen.backup_storage: seen.seen_by_backup_storage}
    sees = [name for name, does in others.items() if does]
    if sees:
        return f"{' and '.join(sees)} still reach {seen.active}: only the way to it from here is cut"
    return ""
