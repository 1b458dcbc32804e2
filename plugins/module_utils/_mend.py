# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is damaged in an image, put right from wherever the right bytes are. Only what a digest proves is written.

A kill at any point leaves a wrong block or the right one: nothing that was right is written to.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ._digests import BLOCK_SIZE, DIGEST_SIZE, ZERO, DigestFile, RootDigest, block_digest, differing_blocks
from ._errors import ResilientVmError
from ._files import as_owner_of, write_atomic
from ._manifest import Definition, Disk
from ._store import MANIFEST, MANIFEST_SUM, StoredImage, file_sha256

__all__ = ["Held", "mend_block", "mend_digests", "mend_file", "mend_manifest", "root_is_right", "write_block"]

# A manifest is a few KiB; trying every byte of a much larger file would take minutes.
_TRIED_BYTES = 32 << 10


@dataclass(frozen=True)
class Held:
    """One disk of one image, open for reading."""

    image: StoredImage
    disk: Disk
    raw: int
    digests: DigestFile

    @property
    def path(self) -> str:
        return self.image.file(self.disk.file)

    def length(self, block: int) -> int:
        return min(BLOCK_SIZE, self.disk.size_bytes - block * BLOCK_SIZE)

    def read(self, block: int) -> bytes:
        """A block as the device has it, not as memory remembers it; nothing where it can't be read."""
        offset = block * BLOCK_SIZE
        os.posix_fadvise(self.raw, offset, BLOCK_SIZE, os.POSIX_FADV_DONTNEED)
        try:
            return os.pread(self.raw, self.length(block), offset)
        except OSError:
            return b""

    def right(self, block: int) -> bool:
        data = self.read(block)
        return len(data) == self.length(block) and block_digest(data) == self.digests.read(block, 1)


def root_is_right(image: StoredImage, disk: Disk) -> bool:
    """Whether the digest file of a disk is what the manifest says."""
    try:
        with image.digests(disk) as digests:
            return digests.root() == disk.root_digest
    except (ResilientVmError, OSError):
        return False


def mend_block(held: Held, block: int, others: Iterable[Held]) -> str:
    """Write a wrong block anew from another image that has the right one; that image's id, or "" when none has."""
    wanted = held.digests.read(block, 1)
    if wanted == ZERO:
        return "its digest" if write_block(held, block, bytes(held.length(block))) else ""
    for other in others:
        if other.image.id == held.image.id or block >= other.digests.blocks:
            continue
        if other.digests.read(block, 1) == wanted and other.right(block):
            return other.image.id if write_block(held, block, other.read(block)) else ""
    return ""


def write_block(held: Held, block: int, data: bytes) -> bool:
    """Write a block if it is what its digest says; whether the device then gives it back."""
    if len(data) != held.length(block) or block_digest(data) != held.digests.read(block, 1):
        return False
    with as_owner_of(held.image.path):
        descriptor = os.open(held.path, os.O_WRONLY | os.O_NOFOLLOW)
        try:
            os.pwrite(descriptor, data, block * BLOCK_SIZE)
            os.fsync(descriptor)
        except OSError:
            return False  # the device takes no more; the mark stays
        finally:
            os.close(descriptor)
    return held.right(block)


def mend_digests(image: StoredImage, disk: Disk, others: Iterable[StoredImage]) -> bool:
    """Make a wrong digest file anew out of the disk's own bytes, where the root digest then proves it.

    Another image with the disk says which digests can be wrong: those that differ from its own. So only these blocks
    are read, not the whole disk. Whether it could be done.
    """
    path = image.file(disk.digests)
    try:
        with open(path, "rb") as stream:
            kept = stream.read()
    except OSError:
        # A sector that can't be read, or no file: all of it is made anew.
        kept = b""
    with open(image.file(disk.file), "rb") as raw:
        for found in _candidates(image, disk, others, raw.fileno(), kept):
            root = RootDigest(disk.size_bytes)
            root.add(0, found)
            if root.hexdigest() == disk.root_digest:
                with as_owner_of(image.path):
                    _replace_digests(path, found)
                return root_is_right(image, disk)
    return False


def _candidates(
    image: StoredImage, disk: Disk, others: Iterable[StoredImage], raw: int, kept: bytes
) -> Iterator[bytes]:
    """What the digest file may have been, the likeliest first."""
    length = -(-disk.size_bytes // BLOCK_SIZE) * DIGEST_SIZE
    whole = kept.ljust(length, b"\0")[:length]
    for other in others:
        theirs = other.manifest.disk(disk.target) if other.manifest is not None else None
        if other.id == image.id or theirs is None or theirs.size_bytes != disk.size_bytes:
            continue
        if len(kept) != length or not root_is_right(other, theirs):
            continue
        with other.digests(theirs) as one, image.digests(disk) as two:
            places = [block for first, count in differing_blocks(one, two) for block in range(first, first + count)]
            yield from _tried(whole, places, raw, disk, one)
    yield from _tried(whole, range(length // DIGEST_SIZE), raw, disk, None)


def _tried(whole: bytes, places: Iterable[int], raw: int, disk: Disk, other: DigestFile | None) -> Iterator[bytes]:
    """All of these as the bytes have them; then, where bytes may be wrong too, only what the other image bears out."""
    computed, evident = bytearray(whole), bytearray(whole)
    for block in places:
        offset = block * BLOCK_SIZE
        try:
            digest = block_digest(os.pread(raw, min(BLOCK_SIZE, disk.size_bytes - offset), offset))
        except OSError:
            continue
        place = slice(block * DIGEST_SIZE, (block + 1) * DIGEST_SIZE)
        if other is not None and digest == other.read(block, 1):
            evident[place] = digest
        computed[place] = digest
    yield bytes(computed)
    if other is not None:
        yield bytes(evident)


def _replace_digests(path: str, digests: bytes) -> None:
    """A new file takes the old one's name; its zeros are holes again."""
    new = path + ".new"
    with open(new, "wb") as stream:
        stream.truncate(len(digests))
        for at in range(0, len(digests), 4096):
            piece = digests[at : at + 4096]
            if any(piece):
                stream.seek(at)
                stream.write(piece)
        os.fchmod(stream.fileno(), 0o640)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(new, path)


def mend_file(image: StoredImage, entry: Definition, others: Iterable[StoredImage]) -> str:
    """Take a file of the definition from an image that has the same one; that image's id, or ""."""
    for other in others:
        path = other.file(entry.name)
        if other.id == image.id or not holds(path, entry.sha256):
            continue
        with open(path, "rb") as stream:
            data = stream.read()
        if hashlib.sha256(data).hexdigest() == entry.sha256:
            with as_owner_of(image.path):
                write_atomic(image.file(entry.name), data)
            return other.id
    return ""


def holds(path: str, sha256: str) -> bool:
    """Whether a file is there, can be read, and is what it should be."""
    try:
        return file_sha256(path) == sha256
    except (FileNotFoundError, ResilientVmError):
        return False


def mend_manifest(folder: str) -> bool:
    """Put a manifest right in which one byte is wrong, or its checksum where that is; whether it could be done."""
    try:
        with open(os.path.join(folder, MANIFEST), "rb") as stream:
            data = stream.read(_TRIED_BYTES + 1)
        with open(os.path.join(folder, MANIFEST_SUM), "rb") as stream:
            said = stream.read(_TRIED_BYTES)
    except OSError:
        return False
    line = f"{hashlib.sha256(data).hexdigest()}  {MANIFEST}\n".encode()
    if said == line:
        return False  # whatever is wrong with this image, it was published so
    if len(said) == len(line) and sum(one != two for one, two in zip(said, line)) == 1:
        with as_owner_of(folder):
            write_atomic(os.path.join(folder, MANIFEST_SUM), line)
        return True
    found = _one_byte(data, said[:64].decode("ascii", "replace")) if len(data) <= _TRIED_BYTES else None
    if found is None:
        return False
    with as_owner_of(folder):
        write_atomic(os.path.join(folder, MANIFEST), found)
    return True


def _one_byte(data: bytes, wanted: str) -> bytes | None:
    """The bytes with that SHA-256 that differ from these in one place."""
    before = hashlib.sha256()
    for at, byte in enumerate(data):
        rest = data[at + 1 :]
        for value in range(256):
            if value == byte:
                continue
            tried = before.copy()
            tried.update(bytes((value,)) + rest)
            if tried.hexdigest() == wanted:
                return data[:at] + bytes((value,)) + rest
        before.update(bytes((byte,)))
    return None
