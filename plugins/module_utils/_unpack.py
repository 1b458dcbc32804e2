# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive of a guest's files laid into a folder nobody else can enter. Nothing in it is believed.

No tarfile.extract: on the Pythons of all machines it would follow a link that came before, make devices, or ask for a
filter that they don't have.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ._errors import ResilientVmError
from ._restored_files import RECORD

__all__ = ["Laid", "plain", "tree_digest", "unpack"]

# With what Ansible's templates begin.
_TEMPLATE = re.compile(r"\{(?=[{%#])")
# How many names are told of what was left out.
_TOLD = 20
_COPY_BYTES = 1 << 20
# A guest may date its files as it likes; not every file system takes it.
_FARTHEST_SECONDS = 1 << 33


@dataclass
class Laid:
    """What was laid, and what was not: ``devices`` are left out, ``stripped`` lost the bits that lend rights."""

    files: int = 0
    bytes: int = 0
    devices: int = 0
    stripped: int = 0
    told: list[str] = field(default_factory=list)

    def tell(self, what: str, name: str) -> None:
        if len(self.told) < _TOLD:
            self.told.append(f"{plain(name)}: {what}")


def plain(name: str) -> str:
    """A guest's file name as it can be shown: no control characters, nothing that is no text, and no template."""
    shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    text = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in shown)
    return _TEMPLATE.sub(r"\\x7b", text)


class _Folder:
    """The folder that is filled. Only what was made here is ever gone through or linked to."""

    def __init__(self, path: str) -> None:
        self._top = os.fsencode(path)
        self._folders: set[bytes] = {b""}
        self._files: set[bytes] = set()
        # Once all is laid: a folder's mode may forbid writing, and writing changes its time.
        self._finish: list[tuple[bytes, tarfile.TarInfo]] = []

    def _place(self, name: str) -> bytes:
        place = name.encode("utf-8", "surrogateescape")
        parts = place.split(b"/")
        if not place or any(part in (b"", b".", b"..") for part in parts) or b"\0" in place:
            raise ResilientVmError(f"the appliance sent a file named {plain(name)!r}, which leads out; nothing is laid")
        if parts == [RECORD.encode()]:
            raise ResilientVmError(
                f"the guest has a file /{RECORD}, and that is where the folder says what it is; name other files"
            )
        return place

    def _parent(self, place: bytes) -> None:
        """Every folder above a place, made here where the archive doesn't have it."""
        above = os.path.dirname(place)
        if above in self._folders:
            return
        self._parent(above)
        self._new(above)
        os.mkdir(os.path.join(self._top, above), 0o755)
        self._folders.add(above)

    def _new(self, place: bytes) -> None:
        """A file twice, or one in something that is no folder, is no archive of a file system."""
        if place in self._files or place in self._folders:
            name = place.decode("utf-8", "surrogateescape")
            raise ResilientVmError(f"the appliance sent {plain(name)!r} twice, or something within it; nothing is laid")

    def add(self, member: tarfile.TarInfo, archive: tarfile.TarFile, laid: Laid) -> None:
        place = self._place(member.name)
        self._parent(place)
        path = os.path.join(self._top, place)
        self._new(place)
        if member.isdir():
            os.mkdir(path, 0o700)
            self._folders.add(place)
            self._finish.append((path, member))
        elif member.issym():
            if not member.linkname:
                raise ResilientVmError(
                    f"the appliance sent {plain(member.name)!r} as a link to nowhere; nothing is laid"
                )
            os.symlink(member.linkname.encode("utf-8", "surrogateescape"), path)
            _own(path, member)
        elif member.islnk():
            other = self._place(member.linkname)
            if other not in self._files:
                raise ResilientVmError(f"the appliance sent {plain(member.name)!r} as a link to nothing it had sent")
            os.link(os.path.join(self._top, other), path, follow_symlinks=False)
        elif member.isreg():
            laid.bytes += self._write(path, member, archive)
            if member.mode & (stat.S_ISUID | stat.S_ISGID):
                laid.stripped += 1
                laid.tell("laid without its setuid or setgid bit", member.name)
        else:
            laid.devices += 1
            laid.tell("a device or a pipe, left out", member.name)
            return
        if not member.isdir():
            self._files.add(place)
        laid.files += 1

    @staticmethod
    def _write(path: bytes, member: tarfile.TarInfo, archive: tarfile.TarFile) -> int:
        source: Any = archive.extractfile(member)
        # New or not at all, so that nothing is followed.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            shutil.copyfileobj(source, stream, _COPY_BYTES)
        _own(path, member)
        os.chmod(path, member.mode & 0o1777)
        _set_time(path, member)
        return int(member.size)

    def finish(self) -> None:
        for path, member in reversed(self._finish):
            _own(path, member)
            os.chmod(path, member.mode & 0o3777)
            _set_time(path, member)


def _own(path: bytes, member: tarfile.TarInfo) -> None:
    # Numbers as in the guest: this machine's names for them mean nothing there.
    os.lchown(path, member.uid, member.gid)


def _set_time(path: bytes, member: tarfile.TarInfo) -> None:
    time = max(-_FARTHEST_SECONDS, min(member.mtime, _FARTHEST_SECONDS))
    os.utime(path, (time, time))


def unpack(stream: BinaryIO, folder: str) -> Laid:
    """Lay an archive's files into a new, empty folder of mode 0700. Raises TarError when it ends too early."""
    laid, target = Laid(), _Folder(folder)
    with tarfile.open(fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape") as archive:
        for member in archive:
            target.add(member, archive, laid)
            # It would keep every one it has seen.
            archive.members = []  # type: ignore[attr-defined]
    target.finish()
    return laid


def tree_digest(folder: str) -> str:
    """One SHA-256 over all that lies in a folder: names, kinds, modes, owners, times and contents; not its record."""
    total = hashlib.sha256()
    for path in _walk(os.fsencode(folder)):
        found = os.lstat(path)
        name = os.path.relpath(path, os.fsencode(folder))
        facts = (found.st_mode, found.st_uid, found.st_gid, int(found.st_mtime), found.st_size)
        # A folder's size is the file system's affair.
        said = facts[:-1] if stat.S_ISDIR(found.st_mode) else facts
        total.update(repr((name, said)).encode())
        if stat.S_ISLNK(found.st_mode):
            total.update(os.readlink(path))
        elif stat.S_ISREG(found.st_mode):
            with open(path, "rb") as stream:
                for piece in iter(lambda: stream.read(_COPY_BYTES), b""):
                    total.update(piece)
    return total.hexdigest()


def _walk(top: bytes) -> Iterator[bytes]:
    for folder, folders, names in os.walk(top):
        folders.sort()
        found = sorted(folders + names)
        yield from (os.path.join(folder, name) for name in found if folder != top or name != RECORD.encode())
