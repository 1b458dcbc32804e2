# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the snapshot of a VM that is open is still good. Apart from what opens one, for those who only ask."""

from __future__ import annotations

import time
from typing import Any, Callable

from ._files import read_json
from ._layout import Layout
from ._virsh import Job

__all__ = ["open_document"]

_FRESH_SECONDS = 15.0


def open_document(
    layout: Layout, job: Job | None, clock: Callable[[], float] = time.monotonic
) -> dict[str, Any] | None:
    """The document of the snapshot that is open and still good, or None."""
    document, verdict = read_json(layout.snapshot), read_json(layout.watch)
    if document is None or verdict is None or not verdict["valid"] or verdict["id"] != document["id"]:
        return None
    # A watch that says nothing any more vouches for nothing.
    if clock() - verdict["checked"] > _FRESH_SECONDS:
        return None
    if document["consistency"] != "offline" and (job is None or not job.within(layout.run)):
        return None
    return dict(document)
