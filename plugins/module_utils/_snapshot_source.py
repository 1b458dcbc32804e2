# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The snapshot that is open on the active host, as its sender offers it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any, Callable

from ._errors import ResilientVmError
from ._files import read_json
from ._layout import Layout
from ._sender import DiskSource, Plan
from ._snapshot_disk import SnapshotDisk

__all__ = ["SnapshotSource"]

# The watch unit writes at least once a second; a host that can't do so for this long is not believed.
_WATCH_SECONDS = 30.0
# A read that failed is explained by the watch's next looks, if by anything.
_EXPLAIN_SECONDS = 5.0


class SnapshotSource:
    """The open snapshot of a VM, as snapshot.json describes it."""

    def __init__(self, layout: Layout, sleep: Callable[[float], None] = time.sleep) -> None:
        self._layout = layout
        self._sleep = sleep
        self._last_read = time.monotonic()
        document = read_json(layout.snapshot)
        if document is None:
            raise ResilientVmError(f"no snapshot of {layout.name} is open on the active host; run the daily playbook")
        self._snapshot: dict[str, Any] = document

    def offer(self) -> dict[str, Any]:
        snapshot = self._snapshot
        offer = {
            name: snapshot[name]
            for name in (
                "id",
                "instant",
                "domain",
                "uuid",
                "epoch",
                "consistency",
                "checkpoint",
                "skipped",
                "excluded",
            )
        }
        offer["disks"] = [
            {"target": disk["target"], "size_bytes": disk["size_bytes"], "checkpoint": disk["checkpoint"]}
            for disk in snapshot["disks"]
        ]
        offer["versions"] = {"libvirt": snapshot["libvirt_version"], "qemu": snapshot["qemu_version"]}
        return offer

    def plan(self, request: dict[str, Any]) -> tuple[Plan, DiskSource]:
        entry = next((disk for disk in self._snapshot["disks"] if disk["target"] == request["target"]), None)
        if entry is None:
            raise ResilientVmError(f"the snapshot of {self._layout.name} has no disk {request['target']}; run again")
        disk = SnapshotDisk(entry)
        base = request["base"]
        if base is None:
            return Plan("allocation", "resumed", "there is no earlier image of this disk"), disk
        reason = request["distrust"] or self._why_no_bitmap(entry, base, disk)
        if reason:
            return Plan("digests", "all", reason), disk
        return Plan("bitmap", "resumed"), disk

    @staticmethod
    def _why_no_bitmap(entry: dict[str, Any], base: dict[str, Any], disk: SnapshotDisk) -> str:
        if entry["bitmap"] is None:
            return str(entry["reason"])
        if entry["bitmap_base"] != base["id"]:
            return f"the bitmap counts from image {entry['bitmap_base']} and the newest image is {base['id']}"
        if base["size_bytes"] != entry["size_bytes"]:
            return f"the disk had {base['size_bytes']} bytes and has {entry['size_bytes']}"
        if not disk.has_bitmap:
            return "QEMU does not export the bitmap"
        return ""

    def definition(self) -> Iterator[tuple[str, bytes]]:
        for entry in self._snapshot["definition"]:
            with open(os.path.join(self._layout.definition, entry["name"]), "rb") as stream:
                yield entry["name"], stream.read()
        self._last_read = time.monotonic()

    def still_valid(self) -> None:
        """Wait for the watch unit's word, given after the last read, that the snapshot is what it was."""
        deadline = time.monotonic() + _WATCH_SECONDS
        # A heartbeat makes the watch look at once.
        with open(self._layout.heartbeat, "ab"):
            os.utime(self._layout.heartbeat)
        while time.monotonic() < deadline:
            watch = read_json(self._layout.watch)
            if watch is not None and self._ended(watch):
                raise self._invalid(watch)
            if watch is not None and watch["checked"] > self._last_read:
                return
            self._sleep(0.02)
        raise ResilientVmError(
            f"nobody watches the snapshot of {self._layout.name} on the active host; this image is discarded, run again"
        )

    def explained(self, error: ResilientVmError | OSError) -> ResilientVmError | OSError:
        """Why reading failed: a snapshot that ends takes its exports and its definition away under the reader."""
        failed = time.monotonic()
        while time.monotonic() < failed + _EXPLAIN_SECONDS:
            watch = read_json(self._layout.watch)
            if watch is None or self._ended(watch):
                return error if watch is None else self._invalid(watch)
            if watch["checked"] > failed:
                return error
            self._sleep(0.1)
        return error

    def _ended(self, watch: dict[str, Any]) -> bool:
        """Whether the watch gave this snapshot up, or watches another one by now."""
        return not watch["valid"] or watch["id"] != self._snapshot["id"]

    def _invalid(self, watch: dict[str, Any]) -> ResilientVmError:
        reason = watch["reason"] or f"snapshot {watch['id']} took its place"
        return ResilientVmError(
            f"the snapshot of {self._layout.name} became invalid while it was read ({reason}); "
            "this image is discarded, run again"
        )
