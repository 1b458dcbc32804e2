# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vm_snapshot decides before anything is touched, and then does: open, adopt or close a snapshot."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Callable

from . import _backup, _clock, _domain, _leftovers, _snapshot, _units, _virsh
from ._errors import ResilientVmError
from ._files import locked, read_json, write_json
from ._layout import Layout
from ._open_snapshot import open_document
from ._process import Runner

__all__ = ["ClosePlan", "OpenPlan", "Wish", "close", "open_snapshot", "plan_close", "plan_open"]

_OPEN_SECONDS = 180.0
# Looking for what a unit leaves costs nothing; asking systemd whether it lives starts a program.
_LOOK_SECONDS = 0.02
_ASK_EVERY = 50
_UNIT_PROPERTIES = ("RuntimeMaxSec=90", "TimeoutStopSec=900")


@dataclass(frozen=True)
class Wish:
    """What vm_snapshot was asked for."""

    domain: str
    uuid: str | None = None
    epoch: int = 1
    base: Mapping[str, Any] | None = None
    newest_id: str | None = None
    adopt_id: str | None = None
    exclude_disks: Sequence[str] = ()
    freeze: bool = True
    expire_seconds: int = 600
    scratch_floor_bytes: int = 1 << 30
    destinations: Sequence[Mapping[str, Any]] = ()
    now: str | None = None


@dataclass(frozen=True)
class OpenPlan:
    """What opening will do. ``adopted`` is the document of a snapshot that is open already and stays."""

    uuid: str
    before: dict[str, Any]
    after: dict[str, Any]
    adopted: dict[str, Any] | None = None
    request: dict[str, Any] = field(default_factory=dict)
    estimate_bytes: int = 0
    delete: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        return self.adopted is None


@dataclass(frozen=True)
class ClosePlan:
    """What closing will do."""

    uuid: str | None
    leftovers: _leftovers.Leftovers
    delete: tuple[str, ...]
    keep: tuple[str, ...]

    @property
    def changes(self) -> bool:
        return bool(self.leftovers or self.delete)

    @property
    def before(self) -> dict[str, Any]:
        return {
            "open": bool(self.leftovers),
            "leftovers": self.leftovers.as_dict(),
            "checkpoints": sorted((*self.keep, *self.delete)),
        }

    @property
    def after(self) -> dict[str, Any]:
        return {"open": False, "leftovers": _leftovers.Leftovers().as_dict(), "checkpoints": sorted(self.keep)}


def plan_open(layout: Layout, run: Runner, wish: Wish) -> OpenPlan:
    """Decide everything and refuse what can't be, without touching anything."""
    virsh = _virsh.Virsh(run)
    uuid = _identify(virsh, layout, wish)
    facts = virsh.facts(uuid)
    leftovers = _leftovers.find(layout, run, facts.job)
    found = open_document(layout, facts.job)
    before = {
        "open": found["id"] if found else None,
        "leftovers": leftovers.as_dict(),
        "checkpoints": sorted(facts.own_checkpoints),
    }
    if found and wish.adopt_id and found["id"] == wish.adopt_id:
        return OpenPlan(uuid, before, before, adopted=found)
    selection = _select(layout, facts, wish)
    kept = _kept(wish.base)
    counting = [name for name in facts.own_checkpoints if name in kept] if facts.running else []
    details = virsh.details(uuid, facts.running, facts.own_checkpoints, counting)
    _check_jobs(layout, facts, details.busy)
    _check_host(layout, wish, facts.running)
    instant = _clock.now(wish.now)
    if wish.newest_id and _clock.image_id(instant) <= wish.newest_id:
        raise ResilientVmError(
            f"the clock of this host says {_clock.iso(instant)}, not later than the newest image {wish.newest_id} of "
            f"{layout.name}; set the clocks"
        )
    wanted = _backup.choose(selection.taken, facts.sizes, wish.base, details.sources)
    estimate = _backup.estimate_bytes(wanted, facts.sizes, details.sizes)
    _check_space(estimate, wish.destinations)
    # Of a stopped machine's disks nothing is written, so its checkpoints stay until it runs again.
    delete = tuple(name for name in facts.own_checkpoints if name not in kept) if facts.running else ()
    name = f"{_virsh.OURS}{_clock.image_id(instant)}-{os.urandom(3).hex()}"
    targets = {disk.target for disk in selection.taken}
    request = {
        "schema": 1,
        "root": layout.root,
        "customer": layout.customer,
        "vm": layout.vm,
        "domain": wish.domain,
        "uuid": uuid,
        "epoch": wish.epoch,
        "now": wish.now,
        "newest_id": wish.newest_id,
        "running": facts.running,
        "state": f"{facts.state} ({facts.reason})",
        "checkpoint": name,
        "standing": _standing(wish.base, facts.own_checkpoints, details.sources, selection.taken),
        "base_image": (wish.base or {}).get("image_id"),
        "disks": [asdict(disk) for disk in wanted],
        "others": [disk.target for disk in facts.domain.disks if disk.target not in targets],
        "skipped": list(selection.skipped),
        "excluded": list(selection.excluded),
        "freeze_refused": _no_freeze(wish, facts),
        "nvram": facts.domain.nvram,
        "tpm": facts.domain.tpm,
        "expire_seconds": wish.expire_seconds,
        "scratch_floor_bytes": wish.scratch_floor_bytes,
        "libvirt_version": details.libvirt_version,
        "qemu_version": details.qemu_version,
    }
    made = [name] if facts.running and any(disk.counted for disk in wanted) else []
    after = {
        "open": _clock.image_id(instant),
        "leftovers": _leftovers.Leftovers().as_dict(),
        "checkpoints": sorted({*facts.own_checkpoints, *made} - set(delete)),
    }
    return OpenPlan(uuid, before, after, request=request, estimate_bytes=estimate, delete=delete)


def _identify(virsh: _virsh.Virsh, layout: Layout, wish: Wish) -> str:
    domains = virsh.domains()
    uuid = domains.get(wish.domain)
    if uuid is None:
        raise ResilientVmError(
            f"this host has no domain {wish.domain} (VM {layout.name}); correct resilient_vm_domain, "
            "or the host the VM is on"
        )
    if wish.uuid and wish.uuid != uuid:
        raise ResilientVmError(
            f"domain {wish.domain} of this host has the UUID {uuid}, and VM {layout.name} is {wish.uuid}: another "
            "machine of that name; correct resilient_vm_domain, or take the VM out of protection first",
            uuid=uuid,
        )
    return uuid


def _select(layout: Layout, facts: _virsh.Facts, wish: Wish) -> _domain.Selection:
    selection = _domain.select(facts.domain, wish.exclude_disks)
    if selection.refused:
        named = ", ".join(f"{item['target']} ({item['reason']})" for item in selection.refused)
        raise ResilientVmError(
            f"VM {layout.name} has what can't be copied as a plain disk: {named}; remove it, or name it in "
            "resilient_vm_exclude_disks to leave it out of every image",
            refused=list(selection.refused),
        )
    if not selection.taken:
        raise ResilientVmError(f"VM {layout.name} has no disk to take an image of; correct resilient_vm_exclude_disks")
    for disk in selection.taken:
        if disk.target not in facts.sizes:
            raise ResilientVmError(
                f"libvirt can't tell the size of disk {disk.target} ({disk.source}) of {layout.name}; "
                "look at virsh domblkinfo"
            )
    return selection


def _check_jobs(layout: Layout, facts: _virsh.Facts, busy: str) -> None:
    if facts.job is not None:
        if not facts.job.within(layout.run):
            raise ResilientVmError(
                f"somebody else's backup job is active on domain {facts.domain.name}; wait for it, "
                "or end it (virsh domjobabort)"
            )
        return
    if busy:
        raise ResilientVmError(f"libvirt is busy with domain {facts.domain.name}: {busy}; wait for it to end")


def _check_host(layout: Layout, wish: Wish, running: bool) -> None:
    site = "run the site playbook"
    if not os.access(_units.MOVER, os.X_OK):
        raise ResilientVmError(f"{_units.MOVER} is not on this host; {site}")
    try:
        pwd.getpwnam(layout.account)
    except KeyError as error:
        raise ResilientVmError(f"account {layout.account} is not on this host; {site}") from error
    if not os.path.isdir(layout.scratch) or not os.path.isdir(layout.runtime):
        missing = layout.runtime if os.path.isdir(layout.scratch) else layout.scratch
        raise ResilientVmError(f"{missing} is not on this host; {site}")
    space = os.statvfs(layout.scratch)
    free = space.f_bavail * space.f_frsize
    if running and free < wish.scratch_floor_bytes:
        raise ResilientVmError(
            f"no space for scratch files in {layout.scratch}: {_size(free)} free, the floor is "
            f"{_size(wish.scratch_floor_bytes)}; free some, or lower resilient_vm_scratch_floor_bytes",
            free_bytes=free,
        )


def _check_space(estimate: int, destinations: Sequence[Mapping[str, Any]]) -> None:
    for place in destinations:
        free, reserve = int(place["free_bytes"]), int(place.get("reserve_bytes") or 0)
        if estimate + reserve > free:
            raise ResilientVmError(
                f"no space on {place['name']}: {_size(estimate)} needed and {_size(reserve)} held in reserve, "
                f"{_size(free)} free; add space, keep fewer days, or lower resilient_vm_reserve_bytes",
                estimate_bytes=estimate,
                free_bytes=free,
            )


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.1f} MiB"


def _kept(base: Mapping[str, Any] | None) -> set[str]:
    """The checkpoints the newest image counts on; every other one of ours has no image any more."""
    disks = ((base or {}).get("disks") or {}).values()
    return {name for name in ((base or {}).get("checkpoint"), *(disk.get("checkpoint") for disk in disks)) if name}


def _standing(
    base: Mapping[str, Any] | None,
    names: Sequence[str],
    sources: Mapping[str, Mapping[str, str]],
    disks: Sequence[_domain.Disk],
) -> list[str]:
    """Our checkpoints on these very files, the newest image's first: of a stopped machine one may go on counting."""
    kept = _kept(base)
    ordered = sorted(sorted(names, reverse=True), key=lambda name: name not in kept)
    return [
        name
        for name in ordered
        if all(sources.get(name, {}).get(disk.target, disk.source) == disk.source for disk in disks)
    ]


def _no_freeze(wish: Wish, facts: _virsh.Facts) -> str:
    if not wish.freeze:
        return "freezing is switched off for this machine"
    if not facts.domain.agent:
        return "the machine has no channel for a guest agent"
    if facts.state != "running":
        return f"the machine is {facts.state}"
    if not facts.domain.agent_connected:
        return "no guest agent runs in the machine"
    return ""


def open_snapshot(
    layout: Layout, run: Runner, plan: OpenPlan, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    """Do what the plan says; the document of the open snapshot."""
    if plan.adopted is not None:
        return plan.adopted
    with locked(layout.lock, "vm_snapshot"):
        virsh = _virsh.Virsh(run)
        _leftovers.remove(layout, run, virsh, plan.uuid)
        for name in plan.delete:
            virsh.delete_checkpoint(plan.uuid, name)
        _make_folders(layout)
        write_json(_snapshot.request_file(layout), plan.request)
        unit = layout.unit("begin")
        _units.start(
            run,
            unit,
            [_units.MOVER, "begin", layout.name],
            [*_UNIT_PROPERTIES, f"ExecStopPost={_units.MOVER} thaw {layout.name}"],
        )
        # Asked for by its files, not by the unit's end: that may still be thawing a guest whose agent is deaf.
        running = True
        for attempt in range(int(_OPEN_SECONDS / _LOOK_SECONDS)):
            if attempt % _ASK_EVERY == _ASK_EVERY - 1:
                # Before its files are read: a unit that ends in between has left them by then.
                running = _units.active(run, unit)
            error = read_json(_snapshot.error_file(layout))
            document = read_json(layout.snapshot)
            if error is not None:
                _leftovers.remove(layout, run, virsh, plan.uuid)
                raise ResilientVmError(error["message"], **error["facts"])
            if document is not None and _snapshot.finished(layout):
                return dict(document)
            if not running:
                break
            sleep(_LOOK_SECONDS)
        _leftovers.remove(layout, run, virsh, plan.uuid)
        raise ResilientVmError(f"{unit}.service ended without opening the snapshot; see journalctl -u {unit}")


def _make_folders(layout: Layout) -> None:
    """The run folder: read by root, so written by root alone; QEMU and the account have a room each."""
    account = pwd.getpwnam(layout.account)
    os.makedirs(os.path.dirname(layout.run), mode=0o711, exist_ok=True)
    for path, mode, owner in (
        (layout.run, 0o711, (0, account.pw_gid)),
        (layout.definition, 0o750, (0, account.pw_gid)),
        (_leftovers.qemu_folder(layout), 0o710, (0, account.pw_gid)),
        (_leftovers.account_folder(layout), 0o750, (account.pw_uid, account.pw_gid)),
    ):
        os.mkdir(path)
        os.chown(path, *owner)
        os.chmod(path, mode)


def plan_close(layout: Layout, run: Runner, domain: str, keep_checkpoint: str | None) -> ClosePlan:
    """What there is to take away. ``keep_checkpoint``: None keeps all checkpoints, "" none, else exactly that one."""
    virsh = _virsh.Virsh(run)
    uuid = virsh.domains().get(domain)
    if uuid is None:
        return ClosePlan(None, _leftovers.find(layout, run, None), (), ())
    facts = virsh.facts(uuid)
    own = facts.own_checkpoints
    # libvirt deletes checkpoints of running machines only; those of a stopped one go at the next chance.
    untouched = keep_checkpoint is None or not facts.running
    superfluous = () if untouched else tuple(name for name in own if name != keep_checkpoint)
    keep = tuple(name for name in own if name not in superfluous)
    return ClosePlan(uuid, _leftovers.find(layout, run, facts.job), superfluous, keep)


def close(layout: Layout, run: Runner, plan: ClosePlan) -> None:
    """Do what the plan says."""
    if not plan.changes:
        return
    with locked(layout.lock, "vm_snapshot"):
        virsh = _virsh.Virsh(run)
        _leftovers.remove(layout, run, virsh, plan.uuid)
        if plan.uuid is not None:
            for name in plan.delete:
                virsh.delete_checkpoint(plan.uuid, name)
