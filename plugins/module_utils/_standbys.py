# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host says of the VMs that it stands by for, and whether it could start them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import _abilities, _standby
from ._domain import STOPPED
from ._layout import Layout
from ._process import Runner

__all__ = ["standbys_of"]


def standbys_of(wanted: Mapping[str, tuple[Layout, str]], run: Runner) -> dict[str, dict[str, Any]]:
    """What it holds of each VM; ``wanted`` is {customer/vm: (layout, domain)}. Changes nothing."""
    standbys = {name: _standby.information(layout, run, domain) for name, (layout, domain) in wanted.items()}
    host = _abilities.Host(run)
    for name, held in standbys.items():
        # One that runs here is no standby.
        ready = held["current"] and held["defined"] and held["state"] in STOPPED
        held["unfit"] = host.unfit(wanted[name][0], held["uuid"]) if ready else []
    return standbys
