# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small machine that reads an image's file systems: libguestfs, told what to do over a pipe.

Runs in the mover as a customer's account, in a unit of its own. A request comes in as one line, an answer goes out as
one; after the word to go on, what was asked for follows as a tar archive. Nothing of it is trusted at the other end.
"""

from __future__ import annotations

import json
import os
import stat
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Callable

from ._errors import ResilientVmError
from ._human import human_size

__all__ = ["GO", "PACKAGES", "Appliance", "serve"]

# What the other end says when it has read the answer and wants the files.
GO = b"go\n"
PACKAGES = (
    "python3-guestfs and libguestfs-xfs on Debian and Ubuntu, python3-libguestfs and libguestfs-xfs on Enterprise Linux"
)
# What list_filesystems tells of besides file systems.
_NO_FILE_SYSTEM = ("swap", "unknown", "crypto_LUKS", "BitLocker", "LVM2_member", "linux_raid_member", "zfs_member")
# How it names a subvolume of Btrfs: with its device and its path.
_SUBVOLUME = "btrfsvol:"
_ENCRYPTED = ("crypto_LUKS", "BitLocker")
_KINDS: tuple[tuple[Callable[[int], bool], str, bytes], ...] = (
    (stat.S_ISREG, "file", tarfile.REGTYPE),
    (stat.S_ISDIR, "directory", tarfile.DIRTYPE),
    (stat.S_ISLNK, "link", tarfile.SYMTYPE),
    (stat.S_ISCHR, "device", tarfile.CHRTYPE),
    (stat.S_ISBLK, "device", tarfile.BLKTYPE),
)
_OTHER = (stat.S_ISFIFO, "pipe", tarfile.FIFOTYPE)


def _library() -> Any:
    """A new handle of the library, which answers with dictionaries."""
    try:
        import guestfs
    except ImportError as error:
        raise ResilientVmError(
            f"libguestfs is not on this machine; install {PACKAGES}, or set resilient_vm_restore_files_tools and run "
            "the site playbook"
        ) from error
    return guestfs.GuestFS(python_return_dict=True)


def _kind(mode: int) -> tuple[str, bytes]:
    found = next((entry for entry in _KINDS if entry[0](mode)), _OTHER)
    return found[1], found[2]


class Appliance:
    """The file systems of one image's disks, named as the guest's definition names them: ``vda1``, ``/dev/vg/lv``."""

    def __init__(self, handle: Any, disks: Sequence[Mapping[str, str]]) -> None:
        self._handle = handle
        # Not the library's own backend by default: libvirt's would have another account read the images.
        handle.set_backend("direct")
        # A label has nothing but letters.
        labels = {f"{chr(97 + at // 26)}{chr(97 + at % 26)}": disk for at, disk in enumerate(disks)}
        for label, disk in labels.items():
            # Read-only: what is written when a journal is replayed goes to an overlay that is thrown away.
            handle.add_drive_opts(disk["path"], readonly=True, format="raw", label=label)
        try:
            handle.launch()
        except RuntimeError as error:
            raise ResilientVmError(
                f"libguestfs can't start its appliance: {_one_line(error).partition(' To see full')[0]} Run "
                "libguestfs-test-tool on this machine, which says what it lacks"
            ) from error
        known = handle.list_disk_labels()
        self._targets = {known[label]: disk["target"] for label, disk in labels.items()}
        self._found: dict[str, str] = {**handle.list_filesystems(), **self._encrypted()}

    def _encrypted(self) -> dict[str, str]:
        """What only its key opens. The library's list of file systems leaves LUKS out, which is none by itself."""
        places = [*self._handle.list_devices(), *self._handle.list_partitions()]
        if self._handle.feature_available(["lvm2"]):
            places += self._handle.lvs()
        kinds = {place: self._handle.vfs_type(place) for place in places}
        return {place: kind for place, kind in kinds.items() if kind in _ENCRYPTED}

    def _name(self, device: str) -> str:
        """A device as the guest's definition names its disk; volumes of LVM and RAID keep the name they have."""
        path = device[len(_SUBVOLUME) :] if device.startswith(_SUBVOLUME) else device
        for disk, target in sorted(self._targets.items(), key=lambda item: -len(item[0])):
            if path.startswith(disk):
                return device[: -len(path)] + target + path[len(disk) :]
        return device

    def file_systems(self) -> list[dict[str, Any]]:
        """Everything that looks like one, in the order of the disks; encrypted and unknown ones too."""
        return [
            {
                "device": self._name(device),
                "type": kind,
                "size_bytes": None if device.startswith(_SUBVOLUME) else self._handle.blockdev_getsize64(device),
                "encrypted": kind in _ENCRYPTED,
            }
            for device, kind in sorted(self._found.items())
        ]

    def mount(self, wanted: str) -> dict[str, str]:
        """Mount what was asked for, else what the guest's own system mounts. Returns device by mount point."""
        readable = {self._name(device): device for device, kind in self._found.items() if kind not in _NO_FILE_SYSTEM}
        if not readable:
            there = self._told()
            raise ResilientVmError(
                f"this image has no file system that can be read{f': {there}' if there else ''}; restore its disks, "
                "and open them where their keys are"
            )
        choice = f"name one with resilient_vm_restore_files_device: {self._told()}"
        if wanted:
            if wanted not in readable:
                raise ResilientVmError(f"{wanted} is no file system of this image that can be read; {choice}")
            return self._mounted({"/": readable[wanted]})
        roots = self._handle.inspect_os()
        if len(roots) == 1:
            return self._mounted(self._handle.inspect_get_mountpoints(roots[0]))
        if not roots and len(readable) == 1:
            return self._mounted({"/": next(iter(readable.values()))})
        what = "several operating systems" if roots else "several file systems and no system that says where they go"
        raise ResilientVmError(f"this image has {what}; {choice}")

    def _told(self) -> str:
        return ", ".join(
            f"{entry['device']} ({'encrypted, ' if entry['encrypted'] else ''}{entry['type']}"
            + (f", {human_size(entry['size_bytes'])})" if entry["size_bytes"] else ")")
            for entry in self.file_systems()
        )

    def _mounted(self, points: Mapping[str, str]) -> dict[str, str]:
        done = {}
        # The shorter first, and a mount point that the guest's fstab names in vain must not stand in the way.
        for point, device in sorted(points.items(), key=lambda item: len(item[0])):
            try:
                self._handle.mount_ro(device, point)
            except RuntimeError as error:
                if point == "/":
                    raise ResilientVmError(
                        f"file system {self._name(device)} can't be read: {_one_line(error)}"
                    ) from error
            else:
                done[point] = self._name(device)
        return done

    def listing(self, path: str, limit: int) -> dict[str, Any]:
        """What lies in a directory, at most so much of it, and how much there is; of anything else, itself."""
        found = self._look(path)
        if not self._handle.is_dir(path, followsymlinks=True):
            return {"path": path, "itself": True, "total": 1, "entries": [_entry(path, found)][:limit]}
        with tempfile.NamedTemporaryFile(prefix="names-") as listed:
            # Names in bytes: those that are no UTF-8 are told all the same.
            self._handle.ls0(path, listed.name)
            names = sorted(name for name in listed.read().split(b"\0") if name)
        texts = [name.decode("utf-8", "surrogateescape") for name in names[:limit]]
        asked = [text for text in texts if _is_utf8(text)]
        facts = dict(zip(asked, self._handle.lstatnslist(path, asked))) if asked else {}
        entries = [_entry(text, facts.get(text)) for text in texts]
        return {"path": path, "itself": False, "total": len(names), "entries": entries}

    def _look(self, path: str) -> dict[str, Any]:
        try:
            return dict(self._handle.lstatns(path))
        except RuntimeError as error:
            mounted = ", ".join(f"{self._name(entry[0])} at {entry[1]}" for entry in self._handle.mountpoints().items())
            raise ResilientVmError(f"there is no {path} in this image ({mounted})") from error

    def measure(self, path: str) -> dict[str, Any]:
        """What a path is, how many files that is, and how much space they take there."""
        found = self._look(path)
        kind = _kind(found["st_mode"])[0]
        if kind != "directory":
            return {"path": path, "type": kind, "files": 1, "bytes": found["st_size"]}
        with tempfile.NamedTemporaryFile(prefix="names-") as listed:
            self._handle.find0(path, listed.name)
            files = sum(piece.count(b"\0") for piece in iter(lambda: listed.read(1 << 20), b""))
        return {"path": path, "type": kind, "files": files + 1, "bytes": self._handle.du(path) * 1024}

    def pour(self, paths: Sequence[str], stream: BinaryIO) -> None:
        """All of these paths as one tar archive, named as in the guest without the first slash."""
        with tarfile.open(
            fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape"
        ) as archive:
            for path in paths:
                found = self._look(path)
                if stat.S_ISDIR(found["st_mode"]):
                    self._pour_directory(path, archive)
                else:
                    self._pour_one(path, found, archive)

    def _pour_directory(self, path: str, archive: tarfile.TarFile) -> None:
        with (
            self._piped(lambda pipe: self._handle.tar_out(path, pipe, numericowner=True)) as stream,
            tarfile.open(fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape") as inner,
        ):
            for member in inner:
                member.name = _under(path, member.name)
                if member.islnk():
                    member.linkname = _under(path, member.linkname)
                if member.name:
                    archive.addfile(member, inner.extractfile(member) if member.isreg() else None)
                # Both would keep every one they have seen.
                inner.members, archive.members = [], []  # type: ignore[attr-defined]

    def _pour_one(self, path: str, found: Mapping[str, Any], archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(_under(path, "."))
        member.type = _kind(found["st_mode"])[1]
        member.mode, member.uid, member.gid = stat.S_IMODE(found["st_mode"]), found["st_uid"], found["st_gid"]
        member.mtime = found["st_mtime_sec"]
        if member.issym():
            member.linkname = self._handle.readlink(path)
        if not member.isreg():
            archive.addfile(member)
            return
        member.size = found["st_size"]
        with self._piped(lambda pipe: self._handle.download(path, pipe)) as stream:
            archive.addfile(member, stream)

    @staticmethod
    @contextmanager
    def _piped(work: Callable[[str], None]) -> Iterator[BinaryIO]:
        """What the library writes into a file of that name, to be read while it does."""
        reader, writer = os.pipe()
        failures: list[Exception] = []

        def write() -> None:
            try:
                work(f"/dev/fd/{writer}")
            except RuntimeError as error:
                failures.append(error)
            finally:
                os.close(writer)

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        try:
            with os.fdopen(reader, "rb") as stream:
                yield stream
                # The zeros at an archive's end.
                while stream.read(1 << 20):
                    pass
        finally:
            thread.join()
            # The reason why an archive broke off, where one did.
            if failures:
                raise ResilientVmError(f"the image's file system can't be read: {_one_line(failures[0])}")


def _is_utf8(text: str) -> bool:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") == text


def _under(path: str, name: str) -> str:
    return os.path.normpath(os.path.join(path, name)).lstrip("/")


def _entry(name: str, found: Mapping[str, Any] | None) -> dict[str, Any]:
    if found is None:
        return {"name": name, "type": None}
    return {
        "name": name,
        "type": _kind(found["st_mode"])[0],
        "size_bytes": found["st_size"],
        "mode": f"{stat.S_IMODE(found['st_mode']):04o}",
        "uid": found["st_uid"],
        "gid": found["st_gid"],
        "mtime_seconds": found["st_mtime_sec"],
    }


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _answer(request: Mapping[str, Any]) -> tuple[Appliance, dict[str, Any]]:
    appliance = Appliance(_library(), request["disks"])
    answer: dict[str, Any] = {"file_systems": appliance.file_systems(), "mounted": {}, "listings": []}
    if request["list"] or request["take"]:
        answer["mounted"] = appliance.mount(request["device"])
    left = request["limit"]
    for path in request["list"]:
        listing = appliance.listing(path, left)
        answer["listings"].append(listing)
        left -= len(listing["entries"])
    answer["found"] = [appliance.measure(path) for path in request["take"]]
    return appliance, answer


def serve(reader: BinaryIO, writer: BinaryIO) -> int:
    """One conversation. Why nothing can be read is its answer, too."""
    request = json.loads(reader.readline())
    appliance = None
    try:
        appliance, answer = _answer(request)
    except ResilientVmError as error:
        answer = {"error": str(error)}
    except RuntimeError as error:
        answer = {"error": f"libguestfs can't read this image: {_one_line(error)}"}
    writer.write(json.dumps(answer).encode() + b"\n")
    writer.flush()
    if appliance is not None and request["take"] and reader.readline() == GO:
        appliance.pour(request["take"], writer)
        writer.flush()
    return 0
