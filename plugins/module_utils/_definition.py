# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine definition that goes with an image: domain XML, NVRAM, TPM state, each read until it holds still."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import time
from typing import Callable

from ._errors import ResilientVmError
from ._files import fsync_directory, write_atomic
from ._manifest import NVRAM, TPM, XML, check_uuid

__all__ = ["NVRAM", "SWTPM", "TPM", "XML", "capture", "settled", "unpack_tpm"]

SWTPM = "/var/lib/libvirt/swtpm"
_TRIES = 10
_PAUSE_SECONDS = 0.2


def capture(
    folder: str,
    inactive_xml: str,
    nvram: str,
    tpm_uuid: str,
    owner: tuple[int, int],
    sleep: Callable[[float], None] = time.sleep,
    tpm_root: str = SWTPM,
) -> list[dict[str, str]]:
    """Write the definition's files into folder, readable by the account only; what was written.

    ``nvram`` is "" for BIOS machines, ``tpm_uuid`` "" for machines without an emulated TPM. A machine that
    never started has neither file yet: libvirt makes them from its templates, so there is nothing to keep.
    """
    # The XML holds what the machine needs to start elsewhere, VNC passwords included: never world readable.
    files = {XML: inactive_xml.encode()}
    if nvram and os.path.exists(nvram):
        files[NVRAM] = settled(nvram, lambda: _content(nvram), sleep)
    state = os.path.join(tpm_root, tpm_uuid)
    if tpm_uuid and os.path.isdir(state):
        files[TPM] = settled(state, lambda: _archive(state), sleep)
    for name, data in files.items():
        write_atomic(os.path.join(folder, name), data, 0o640, owner)
    return [{"name": name} for name in files]


def settled(path: str, read: Callable[[], bytes], sleep: Callable[[float], None] = time.sleep) -> bytes:
    """What two readings in a row agree on: QEMU and swtpm replace these files while the machine runs."""
    before = None
    for _attempt in range(_TRIES):
        try:
            now = read()
        except FileNotFoundError:
            now = None  # replaced between listing and reading
        if now is not None and now == before:
            return now
        before = now
        sleep(_PAUSE_SECONDS)
    raise ResilientVmError(f"{path} did not hold still for {_TRIES} readings; run again", path=path)


def _content(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


def _archive(folder: str) -> bytes:
    """A tar of a folder that is the same bytes for the same content: sorted, without owners and times."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for place, folders, names in os.walk(folder):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(place, name)
                # swtpm's lock says who uses the state, not what the state is.
                if name == ".lock" or not os.path.isfile(path) or os.path.islink(path):
                    continue
                data = _content(path)
                entry = tarfile.TarInfo(os.path.relpath(path, folder))
                entry.size = len(data)
                entry.mode = 0o600
                archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def unpack_tpm(path: str, uuid: str, swtpm: str = SWTPM) -> None:
    """Give a machine of this UUID the state of the TPM that an image holds; nothing when it holds none."""
    if not os.path.exists(path):
        return
    # It becomes the name of a folder that is erased, and a machine of another customer has one there.
    check_uuid(uuid, path)
    folder = os.path.join(swtpm, uuid)
    if os.path.lexists(folder):
        shutil.rmtree(folder)
    for place in (swtpm, folder):
        # libvirt's own modes, whatever the caller's umask is: swtpm's account has to get through.
        if not os.path.isdir(place):
            os.makedirs(place)
            os.chmod(place, 0o711)
    with tarfile.open(path) as archive:
        for member in archive:
            name = os.path.normpath(member.name)
            if not member.isfile() or os.path.isabs(name) or name.startswith(".."):
                raise ResilientVmError(f"{path} holds {member.name!r}, which is no file of a TPM; it is not unpacked")
            target = os.path.join(folder, name)
            os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
            content = archive.extractfile(member)
            # libvirt gives it to swtpm's account when the machine starts.
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content.read() if content is not None else b"")
    fsync_directory(folder)
