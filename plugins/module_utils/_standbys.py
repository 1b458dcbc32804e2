# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a standby host holds of VMs and whether it could start them, for many VMs in one call. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._abilities import Host
from ._domain import STOPPED
from ._held import information
from ._layout import Layout
from ._process import Runner

__all__ = ["standbys_of"]


def standbys_of(wanted: Mapping[str, tuple[Layout, str]], run: Runner) -> dict[str, Any]:
    """Generations and definition of each VM, and why it could not start here; ``wanted`` as in ``_host.domains_of``."""
    standbys = {name: information(layout, run, domain) for name, (layout, domain) in wanted.items()}
    host = Host(run)
    for name, held in standbys.items():
        # One that runs here is no standby.
        ready = held["current"] and held["defined"] and held["state"] in STOPPED
        held["unfit"] = host.unfit(wanted[name][0], held["uuid"]) if ready else []
        held["ready"] = bool(ready)
    # When the other host goes down, it goes with all of them.
    crowded = host.crowded()
    for held in standbys.values():
        held["crowded"] = crowded if held.pop("ready") else ""
    return standbys
