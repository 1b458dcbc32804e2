# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the backup storage knows of a VM, for many VMs in one call. Changes nothing."""

from __future__ import annotations

import os
from typing import Any

from ._drill_record import drills_of
from ._files import read_json
from ._hops import COPIES
from ._layout import Layout
from ._manifest import IMAGE_ID
from ._mended import mended
from ._process import Runner
from ._store import Store
from ._transfer import Transfer

__all__ = ["images_of", "incoming_of"]


def images_of(layout: Layout, run: Runner) -> dict[str, Any]:
    """Images oldest first, the newest complete one, what is on its way, and sentences about what is wrong."""
    images = Store(layout).images()
    complete = [image for image in images if image.complete]
    transfers = [Transfer(layout, hop, run) for hop in COPIES]
    running = [found for found in (transfer.running() for transfer in transfers) if found is not None]
    return {
        "laid_out": os.path.isdir(layout.images),
        "images": [image.summary() for image in images],
        "newest": complete[-1].summary() if complete else None,
        "mended": mended(layout),
        "drills": drills_of(layout, {image.id for image in images}),
        "incoming": incoming_of(layout),
        "transfers": running,
        "last_transfers": {hop: transfer.last() for hop, transfer in zip(COPIES, transfers)},
        "problems": [image.problem for image in images if image.problem]
        + [
            f"image {image.id} of {layout.name} is damaged (disk {mark['disk']} at byte {mark['offset_bytes']}, "
            f"found {mark['found']}); it is not used any more"
            for image in images
            for mark in image.damaged[:1]
        ],
        "state": read_json(layout.state),
    }


def incoming_of(layout: Layout) -> dict[str, Any] | None:
    """The image that is being received, or was when its transfer was interrupted."""
    if not os.path.isdir(layout.incoming):
        return None
    names = sorted(name for name in os.listdir(layout.incoming) if IMAGE_ID.fullmatch(name))
    if not names:
        return None
    folder = os.path.join(layout.incoming, names[-1])
    blocks = sum(os.stat(os.path.join(folder, name)).st_blocks for name in os.listdir(folder))
    return {"id": names[-1], "bytes_allocated": blocks * 512}
