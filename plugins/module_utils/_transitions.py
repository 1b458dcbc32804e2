# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every step from one phase of a VM to another, as one table. Pure; documentation is generated from it.

The table says what may follow what, and which steps change the active host. Who decides that a step is due, and on
which evidence, is not its business.
"""

from __future__ import annotations

from dataclasses import dataclass

from ._errors import ResilientVmError

__all__ = ["CLOSED", "PHASES", "TABLE", "Transition", "named"]

# What each phase says of the VM.
PHASES = {
    "unprotected": "nobody looks after it",
    "protected": "it lives on its active host, the other one stands by",
    "switching": "it is shut down on its active host, to be started on the other one",
    "failing_over": "the other host has become the active one, and is about to start it",
    "failed_over": "it lives where it was taken over; the other host's disks are of an older epoch",
    "reprotecting": "the other host is being made its standby again",
    "restoring": "its disks are being replaced by those of an older image",
    "split_brain": "it may have run on both hosts; a person has to say which one counts",
    "maintenance": "its owner works on it by hand",
}

# In these phases no host starts the VM, the active one neither.
CLOSED = ("switching", "restoring", "split_brain")

_ANYWHERE = tuple(phase for phase in PHASES if phase != "unprotected")


@dataclass(frozen=True)
class Transition:
    """One step. ``swaps``: the other host becomes the active one. ``renews``: the epoch rises by one."""

    name: str
    before: tuple[str, ...]
    after: str
    what: str
    swaps: bool = False
    # Also without a swap: what the other host did at the old epoch must never count any more.
    renews: bool = False

    @property
    def new_epoch(self) -> bool:
        return self.swaps or self.renews


TABLE = (
    Transition("protect", ("unprotected",), "protected", "the site playbook registers it"),
    Transition("unprotect", ("protected", "failed_over"), "unprotected", "the unprotect playbook forgets it"),
    Transition("begin_switch", ("protected",), "switching", "a planned change of hosts begins"),
    # Nobody stands by before the host that it left holds a generation.
    Transition("switch", ("switching",), "reprotecting", "the last image is on the other host", swaps=True),
    Transition("give_up_switch", ("switching",), "protected", "it stays where it was"),
    Transition(
        "fail_over", ("protected", "switching", "restoring"), "failing_over", "its active host is down", swaps=True
    ),
    Transition("finish_failover", ("failing_over",), "failed_over", "it runs on the other host"),
    # As after a switch, nobody stands by yet.
    Transition("undo_failover", ("failed_over",), "reprotecting", "back to the host it was taken from", swaps=True),
    Transition("begin_reprotect", ("failed_over",), "reprotecting", "the returned host is made a standby"),
    Transition("finish_reprotect", ("reprotecting",), "protected", "the returned host holds a generation"),
    Transition("begin_restore", ("protected",), "restoring", "an older image takes the place of its disks"),
    Transition("finish_restore", ("restoring",), "protected", "its disks are those of that image, or the old ones"),
    Transition("find_split_brain", _ANYWHERE, "split_brain", "it is found running on two hosts"),
    Transition("resolve_here", ("split_brain",), "failed_over", "the active host's disks count", renews=True),
    Transition("resolve_there", ("split_brain",), "failed_over", "the other host's disks count", swaps=True),
    Transition("begin_maintenance", _ANYWHERE, "maintenance", "its owner takes it in hand"),
    Transition("end_maintenance", ("maintenance",), "protected", "the standby is as good as before"),
    Transition("end_maintenance_alone", ("maintenance",), "failed_over", "the standby has to be made anew"),
)


def named(name: str) -> Transition:
    """The transition of that name."""
    for transition in TABLE:
        if transition.name == name:
            return transition
    raise ResilientVmError(f"there is no transition {name!r}; it is one of {', '.join(each.name for each in TABLE)}")
