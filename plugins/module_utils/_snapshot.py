# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening a snapshot, on the active host, inside the unit that always thaws: freeze, begin, thaw, tell.

The unit runs ``begin`` and, however that ends, ``thaw``. What to do is in ``request.json``; what was done is in
``snapshot.json``, or why not in ``error.json``.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import sys
import time
from dataclasses import replace
from typing import Any, Callable

from . import _backup, _clock, _definition, _leftovers, _offline, _qemu, _units, _virsh
from ._domain import STOPPED
from ._errors import ResilientVmError
from ._files import read_json, write_atomic, write_json
from ._layout import Layout
from ._process import Runner

__all__ = ["WATCH_PROPERTIES", "begin", "error_file", "finished", "request_file", "thaw"]

_FREEZE_SECONDS = 10.0
_BEGIN_SECONDS = 20.0
_THAW_SECONDS = 10.0
# libvirt gives up waiting for a domain's lock after 30 s: a begin that got no answer may still happen until then.
_LATE_SECONDS = 35.0
_RETRY_SECONDS = 0.3

# A watch that was killed starts again: an open snapshot must not be alone with the scratch space.
WATCH_PROPERTIES = ("Restart=on-failure", "RestartSec=1", "StartLimitIntervalSec=0")

Sleep = Callable[[float], None]


class _Unanswered(ResilientVmError):
    """libvirt was told to begin a backup and nobody knows whether it did."""


def request_file(layout: Layout) -> str:
    return os.path.join(layout.run, "request.json")


def error_file(layout: Layout) -> str:
    return os.path.join(layout.run, "error.json")


def _frozen_mark(layout: Layout) -> str:
    """There from before a freeze until the thaw is known to have worked."""
    return os.path.join(layout.run, "frozen")


def _unfinished_mark(layout: Layout) -> str:
    """There from before the begin until the snapshot is whole or undone."""
    return os.path.join(layout.run, "unfinished")


def begin(layout: Layout, run: Runner, sleep: Sleep = time.sleep) -> int:
    """Open the requested snapshot; the unit's exit code."""
    try:
        request = read_json(request_file(layout))
        if request is None:
            raise ResilientVmError(f"{request_file(layout)} is not there; open snapshots with the module vm_snapshot")
        layout = replace(layout, root=request["root"])
        write_atomic(_unfinished_mark(layout), b"")
        if request["running"]:
            _open_running(layout, run, request, sleep)
        else:
            _open_stopped(layout, run, request, sleep)
        os.unlink(_unfinished_mark(layout))
    except (ResilientVmError, OSError) as error:
        facts = error.facts if isinstance(error, ResilientVmError) else {}
        sys.stderr.write(f"{error}\n")
        write_json(error_file(layout), {"message": str(error), "facts": facts})
        return 1
    return 0


def thaw(layout: Layout, run: Runner, sleep: Sleep = time.sleep, clock: Callable[[], float] = time.monotonic) -> int:
    """What the unit does last, whatever happened to ``begin``: thaw the guest, and undo a half-open snapshot."""
    request = read_json(request_file(layout))
    if request is None:
        return 0
    virsh = _virsh.Virsh(run, sleep)
    while os.path.exists(_frozen_mark(layout)):
        # No limit of its own: the unit's TimeoutStopSec is one, and a frozen guest is worth every try.
        _try_to_thaw(layout, virsh, request["uuid"])
        sleep(_RETRY_SECONDS)
    until = clock() + _LATE_SECONDS
    while request["running"] and os.path.exists(_unfinished_mark(layout)) and clock() < until:
        with contextlib.suppress(_virsh.Unreachable):
            if virsh.abort_backup(request["uuid"], layout.run):
                break
        sleep(_RETRY_SECONDS)
    return 0


def _try_to_thaw(layout: Layout, virsh: _virsh.Virsh, uuid: str) -> int | None:
    """How many file systems were frozen until now; None when that could not be done yet."""
    try:
        count = virsh.thaw(uuid, _THAW_SECONDS)
    except ResilientVmError as error:
        sys.stderr.write(f"{error}\n")
        try:
            if virsh.state(uuid)[0] not in ("", *STOPPED):
                return None
        except ResilientVmError:
            return None
        count = 0
    os.unlink(_frozen_mark(layout))
    return count


def _freeze(layout: Layout, virsh: _virsh.Virsh, request: dict[str, Any]) -> tuple[int, str]:
    """(file systems frozen, why none)."""
    if request["freeze_refused"]:
        return 0, request["freeze_refused"]
    write_atomic(_frozen_mark(layout), b"")
    try:
        count = virsh.freeze(request["uuid"], _FREEZE_SECONDS)
    except ResilientVmError as error:
        return 0, f"the guest agent did not freeze the file systems: {error}"
    return count, "" if count else "the guest has no file system that can be frozen"


def _thaw_now(layout: Layout, virsh: _virsh.Virsh, uuid: str, frozen: int, sleep: Sleep) -> int:
    """Thaw within seconds or raise; what the agent says was still frozen when it thawed."""
    if not os.path.exists(_frozen_mark(layout)):
        return 0
    for _attempt in range(20):
        count = _try_to_thaw(layout, virsh, uuid)
        if count is not None:
            return count
        if not frozen:
            # Nothing said it froze, and the agent is deaf: the unit's end goes on asking, the image need not wait.
            return 0
        sleep(_RETRY_SECONDS)
    raise ResilientVmError(
        "the guest's file systems could not be thawed; the snapshot is given up and thawing goes on in "
        f"{layout.unit('begin')}.service"
    )


def _open_running(layout: Layout, run: Runner, request: dict[str, Any], sleep: Sleep) -> None:
    virsh = _virsh.Virsh(run, sleep)
    uuid = request["uuid"]
    qemu = _qemu.find(request["domain"])
    if qemu is None:
        raise ResilientVmError(f"domain {request['domain']} stopped while its snapshot was being opened; run again")
    account = pwd.getpwnam(layout.account)
    os.chown(_leftovers.qemu_folder(layout), qemu.user, account.pw_gid)
    thawed = 0
    try:
        frozen, reason = _freeze(layout, virsh, request)
        try:
            wanted = _begin_backup(layout, virsh, request)
            instant = _clock.now(request["now"])
        finally:
            thawed = _thaw_now(layout, virsh, uuid, frozen, sleep)
        if frozen and not thawed:
            # Windows lets writes go on by itself after ten seconds: then the freeze was over before the begin.
            reason = "the guest thawed by itself before the snapshot began"
        # Ours now, not the group's: QEMU's own mode may keep the group out. A link is never followed.
        os.chown(layout.socket, account.pw_uid, account.pw_gid, follow_symlinks=False)
        checkpoint = request["checkpoint"] if any(disk.counted for disk in wanted) else None
        disks = [
            {
                "target": disk.target,
                "size_bytes": disk.size_bytes,
                "format": disk.format,
                "socket": layout.socket,
                "export": disk.target,
                "checkpoint": checkpoint if disk.counted else None,
                "bitmap": _backup.bitmap_name(disk.target) if disk.base else None,
                "bitmap_base": request["base_image"] if disk.base else None,
                "reason": disk.reason,
            }
            for disk in wanted
        ]
        facts = {
            "consistency": "filesystem" if frozen and thawed else "crash",
            "consistency_reason": "" if frozen and thawed else reason,
            "checkpoint": checkpoint,
            "disks": disks,
            "qemu": {"pid": qemu.pid, "started": qemu.started},
        }
        _finish(layout, run, virsh, request, instant, facts)
    except Exception as error:
        _undo(layout, virsh, request, late=isinstance(error, _Unanswered))
        raise


def _begin_backup(layout: Layout, virsh: _virsh.Virsh, request: dict[str, Any]) -> list[_backup.Wanted]:
    """Begin the job with as many bitmaps as libvirt lets us have; how it was begun.

    A refused bitmap is found by trying: its checkpoint may be listed while the bitmap itself died with a QEMU.
    """
    wanted = [_backup.Wanted(**disk) for disk in request["disks"]]
    while True:
        refusal = _begin_once(layout, virsh, request, wanted)
        if not refusal:
            return wanted
        if any(disk.base for disk in wanted):
            dropped = _backup.blamed(refusal, wanted)
            wanted = [replace(disk, base=None, reason=refusal) if disk.target in dropped else disk for disk in wanted]
        elif any(disk.counted for disk in wanted):
            # qcow2 of the first version can't keep bitmaps, and names no disk when it says so.
            wanted = [replace(disk, counted=False, reason=refusal if disk.counted else disk.reason) for disk in wanted]
        else:
            raise ResilientVmError(f"libvirt can't begin a backup of domain {request['domain']}: {refusal}")


def _begin_once(layout: Layout, virsh: _virsh.Virsh, request: dict[str, Any], wanted: list[_backup.Wanted]) -> str:
    backup_file, checkpoint_file = os.path.join(layout.run, "backup.xml"), os.path.join(layout.run, "checkpoint.xml")
    others = request["others"]
    write_atomic(backup_file, _backup.backup_xml(wanted, others, layout.socket, layout.scratch).encode())
    checkpoint = _backup.checkpoint_xml(request["checkpoint"], wanted, others, f"resilient-vm {layout.name}")
    if checkpoint:
        write_atomic(checkpoint_file, checkpoint.encode())
    for disk in wanted:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_backup.scratch_file(layout.scratch, disk.target))
    try:
        return virsh.begin_backup(request["uuid"], backup_file, checkpoint_file if checkpoint else None, _BEGIN_SECONDS)
    except ResilientVmError as error:
        raise _Unanswered(str(error), **error.facts) from error


def _undo(layout: Layout, virsh: _virsh.Virsh, request: dict[str, Any], late: bool) -> None:
    """End what was begun. When libvirt is deaf, or may still begin late, the unit's end does it: the mark stays."""
    with contextlib.suppress(ResilientVmError):
        if virsh.abort_backup(request["uuid"], layout.run):
            virsh.delete_checkpoint(request["uuid"], request["checkpoint"])
        elif late:
            return
        os.unlink(_unfinished_mark(layout))


def _open_stopped(layout: Layout, run: Runner, request: dict[str, Any], sleep: Sleep) -> None:
    virsh = _virsh.Virsh(run, sleep)
    disks = request["disks"]
    chains = {disk["target"]: _offline.probe(run, disk["target"], disk["source"], disk["format"]) for disk in disks}
    files = sorted({path for chain in chains.values() for path in _offline.chain_files(chain)})
    _offline.settle(files, sleep=sleep)
    identities = {path: _offline.identity(path) for path in files}
    # Again, now that a write can no longer go unseen: nobody may have been writing when that was noted down.
    chains = {disk["target"]: _offline.probe(run, disk["target"], disk["source"], disk["format"]) for disk in disks}
    state = virsh.state(request["uuid"])[0]
    if state != "shut off":
        raise ResilientVmError(f"domain {request['domain']} was started while its snapshot was being opened; run again")
    instant = _clock.now(request["now"])
    saved = {target: _offline.bitmaps(chain) for target, chain in chains.items()}
    checkpoint = _standing(request, saved)
    served = []
    for disk in disks:
        target = disk["target"]
        wanted = _backup.Wanted(**disk)
        if wanted.base and wanted.base not in saved[target]:
            why = f"bitmap {wanted.base} was not saved when the machine stopped"
            wanted = replace(wanted, base=None, reason=why)
        socket = _offline.serve(
            run, layout, target, disk["source"], disk["format"], wanted.base, _leftovers.account_folder(layout), sleep
        )
        served.append(
            {
                "target": target,
                "size_bytes": wanted.size_bytes,
                "format": wanted.format,
                "socket": socket,
                "export": target,
                "checkpoint": checkpoint if checkpoint in saved[target] else None,
                "bitmap": wanted.base,
                "bitmap_base": request["base_image"] if wanted.base else None,
                "reason": wanted.reason,
            }
        )
    facts = {
        "consistency": "offline",
        "consistency_reason": f"the machine is {request['state']}",
        "checkpoint": checkpoint,
        "disks": served,
        "identities": identities,
    }
    _finish(layout, run, virsh, request, instant, facts)


def _standing(request: dict[str, Any], saved: dict[str, set[str]]) -> str | None:
    """The checkpoint whose bitmaps count on through this image: nothing is written while the machine is off."""
    for name in request["standing"]:
        if any(name in names for names in saved.values()):
            return str(name)
    return None


def _finish(
    layout: Layout, run: Runner, virsh: _virsh.Virsh, request: dict[str, Any], instant: Any, facts: dict[str, Any]
) -> None:
    """Add the definition, write the document and put it under watch."""
    account = pwd.getpwnam(layout.account)
    image_id = _clock.image_id(instant)
    if request["newest_id"] and image_id <= request["newest_id"]:
        raise ResilientVmError(
            f"the clock of this host says {_clock.iso(instant)}, not later than image {request['newest_id']}; "
            "set the clock"
        )
    definition = _definition.capture(
        layout.definition,
        virsh.inactive_xml(request["uuid"]),
        request["nvram"],
        request["uuid"] if request["tpm"] else "",
        (0, account.pw_gid),
    )
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        boot = stream.read().strip()
    document = {
        "schema": 1,
        "id": image_id,
        "instant": _clock.iso(instant),
        **{key: request[key] for key in ("customer", "vm", "domain", "uuid", "epoch", "skipped", "excluded")},
        **{key: request[key] for key in ("libvirt_version", "qemu_version")},
        **facts,
        "opened_monotonic_boot": boot,
        "definition": definition,
    }
    write_json(layout.snapshot, document, 0o640, (0, account.pw_gid))
    _units.start(run, layout.unit("watch"), [_units.MOVER, "watch", layout.name], WATCH_PROPERTIES)


def finished(layout: Layout) -> bool:
    """Whether an opened snapshot is whole: its document is written and its watch stands."""
    return os.path.exists(layout.snapshot) and not os.path.exists(_unfinished_mark(layout))
