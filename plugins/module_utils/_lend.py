# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image that the backup storage lends to a machine which runs before its data is there: the lender's end.

A unit keeps one ssh a channel to the host, and serves the image over each, read-only and every
block checked against its digest. It begins again whenever one ends, until the host says that nothing is missing.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import tarfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from . import _units
from ._borrow import DEFINITION, OVER, READY, begun
from ._digests import BLOCK_SIZE, DIGEST_SIZE, ZERO, DigestFile, wrong_blocks
from ._errors import ResilientVmError
from ._files import fsync_directory, moment, read_json, write_json
from ._layout import Layout
from ._nbd_server import Hole, serve
from ._process import Runner
from ._progress import Progress, transfer_file
from ._ssh import Ssh, ssh_command
from ._store import Pin, Store, StoredImage
from ._transfer import Transfer

__all__ = [
    "ARRIVE_SECONDS",
    "CheckedDisk",
    "Wish",
    "examine",
    "give",
    "lend",
    "lent",
    "refuse_while_lent",
    "take_back",
    "waiting",
]

HOP = "lend"
_LENT = "lent to "
# So long both ends wait for each other to begin.
ARRIVE_SECONDS = 90.0
_FIRST_RETRY_SECONDS, _RETRY_SECONDS = 0.2, 1.0
_MAX_WORD = 16
# It is missed by a machine that runs: back at once, however often.
_PROPERTIES = ("Restart=on-failure", "RestartSec=1", "StartLimitIntervalSec=0")


@dataclass(frozen=True)
class Wish:
    """What image_lend was asked for: which image, to which machine ``name`` on which host."""

    image_id: str
    name: str
    peer: dict[str, Any]

    @property
    def purpose(self) -> str:
        return f"{_LENT}{self.name} on {self.peer['name']} until its data is there"


def pin_file(layout: Layout, image_id: str) -> str:
    """Lasts longer than any process: without the image the machine would be lost."""
    return os.path.join(layout.pins, f"{image_id}.lent.json")


def _transfer(layout: Layout, run: Runner) -> Transfer:
    return Transfer(layout, HOP, run, properties=_PROPERTIES)


def examine(layout: Layout, wish: Wish, run: Runner) -> bool:
    """Whether the image is lent already, as wished. Refuses what can't be, before anything is touched."""
    transfer = _transfer(layout, run)
    for pin in _loans(layout):
        if (pin.image, pin.purpose) != (wish.image_id, wish.purpose):
            raise ResilientVmError(
                f"image {pin.image} of {layout.name} is {pin.purpose}, and a VM has one restore at once at a time; "
                "wait for it or remove that machine, and run again in two minutes, or restore with "
                "resilient_vm_restore_mode=copy"
            )
    transfer.check(wish.image_id, wish.peer["name"])
    return transfer.running() is not None and os.path.exists(pin_file(layout, wish.image_id))


def _loans(layout: Layout) -> list[Pin]:
    return [pin for pin in Store(layout).pins() if pin.purpose.startswith(_LENT)]


def wake(layout: Layout, wish: Wish, run: Runner) -> None:
    """Where something else is lent than is wished, and its unit isn't there since this machine was started anew: start
    that again. It goes on lending, or hears that nothing is missing any more."""
    request = read_json(transfer_file(layout, HOP, "request"))
    if request is None:
        return
    other = Wish(request["image_id"], request["name"], request["peer"])
    pinned = [(pin.image, pin.purpose) for pin in _loans(layout)]
    if pinned == [(other.image_id, other.purpose)] != [(wish.image_id, wish.purpose)]:
        _begin(layout, other, run)


def _begin(layout: Layout, wish: Wish, run: Runner) -> None:
    request = {"image_id": wish.image_id, "name": wish.name, "peer": wish.peer, "limits": {"nice": 0}}
    _transfer(layout, run).begin(request)


def give(layout: Layout, wish: Wish, run: Runner) -> None:
    """Pin the image and start the unit that lends it, unless it is lent already."""
    store = Store(layout)
    # Under the lock, because who erases decides under it, and whoever wants another one lent.
    with moment(layout.lock, "a restore"), contextlib.ExitStack() as undo:
        if examine(layout, wish, run):
            return
        image = store.read(wish.image_id)
        if image.manifest is None or not image.complete:
            raise ResilientVmError(
                image.problem or f"image {wish.image_id} of {layout.name} is damaged; name another restore point"
            )
        owner = os.stat(layout.pins)
        document = {"image": wish.image_id, "purpose": wish.purpose, "until": None, "reading": False}
        if not lent(layout, wish):
            undo.callback(_unpin, layout, wish.image_id)
        write_json(pin_file(layout, wish.image_id), document, 0o660, (owner.st_uid, owner.st_gid))
        _begin(layout, wish, run)
        undo.pop_all()


def lent(layout: Layout, wish: Wish) -> bool:
    """Whether anything is left here of lending that image."""
    return os.path.exists(pin_file(layout, wish.image_id))


def waiting(layout: Layout, run: Runner) -> str:
    """What the unit waits for, if it does."""
    return str((_transfer(layout, run).running() or {}).get("waiting", ""))


def take_back(layout: Layout, wish: Wish, run: Runner) -> None:
    """The machine has everything: end the unit, should it not have heard that, and let the image go."""
    _units.stop(run, layout.unit(HOP))
    _unpin(layout, wish.image_id)


def _unpin(layout: Layout, image_id: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(pin_file(layout, image_id))
        fsync_directory(layout.pins)


def refuse_while_lent(layout: Layout) -> None:
    """For whoever would take away what a machine still needs, at either end."""
    loan = begun(layout)
    lent_to = [pin.purpose for pin in _loans(layout)]
    if loan is not None:
        lent_to.append(_LENT + loan["name"])
    if lent_to:
        raise ResilientVmError(
            f"an image of {layout.name} is {lent_to[0]}; wait for that, or remove that machine, and run again"
        )


# the unit


def lend(layout: Layout, sleep: Callable[[float], None] = time.sleep) -> int:
    """Serve the image that was requested until the host says that it is over; the unit's exit code."""
    request = read_json(transfer_file(layout, HOP, "request"))
    if request is None:
        raise ResilientVmError(f"there is no request to lend an image of {layout.name}; run the restore playbook")
    image = Store(layout).read(request["image_id"])
    if image.manifest is None:
        raise ResilientVmError(image.problem)
    progress = Progress(layout, HOP, request)
    channels = [DEFINITION, *(disk.target for disk in image.manifest.disks)]
    ending = Ending(channels)
    ends = [_Channel(layout, image, request, name, progress, ending, sleep) for name in channels]
    threads = [threading.Thread(target=end.run) for end in ends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not ending:
        # One of them died of something nobody foresaw: the unit begins again.
        return 1
    _unpin(layout, image.id)
    return 0


class Ending:
    """Whether it is over: when the host says so of every channel, one after the other or again.

    Until the host has begun to borrow, what it says is of what it borrowed before; that is believed after a while.
    """

    def __init__(self, channels: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._begun = False
        self._open = set(channels)

    def ready(self, channel: str) -> None:
        self._begun = True
        self._open.add(channel)

    def over(self, channel: str) -> None:
        if self._begun or self._clock() - self._since > ARRIVE_SECONDS:
            self._open.discard(channel)

    def __bool__(self) -> bool:
        return not self._open


class _Channel:
    """One ssh to the host, again and again: what it lends is the definition, or a disk."""

    def __init__(
        self,
        layout: Layout,
        image: StoredImage,
        request: dict[str, Any],
        name: str,
        progress: Progress,
        ending: Ending,
        sleep: Callable[[float], None],
    ) -> None:
        self._layout = layout
        self._image = image
        self._peer = request["peer"]
        self._name = name
        self._progress = progress
        self._ending = ending
        self._sleep = sleep

    def run(self) -> None:
        pause = _FIRST_RETRY_SECONDS
        while True:
            try:
                self._once()
            except (ResilientVmError, OSError) as error:
                self._progress(waiting=f"for the image to be mended: {error}")
            if self._ending:
                return
            # A host that is being prepared is there in a moment, one that is away for long.
            self._sleep(pause)
            pause = min(2 * pause, _RETRY_SECONDS)

    def _once(self) -> None:
        verb = f"{HOP} {self._name} {self._image.id}"
        ssh = Ssh(ssh_command(self._layout, self._peer["address"], self._peer["port"], verb))
        try:
            said = _word(ssh.reader)
            if said == READY:
                self._ending.ready(self._name)
                self._progress()
                if self._name == DEFINITION:
                    self._lend_definition(ssh.reader, ssh.writer)
                else:
                    self._lend_disk(ssh.reader, ssh.writer)
            elif said == OVER:
                self._ending.over(self._name)
            else:
                self._progress(waiting=f"for {self._peer['name']}: {ssh.last_words() or 'it hung up'}")
        finally:
            os.close(ssh.writer)
            os.close(ssh.reader)
            ssh.close()

    def _lend_disk(self, reader: int, writer: int) -> None:
        with CheckedDisk.of(Store(self._layout), self._image, self._name) as disk:
            serve(reader, writer, disk)

    def _lend_definition(self, reader: int, writer: int) -> None:
        """A tar of its files; the other end hangs up when it has them."""
        manifest = self._image.manifest
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for file in manifest.definition if manifest is not None else []:
                archive.add(self._image.file(file.name), file.name, recursive=False)
        left = memoryview(packed.getvalue())
        with contextlib.suppress(BrokenPipeError):
            while left:
                left = left[os.write(writer, left) :]
        while os.read(reader, 1 << 10):
            pass


def _word(descriptor: int) -> bytes:
    word = b""
    while not word.endswith(b"\n") and len(word) < _MAX_WORD:
        data = os.read(descriptor, 1)
        if not data:
            break
        word += data
    return word


class CheckedDisk:
    """A disk of an image to read from. What isn't as its digest says is marked and not given away."""

    def __init__(self, store: Store, image_id: str, target: str, descriptor: int, digests: DigestFile) -> None:
        self.size_bytes = digests.size_bytes
        self._store = store
        self._image_id = image_id
        self._target = target
        self._descriptor = descriptor
        self._digests = digests

    @classmethod
    @contextlib.contextmanager
    def of(cls, store: Store, image: StoredImage, target: str) -> Iterator[CheckedDisk]:
        disk = image.manifest.disk(target) if image.manifest is not None else None
        if disk is None:
            raise ResilientVmError(f"image {image.id} has no disk {target}")
        with image.digests(disk) as digests, open(image.file(disk.file), "rb") as stream:
            yield cls(store, image.id, target, stream.fileno(), digests)

    def pieces(self, offset: int, length: int) -> Iterator[Hole | memoryview]:
        first, last = offset // BLOCK_SIZE, -(-(offset + length) // BLOCK_SIZE)
        begin = first * BLOCK_SIZE
        data = memoryview(os.pread(self._descriptor, min(last * BLOCK_SIZE, self.size_bytes) - begin, begin))
        try:
            wanted = self._digests.read(first, last - first)
        except ResilientVmError as error:
            raise OSError(errno.EIO, str(error)) from error
        for index in wrong_blocks(data, wanted):
            where = begin + index * BLOCK_SIZE
            self._store.mark_damaged(self._image_id, self._target, where, "restore")
            raise OSError(errno.EIO, f"block at byte {where} is not what its digest says")
        for zero, start, end in _runs(wanted):
            start = max(begin + start * BLOCK_SIZE, offset)
            end = min(begin + end * BLOCK_SIZE, offset + length)
            yield Hole(end - start) if zero else data[start - begin : end - begin]


def _runs(digests: bytes) -> Iterator[tuple[bool, int, int]]:
    """(whether they are zero, first, past the last) of consecutive blocks."""
    count, start = len(digests) // DIGEST_SIZE, 0
    zero = [digests[at : at + DIGEST_SIZE] == ZERO for at in range(0, len(digests), DIGEST_SIZE)]
    for index in range(1, count + 1):
        if index == count or zero[index] != zero[start]:
            yield zero[start], start, index
            start = index
