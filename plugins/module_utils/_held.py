# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host holds of a VM that it stands by for. Changes nothing."""

from __future__ import annotations

import os
from typing import Any

from ._files import read_json
from ._images import incoming_of
from ._layout import Layout
from ._mended import mended
from ._process import Runner
from ._store import Store
from ._virsh import Virsh

__all__ = ["current_id", "information", "is_former"]


def current_id(layout: Layout) -> str | None:
    """Id of the generation that ``current`` names, or None."""
    try:
        return os.path.basename(os.readlink(layout.current))
    except FileNotFoundError:
        return None


def is_former(layout: Layout, run: Runner, uuid: str | None) -> bool:
    """Whether a host that is not the active one has the VM as it once ran there, and not as a standby has it.

    A standby's definition names disks that only a takeover makes.
    """
    if os.path.lexists(layout.running):
        return True
    virsh = Virsh(run)
    if not uuid or not virsh.state(uuid)[0]:
        return False
    # Of a volume whose pool is away, no path is known.
    disks = [disk for disk in virsh.inactive(uuid).disks if disk.source or disk.type == "volume"]
    return any(os.path.dirname(disk.source) != layout.running for disk in disks)


def information(layout: Layout, run: Runner, domain: str) -> dict[str, Any]:
    """What this host holds of a VM it stands by for. Changes nothing."""
    images = Store(layout, "generations").images()
    summaries = {image.id: image.summary() for image in images}
    now = current_id(layout)
    virsh = Virsh(run)
    uuid = virsh.domains().get(domain)
    problems = [image.problem for image in images if image.problem]
    if now is not None and now not in summaries:
        problems.append(f"{layout.current} names generation {now}, which is not there; copy the newest image here")
    return {
        "current": summaries.get(now) if now else None,
        "generations": list(summaries.values()),
        "incoming": incoming_of(layout),
        "defined": uuid is not None,
        "uuid": uuid,
        "state": virsh.state(uuid)[0] if uuid else None,
        # Asked for only while it matters: it takes two more processes for each VM.
        "former": (read_json(layout.state) or {}).get("phase") not in (None, "protected")
        and is_former(layout, run, uuid),
        "mended": mended(layout),
        "problems": problems,
    }
