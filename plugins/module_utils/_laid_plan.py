# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory says of a VM as far as its machines need it without the control node: laid there by site, read by
root."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ._errors import ResilientVmError
from ._files import read_json
from ._layout import Layout

__all__ = ["LENDING", "laid", "read"]

_SCHEMA = 1
_NAMES = (
    "customer",
    "vm",
    "domain",
    "production",
    "standby",
    "backup_storage",
    "machines",
    "addresses",
    "networks",
    "guest_address",
    "guest_wait_seconds",
    "max_data_loss_hours",
    "max_clock_skew_seconds",
    "prefer",
)
# What was added later: a takeover goes without them.
LENDING = ("lend_to", "timezone", "transfer_bytes_per_second")


def laid(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a plan that is kept on the machines. Of fence agents that there is one: their secrets stay away. Of
    the owner's steps their names: they are taken from the control node."""
    kept = ("fence_agent", "witnesses", "reserve_bytes")
    settings = {name: {key: each[key] for key in kept} for name, each in plan["machine_settings"].items()}
    steps = [step["name"] for step in plan["takeover_steps"]]
    return {
        "schema": _SCHEMA,
        **{name: plan[name] for name in (*_NAMES, *LENDING)},
        "machine_settings": settings,
        "steps": steps,
    }


def read(layout: Layout, more: Iterable[str] = ()) -> dict[str, Any]:
    """That part, on a machine, with these names more than a takeover needs. Raises ResilientVmError when there is none,
    or one of another version."""
    found = read_json(layout.plan)
    names = {*_NAMES, "machine_settings", "steps", *more}
    if not isinstance(found, dict) or found.get("schema") != _SCHEMA or not names <= set(found):
        said = "missing" if found is None else "not of this version"
        raise ResilientVmError(f"{layout.plan} is {said}; run the site playbook")
    return found
