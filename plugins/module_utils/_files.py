# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files written whole or not at all, locks the kernel releases, and reflink copies."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import shutil
import stat
import struct
import tempfile
import time
from collections.abc import Iterator
from typing import IO, Any, Callable

from ._errors import ResilientVmError

__all__ = [
    "as_owner_of",
    "begin_writeback",
    "clone_descriptor",
    "clone_file",
    "data_ranges",
    "fsync_directory",
    "fsync_tree",
    "json_text",
    "locked",
    "moment",
    "read_json",
    "reflink_works",
    "remove_tree",
    "unreadable",
    "waited",
    "write_atomic",
    "write_json",
    "write_unsynced",
    "zero_range",
]

# Of a lock that is held for moments: somebody publishes an image, or erases a few.
_LOCK_TRIES, _LOCK_PAUSE_SECONDS = 50, 0.2
# linux/fs.h: SYNC_FILE_RANGE_WRITE
_BEGIN_WRITEBACK = 2
# linux/fs.h: _IOW(0x94, 9, int)
_FICLONE = 0x40049409
# linux/fs.h: FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, their struct fsxattr (flags, extsize, nextents, projid, cowextsize,
# padding) and FS_XFLAG_COWEXTSIZE
_GET_ATTRIBUTES, _SET_ATTRIBUTES = 0x801C581F, 0x401C5820
_ATTRIBUTES = struct.Struct("5I8x")
_HAS_COW_SIZE = 0x10000
_NO_COW_SIZE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY)
# linux/falloc.h: FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE; Python's os module has no call for it
_KEEP_SIZE_AND_PUNCH_HOLE = 0x01 | 0x02
_MAX_JSON = 64 << 20


def fsync_directory(path: str) -> None:
    """Make renames and removals inside a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(path: str) -> None:
    """Make every file and directory under path (and path) survive a power cut."""
    for folder, _folders, names in os.walk(path, topdown=False):
        for name in names:
            file = os.path.join(folder, name)
            if os.path.islink(file):
                continue
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        fsync_directory(folder)


@contextlib.contextmanager
def as_owner_of(path: str) -> Iterator[None]:
    """Act as whom a folder belongs to: root never writes where an account could put a link in the way.

    A link in the folder's place is its maker's, whatever it leads to.
    """
    owner, before = os.lstat(path), (os.geteuid(), os.getegid())
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(before[0])
        os.setegid(before[1])


def write_atomic(path: str, data: bytes, mode: int = 0o640, owner: tuple[int, int] | None = None) -> None:
    """Replace a file so that a reader, also after a power cut, sees the old or the new content, never a part."""
    folder = os.path.dirname(path)
    descriptor, temporary = tempfile.mkstemp(prefix=os.path.basename(path) + ".", suffix=".part", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            if owner is not None:
                os.fchown(stream.fileno(), *owner)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    fsync_directory(folder)


def write_unsynced(path: str, data: bytes) -> None:
    """Write a file in a folder that nobody reads before fsync_tree has brought all of it to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(stream.fileno(), 0o640)
        stream.write(data)


def write_json(path: str, value: Any, mode: int = 0o640, owner: tuple[int, int] | None = None) -> None:
    """Like write_atomic, for a JSON document with sorted keys."""
    write_atomic(path, json_text(value), mode, owner)


def json_text(value: Any) -> bytes:
    """A JSON document as it is written to files."""
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _plain(path: str) -> IO[bytes]:
    """A file of an account's to read: no link it may have put there leads anywhere, and no pipe is waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a plain file", path)
    return os.fdopen(descriptor, "rb")


def unreadable(path: str, error: OSError) -> ResilientVmError:
    """What to say of a file that can't be read."""
    return ResilientVmError(
        f"{path} can't be read ({error.strerror}); look at this machine's disks, or move it aside", path=path
    )


def read_json(path: str) -> Any:
    """The document in a JSON file, or None when there is no such file.

    Raises ResilientVmError when what is there is not JSON.
    """
    try:
        with _plain(path) as stream:
            data = stream.read(_MAX_JSON + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    if len(data) > _MAX_JSON:
        raise ResilientVmError(f"{path} is larger than any document of this collection; move it aside", path=path)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ResilientVmError(f"{path} is damaged ({error}); move it aside or restore it", path=path) from error


@contextlib.contextmanager
def locked(path: str, purpose: str) -> Iterator[None]:
    """Hold a VM's lock; never waits. The holder is named in the message of whoever comes second.

    flock, not a PID file: the kernel releases it when the holder or the machine dies.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o660)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            holder = os.pread(descriptor, 300, 0).decode("utf-8", "replace").strip() or "another process"
            raise ResilientVmError(
                f"{path} is held by {holder}; wait for it to end and run again", path=path, holder=holder
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{purpose} (process {os.getpid()})\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def moment(path: str, purpose: str, sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """A VM's lock, waited for (ten seconds) where its holder needs it for a moment only."""
    for left in range(_LOCK_TRIES, -1, -1):
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(path, purpose))
            except ResilientVmError:
                if not left:
                    raise
            else:
                yield
                return
        sleep(_LOCK_PAUSE_SECONDS)


@contextlib.contextmanager
def waited(path: str) -> Iterator[None]:
    """Hold a lock that everybody holds for moments only, once whoever holds it is done. Makes its folder."""
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def clone_descriptor(source: int, target: int) -> bool:
    """Make an empty file share all blocks of another one; False where the filesystem cannot."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def clone_file(source: str, target: str, write_bytes: int) -> None:
    """Make target a reflink copy of source: same content, shared blocks, constant time.

    ``write_bytes``: how large the pieces are that will be written to it, a multiple of 4096. Raises OSError
    (EOPNOTSUPP, EXDEV, EINVAL…) where the filesystem cannot; target is then gone again.
    """
    with open(source, "rb") as old, open(target, "xb") as new:
        try:
            _set_cow_size(new.fileno(), write_bytes)
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError:
            os.unlink(target)
            raise


def _set_cow_size(descriptor: int, write_bytes: int) -> None:
    """Have XFS give a write to a shared block the room it needs. Its own habit is 128 KiB: scattered blocks of 64 KiB
    then take twice their size (measured: 51.7 MB for 26.2). Other filesystems know no such thing."""
    try:
        flags, extent, _extents, project, _cow = _ATTRIBUTES.unpack(
            fcntl.ioctl(descriptor, _GET_ATTRIBUTES, bytes(_ATTRIBUTES.size))
        )
        wish = _ATTRIBUTES.pack(flags | _HAS_COW_SIZE, extent, 0, project, write_bytes)
        fcntl.ioctl(descriptor, _SET_ATTRIBUTES, wish)
    except OSError as error:
        if error.errno not in _NO_COW_SIZE:
            raise


def reflink_works(folder: str) -> bool:
    """Whether files in folder can share blocks, found by doing it once, on files that never get a name."""
    try:
        source = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:
        _refuse_full(folder, error)
        return False  # a filesystem without nameless files (NFS, FAT) has no reflink either
    try:
        os.write(source, b"reflink" * 1000)
        clone = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
        try:
            return clone_descriptor(source, clone)
        finally:
            os.close(clone)
    except OSError as error:
        _refuse_full(folder, error)
        raise
    finally:
        os.close(source)


def _refuse_full(folder: str, error: OSError) -> None:
    """A full filesystem looks like one that can't share blocks."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise ResilientVmError(f"{folder} has no space left ({error.strerror}); free some, and run again") from error


def data_ranges(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, end) byte ranges of a sparse file that hold data; the rest are holes and read as zeros."""
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        if start >= size:
            return
        yield start, end
        position = end


def zero_range(descriptor: int, offset: int, length: int) -> None:
    """Make a range of a file read as zeros and give its space back. Raises OSError where no hole can be made."""
    _libc("fallocate64", descriptor, _KEEP_SIZE_AND_PUNCH_HOLE, ctypes.c_long(offset), ctypes.c_long(length))


def begin_writeback(descriptor: int) -> None:
    """Have the kernel begin to write what a file holds that is not on the disk yet, and don't wait for its end."""
    _libc("sync_file_range", descriptor, ctypes.c_long(0), ctypes.c_long(0), _BEGIN_WRITEBACK)


def _libc(function: str, *arguments: Any) -> None:
    """Call what Python has no name for. Raises OSError where it fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def remove_tree(path: str) -> None:
    """Erase a directory so that a crash half-way never leaves something that looks whole under its name.

    The directory first takes a name nobody lists (leading dot), then goes.
    """
    folder, name = os.path.split(path)
    hidden = path if name.startswith(".") else os.path.join(folder, f".{name}.erased")
    if hidden != path:
        if os.path.lexists(hidden):
            shutil.rmtree(hidden)
        os.rename(path, hidden)
        fsync_directory(folder)
    shutil.rmtree(hidden)
    fsync_directory(folder)
