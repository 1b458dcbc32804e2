# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of one copy to the backup storage, from what image_transfer returned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._digests import BLOCK_SIZE
from ._human import human_size, limits_text

__all__ = ["copied", "missed"]

_CONSISTENCY = {
    "filesystem": "file systems consistent",
    "crash": "as after a power cut",
    "offline": "of the stopped VM",
}


def copied(fetched: Mapping[str, Any], storage: str, whole: bool) -> list[str]:
    """The copy in some lines. ``whole``: all that the bitmap called unchanged was to be compared, too."""
    sent, changed = fetched["bytes_sent"], sum(disk["changed_bytes"] for disk in fetched["disks"])
    resumed = sum(disk["resumed_bytes"] for disk in fetched["disks"])
    lines = [
        f"image {fetched['image_id']} ({_CONSISTENCY[fetched['consistency']]}) copied to {storage} in "
        f"{fetched['seconds']:.0f} s: {human_size(sent)} sent, {human_size(changed)} changed"
        + (f", {human_size(resumed)} were there from an earlier try" if resumed else "")
        + (", going on with a copy that was running" if fetched.get("attached") else "")
    ]
    if "limits" in fetched:
        connections = (fetched.get("streams", 1), fetched.get("streams_reason", ""))
        lines.append(limits_text(fetched["limits"], fetched["compression"], *connections))
    lines += [f"disk {disk['target']}: changes {_found(disk)}" for disk in fetched["disks"]]
    return lines + ([_compared(fetched, storage)] if whole else [])


def _compared(fetched: Mapping[str, Any], storage: str) -> str:
    """What resilient_vm_verify_source has shown. Where there was no bitmap, the copy itself has read all there is."""
    size = sum(disk["reread_bytes" if disk["found_by"] == "bitmap" else "bytes_read"] for disk in fetched["disks"])
    return (
        f"compared with the open snapshot: {human_size(size)} beside what had changed, "
        f"{-(-size // BLOCK_SIZE)} blocks, {fetched['bitmap_mismatches'] or 'none'} of them other than on {storage}"
    )


def _found(disk: Mapping[str, Any]) -> str:
    how = {
        "bitmap": "by dirty bitmap",
        "digests": "by comparing digests",
        "allocation": "not looked for, all data copied",
    }.get(disk["found_by"], disk["found_by"])
    return f"{how} ({disk['reason']})" if disk.get("reason") else how


def missed(fetched: Mapping[str, Any]) -> str:
    """The first of the blocks that the bitmap had missed."""
    named = [f"{block['disk']} at byte {block['offset_bytes']}" for block in fetched["missed"][:5]]
    return ", ".join(named) + (" and more" if fetched["bitmap_mismatches"] > len(named) else "")
