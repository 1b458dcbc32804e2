# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiving end of a transfer: ask for disks, check every block, build the image beside the old one, publish it."""

from __future__ import annotations

import os
import threading
from typing import Any, Callable

from . import _clock, _frames
from ._digests import BLOCK_SIZE, DIGEST_SIZE, ZERO, differing_blocks, prefixes_of, reread_slice, wrong_blocks
from ._errors import ResilientVmError
from ._files import locked, write_unsynced
from ._frames import Frame
from ._incoming import Incoming, IncomingDisk
from ._manifest import DEFINITION, Definition, Disk, Manifest, Proven, check_offer
from ._store import Store, StoredImage, file_sha256
from ._wire import LinkBrokenError, Wire

__all__ = ["Receiver"]

_WINDOW = 16384
_CHECKED = 16
# So many blocks that the bitmap had missed are named; the others are counted.
_NAMED = 100


class Receiver:
    """Receives one image into a store.

    ``alive`` is called whenever something moved, with what the sender told of how far it is, if it did.
    ``source_host`` names the sender in the manifest, where the sender does not say it itself.
    """

    def __init__(
        self,
        wire: Wire,
        store: Store,
        alive: Callable[[dict[str, Any]], None],
        expected_id: str | None = None,
        reread_share: int = 14,
        full_copies: bool = False,
        source_host: str | None = None,
    ) -> None:
        self._wire = wire
        self._store = store
        self._alive = alive
        self._expected_id = expected_id
        self._reread_share = reread_share
        self._full_copies = full_copies
        self._source_host = source_host
        self._damaged: list[dict[str, Any]] = []
        self._mismatches = 0
        self._missed: list[dict[str, Any]] = []

    def run(self) -> dict[str, Any]:
        """Receive and publish. The handshake is done already. Returns the result of this hop."""
        offer = self._wire.expect(_frames.OFFER).document()
        self._check(offer)
        here = self._store.read(offer["id"])
        if here.complete and here.manifest is not None:
            # Published by an earlier run that was killed before it could say so.
            self._receive_definition(None)
            return {**self._result(here.manifest), "already": True}
        incoming = Incoming.prepare(self._store, offer, self._full_copies)
        try:
            disks = [self._receive_disk(incoming, disk, offer) for disk in incoming.disks]
            definition = self._receive_definition(incoming)
            incoming.seal()
        finally:
            incoming.close()
        manifest = self._manifest(offer, disks, definition)
        with locked(self._store.layout.lock, f"publishing image {manifest.id}"):
            self._store.publish(incoming.path, manifest)
        return self._result(manifest)

    def _check(self, offer: dict[str, Any]) -> None:
        check_offer(offer, self._wire.peer)
        name = self._store.layout.name
        if self._expected_id is not None and offer["id"] != self._expected_id:
            raise ResilientVmError(
                f"{self._wire.peer} offers image {offer['id']} of {name} where {self._expected_id} was "
                "asked for; run again"
            )
        epoch = self._store.epoch()
        if offer["epoch"] < epoch:
            raise ResilientVmError(
                f"{self._wire.peer} offers image {offer['id']} of {name} with epoch {offer['epoch']}, and "
                f"epoch {epoch} is here already: it is no longer the active host and its copy is not taken"
            )

    # one disk

    def _receive_disk(self, incoming: Incoming, disk: IncomingDisk, offer: dict[str, Any]) -> Disk:
        entry = next(entry for entry in offer["disks"] if entry["target"] == disk.target)
        reread = self._reread_slice(incoming.base, disk)
        counts = _Counts()
        plan, end = self._walk(incoming, disk, None, reread, counts)
        reason = plan["reason"]
        if counts.mismatches or counts.damaged:
            # The bitmap, or what it is measured against, is not to be believed: look at every block.
            self._mismatches += counts.mismatches
            reason = (
                f"the re-read found {counts.mismatches} changed and {counts.damaged} damaged blocks "
                "where the bitmap says none"
            )
            plan, end = self._walk(incoming, disk, reason, None, counts)
        root = disk.digests.root()
        if end["root_digest"] is not None and end["root_digest"] != root:
            raise ResilientVmError(
                f"disk {disk.target} of image {offer['id']} has root digest {root} here and {end['root_digest']} at "
                f"{self._wire.peer}; nothing was published: run again, and check this machine's memory if it stays",
            )
        return Disk(
            target=disk.target,
            size_bytes=disk.size_bytes,
            root_digest=root,
            found_by=plan["how"],
            reason=reason,
            checkpoint=entry.get("checkpoint"),
            bytes_read=end["bytes_read"],
            bytes_sent=counts.bytes_sent,
            changed_bytes=end["changed_bytes"],
            resumed_bytes=disk.resumed_bytes,
            reread_bytes=end["reread_bytes"],
            proven=self._proven(disk, plan["how"], reread, offer["id"]),
        )

    def _walk(
        self,
        incoming: Incoming,
        disk: IncomingDisk,
        distrust: str | None,
        reread: list[int] | None,
        counts: _Counts,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        base = None
        if disk.base is not None and incoming.base is not None:
            base = {
                "id": incoming.base.id,
                "root_digest": disk.base.root_digest,
                "size_bytes": disk.base.size_bytes,
            }
        self._wire.send_document(
            _frames.DISK,
            {"target": disk.target, "base": base, "distrust": distrust, "reread": reread},
        )
        plan = self._wire.expect(_frames.PLAN).document()
        telling = _Telling(self._wire, disk, everything=plan["known"] == "all")
        telling.start()
        # No data comes before the first word of what is known, nor after as many frames as the disk's end tells of.
        end: dict[str, Any] | None = None
        frames = 0
        while end is None or frames < end["data_frames"]:
            frame = self._wire.receive()
            self._alive(frame.document() if frame.type == _frames.MARK else {})
            if frame.type == _frames.DATA:
                self._write(disk, frame)
                counts.bytes_sent += frame.wire_bytes
                frames += 1
            elif end is not None:
                self._wire.stranger()
            elif frame.type == _frames.ZEROS:
                disk.write_zeros(frame.block, self._inside(disk, frame.block, frame.count))
            elif frame.type == _frames.CHECK:
                self._compare(incoming, disk, frame, counts)
            elif frame.type == _frames.DISK_END:
                end = frame.document()
            elif frame.type != _frames.MARK:
                self._wire.stranger()
        if frames > end["data_frames"]:
            self._wire.stranger()
        telling.finish()
        return plan, end

    def _inside(self, disk: IncomingDisk, first: int, count: int) -> int:
        if count < 1 or first + count > disk.digests.blocks:
            self._wire.stranger()
        return count

    def _write(self, disk: IncomingDisk, frame: Frame) -> None:
        count = self._inside(disk, frame.block, frame.count)
        digests, data = memoryview(frame.payload), memoryview(frame.data)
        if len(data) != min(count * BLOCK_SIZE, disk.size_bytes - frame.block * BLOCK_SIZE):
            self._wire.stranger()
        for index in wrong_blocks(data, digests):
            raise LinkBrokenError(
                f"block {frame.block + index} of disk {disk.target} arrived other than {self._wire.peer} read it"
            )
        disk.write(frame.block, digests, data)

    def _compare(self, incoming: Incoming, disk: IncomingDisk, frame: Frame, counts: _Counts) -> None:
        """A slice of what the bitmap calls unchanged: the active host's word and ours, and ours and our disk's."""
        count = self._inside(disk, frame.block, frame.count)
        if not frame.payload and disk.is_empty(frame.block, count):
            return
        for first in range(frame.block, frame.block + count, _CHECKED):
            blocks = min(_CHECKED, frame.block + count - first)
            begin = (first - frame.block) * DIGEST_SIZE
            theirs = frame.payload[begin : begin + blocks * DIGEST_SIZE] or ZERO * blocks
            mine, data = disk.digests.read(first, blocks), disk.read(first, blocks)
            for index in range(blocks):
                place = slice(index * DIGEST_SIZE, (index + 1) * DIGEST_SIZE)
                if mine[place] != theirs[place]:
                    counts.mismatches += 1
                    self._missed.append({"disk": disk.target, "offset_bytes": (first + index) * BLOCK_SIZE})
            for index in wrong_blocks(data, mine):
                counts.damaged += 1
                disk.invalidate(first + index)
                self._mark(incoming, disk, first + index)

    def _mark(self, incoming: Incoming, disk: IncomingDisk, block: int) -> None:
        if incoming.base is None:
            return
        offset = block * BLOCK_SIZE
        self._store.mark_damaged(incoming.base.id, disk.target, offset, "re-read")
        self._damaged.append({"image": incoming.base.id, "disk": disk.target, "offset_bytes": offset})

    # the rotating re-read

    def _reread_slice(self, base: StoredImage | None, disk: IncomingDisk) -> list[int] | None:
        if base is None or base.manifest is None or disk.base is None:
            return None
        if self._reread_share == 1:
            return [0, disk.digests.blocks]
        next_block, held = disk.base.proven.next_block, disk.digests.held()
        return list(reread_slice(disk.digests.blocks, next_block, self._reread_share, held))

    @staticmethod
    def _proven(disk: IncomingDisk, how: str, reread: list[int] | None, image_id: str) -> Proven:
        if how != "bitmap" or reread is None or disk.base is None:
            # Every block was looked at on the active host.
            return Proven(0, image_id, image_id)
        before = disk.base.proven
        first, count = reread
        started = image_id if first == 0 else before.round_started
        if first + count >= disk.digests.blocks:
            return Proven(0, image_id, started)
        return Proven(first + count, started, before.full_round)

    # the end

    def _receive_definition(self, incoming: Incoming | None) -> list[Definition]:
        """Hear the definition; ``incoming`` None: it is here already."""
        self._wire.send_document(_frames.END, {})
        files: list[Definition] = []
        while True:
            frame = self._wire.receive()
            if frame.type == _frames.END:
                return files
            if frame.type != _frames.FILE:
                self._wire.stranger()
            header = frame.document()
            name = header["name"]
            if name not in DEFINITION:
                self._wire.stranger()
            content = self._wire.expect(_frames.FILE).payload
            if incoming is None:
                continue
            path = os.path.join(incoming.path, name)
            write_unsynced(path, bytes(content))
            files.append(Definition(name, header["size_bytes"], file_sha256(path)))

    def _manifest(self, offer: dict[str, Any], disks: list[Disk], definition: list[Definition]) -> Manifest:
        return Manifest(
            id=offer["id"],
            instant=offer["instant"],
            customer=self._store.layout.customer,
            vm=self._store.layout.vm,
            domain=offer["domain"],
            uuid=offer["uuid"],
            epoch=offer["epoch"],
            consistency=offer["consistency"],
            source_host=self._source_host or offer.get("source_host", ""),
            disks=disks,
            definition=definition,
            checkpoint=offer.get("checkpoint"),
            skipped=offer.get("skipped", []),
            excluded=offer.get("excluded", []),
            bitmap_mismatches=self._mismatches,
            versions=offer.get("versions", {}),
            published=_clock.iso(_clock.now(None)),
        )

    def _result(self, manifest: Manifest) -> dict[str, Any]:
        return {
            "image_id": manifest.id,
            "published": True,
            "consistency": manifest.consistency,
            "disks": [
                {
                    "target": disk.target,
                    "size_bytes": disk.size_bytes,
                    "found_by": disk.found_by,
                    "reason": disk.reason,
                    "bytes_read": disk.bytes_read,
                    "bytes_sent": disk.bytes_sent,
                    "changed_bytes": disk.changed_bytes,
                    "resumed_bytes": disk.resumed_bytes,
                    "reread_bytes": disk.reread_bytes,
                    "root_digest": disk.root_digest,
                }
                for disk in manifest.disks
            ],
            "bitmap_mismatches": manifest.bitmap_mismatches,
            "missed": self._missed[:_NAMED],
            "damaged": self._damaged,
        }


class _Counts:
    def __init__(self) -> None:
        self.bytes_sent = 0
        self.mismatches = 0
        self.damaged = 0


class _Telling(threading.Thread):
    """Sends the digests the sender needs, beside the thread that receives: neither waits for the other."""

    def __init__(self, wire: Wire, disk: IncomingDisk, everything: bool) -> None:
        super().__init__(daemon=True)
        self._wire = wire
        self._disk = disk
        self._everything = everything
        self._error: Exception | None = None
        # The digest file is written to meanwhile, but never a block before the sender has heard of it from here.
        self._ranges = None if everything else self._received()

    def _received(self) -> list[tuple[int, int]]:
        if not self._disk.resumed:
            return []
        old = self._disk.base_digests()
        try:
            return list(differing_blocks(old, self._disk.digests))
        finally:
            if old is not None:
                old.close()

    def run(self) -> None:
        try:
            if self._everything:
                self._tell_all()
            else:
                for first, count in self._ranges or []:
                    for at in range(first, first + count, _WINDOW):
                        blocks = min(_WINDOW, first + count - at)
                        self._tell(at, self._disk.digests.read(at, blocks))
            self._wire.send(_frames.KNOWN_END)
            self._wire.flush()
        except (ResilientVmError, OSError, ValueError) as error:
            self._error = error

    def _tell_all(self) -> None:
        position = 0
        for first, digests in self._disk.digests.runs():
            if first > position:
                self._wire.send(_frames.KNOWN, block=position, count=first - position)
            self._tell(first, digests)
            position = first + len(digests) // DIGEST_SIZE
        if position < self._disk.digests.blocks:
            self._wire.send(_frames.KNOWN, block=position, count=self._disk.digests.blocks - position)

    def _tell(self, first: int, digests: bytes) -> None:
        self._wire.send(_frames.KNOWN, prefixes_of(digests), first, len(digests) // DIGEST_SIZE)

    def finish(self) -> None:
        self.join()
        if self._error is not None:
            raise self._error
