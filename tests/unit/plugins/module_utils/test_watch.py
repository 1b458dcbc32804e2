# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the guard of an open snapshot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from unit.libvirt_fakes import NO_JOB, UUID, Host, make_host, never, refused, said

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _offline, _qemu, _snapshot, _watch
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import read_json, write_json

QEMU = _qemu.Qemu(313, 7, 0)
DEAF = refused("error: failed to connect to the hypervisor")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = make_host(tmp_path, monkeypatch)
    os.makedirs(os.path.dirname(made.layout.heartbeat))
    os.makedirs(made.layout.definition)
    monkeypatch.setattr(_qemu, "find", lambda _domain: QEMU)
    made.world.answers["virsh backup-dumpxml"] = ours(made)
    made.world.answers["virsh domjobabort"] = lambda _words: ended(made)
    made.world.answers["virsh resume"] = said()
    return made


def ours(host: Host) -> Any:
    return said(f"<domainbackup><server socket='{host.layout.socket}'/></domainbackup>")


def ended(host: Host) -> Any:
    host.world.answers["virsh backup-dumpxml"] = refused(NO_JOB)
    return said()


def request(host: Host, **changed: Any) -> dict[str, Any]:
    return {
        "root": host.layout.root,
        "domain": "erp",
        "uuid": UUID,
        "running": True,
        "state": "running (booted)",
        "expire_seconds": 600,
        "scratch_floor_bytes": 0,
        **changed,
    }


def document(**changed: Any) -> dict[str, Any]:
    return {"id": "20260114T020000Z", "qemu": {"pid": 313, "started": 7}, "identities": {}, **changed}


def guard(host: Host, clock: Clock | None = None, opened: dict[str, Any] | None = None, **changed: Any) -> _watch.Watch:
    write_json(host.layout.snapshot, opened or document())
    return _watch.Watch(
        host.layout, host.world, request(host, **changed), opened or document(), never, clock or Clock()
    )


def verdict(host: Host) -> dict[str, Any]:
    return dict(read_json(host.layout.watch))


def test_a_good_snapshot_is_vouched_for_with_the_time_of_the_look(host: Host) -> None:
    assert guard(host).look() is False
    assert verdict(host) == {"checked": 100.0, "valid": True, "reason": "", "id": "20260114T020000Z"}


def test_the_time_vouched_for_is_from_before_the_look(host: Host) -> None:
    clock = Clock()

    def slow(_words: list[str]) -> Any:
        clock.now += 5
        return said("running (booted)")

    host.world.answers["virsh domstate"] = slow
    guard(host, clock).look()
    assert verdict(host)["checked"] == 100.0


def test_while_libvirt_is_silent_nothing_new_is_vouched_for_and_nothing_ends(host: Host) -> None:
    clock = Clock()
    watch = guard(host, clock)
    watch.look()
    host.world.answers["virsh domstate"] = DEAF
    clock.now = 200.0
    assert watch.look() is False
    assert verdict(host)["checked"] == 100.0


def broken(host: Host, monkeypatch: pytest.MonkeyPatch, how: str) -> dict[str, Any]:
    """Break one thing; what the request must say for it to count."""
    if how == "QEMU died":
        monkeypatch.setattr(_qemu, "find", lambda _domain: None)
    if how == "started anew":
        monkeypatch.setattr(_qemu, "find", lambda _domain: _qemu.Qemu(313, 8, 0))
    if how == "job gone":
        host.world.answers["virsh backup-dumpxml"] = refused(NO_JOB)
    if how == "another's job":
        host.world.answers["virsh backup-dumpxml"] = said("<domainbackup><server socket='/x'/></domainbackup>")
    if how == "halted":
        host.world.answers["virsh domstate"] = said("paused (I/O error)")
    return {"scratch_floor_bytes": 1 << 62} if how == "no space" else {}


@pytest.mark.parametrize(
    ("how", "reason", "aborted"),
    [
        ("QEMU died", "stopped or was started anew", True),
        ("started anew", "stopped or was started anew", True),
        ("job gone", "is gone", False),
        ("another's job", "is gone", False),
        ("halted", "because a write failed", True),
        ("no space", "less than the floor", True),
    ],
)
def test_what_breaks_a_snapshot_is_told_and_everything_cleared(
    host: Host, monkeypatch: pytest.MonkeyPatch, how: str, reason: str, aborted: bool
) -> None:
    Path(host.layout.scratch, "vda.scratch.qcow2").write_bytes(b"")
    assert guard(host, **broken(host, monkeypatch, how)).look() is True
    assert verdict(host)["valid"] is False
    assert reason in verdict(host)["reason"]
    assert bool(host.world.asked("virsh domjobabort")) is aborted
    assert os.listdir(host.layout.scratch) == []
    assert not os.path.exists(host.layout.snapshot)


def test_a_machine_that_stops_during_a_look_is_the_reason_and_not_its_job(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(_words: list[str]) -> Any:
        monkeypatch.setattr(_qemu, "find", lambda _domain: None)
        return refused(NO_JOB)

    host.world.answers["virsh backup-dumpxml"] = stopping
    assert guard(host).look() is True
    assert "domain erp stopped" in verdict(host)["reason"]


def test_a_dead_qemu_is_seen_even_while_libvirt_is_silent(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_qemu, "find", lambda _domain: None)
    host.world.answers["virsh domstate"] = [DEAF, said("shut off (crashed)")]
    assert guard(host).look() is True


@pytest.mark.parametrize(
    ("state", "before", "resumed"),
    [
        ("paused (I/O error)", "running (booted)", True),
        ("paused (user)", "running (booted)", False),
        ("running (booted)", "running (booted)", False),
        ("paused (I/O error)", "paused (I/O error)", False),
    ],
)
def test_only_a_guest_that_qemu_halted_during_the_snapshot_is_resumed(
    host: Host, state: str, before: str, resumed: bool
) -> None:
    host.world.answers["virsh domstate"] = said(state)
    assert guard(host, scratch_floor_bytes=1 << 62, state=before).look() is True
    assert bool(host.world.asked("virsh resume")) is resumed


def test_the_guest_goes_on_before_the_rest_is_cleared_and_after_the_job_ended(host: Host) -> None:
    host.world.answers["virsh domstate"] = said("paused (I/O error)")
    guard(host).look()
    order = host.world.asked("virsh domjobabort", "virsh resume", "systemctl list-units")
    assert order == ["virsh domjobabort", "virsh resume", "systemctl list-units"]


def test_nobody_reading_ends_it_and_a_heartbeat_does_not(host: Host) -> None:
    clock = Clock()
    watch = guard(host, clock, expire_seconds=10)
    for beat in range(5):
        clock.now += 8
        Path(host.layout.heartbeat).write_text("")
        # However the reader's wall clock jumps: only that it moved counts.
        os.utime(host.layout.heartbeat, ns=(0, 10**9 * (5 - beat)))
        assert watch.look() is False
    clock.now += 8
    assert watch.look() is False
    clock.now += 8
    assert watch.look() is True
    assert "nobody read the snapshot for 10 seconds" in verdict(host)["reason"]


def test_a_published_image_ends_it_when_nobody_is_left_to_close_it(host: Host) -> None:
    clock = Clock()
    watch = guard(host, clock, expire_seconds=600)
    Path(host.layout.heartbeat).write_text("published\n")
    assert watch.look() is False
    clock.now += 50
    assert watch.look() is False
    clock.now += 20
    assert watch.look() is True
    assert "its image is published" in verdict(host)["reason"]


# a stopped machine


def stopped(host: Host, tmp_path: Path) -> tuple[_watch.Watch, Path]:
    file = tmp_path / "vda.qcow2"
    file.write_bytes(b"0" * 100)
    os.utime(file, (1000, 1000))
    host.world.answers["virsh domstate"] = said("shut off (shutdown)")
    host.world.answers["virsh backup-dumpxml"] = refused("error: domain is not running")
    opened = document(identities={str(file): _offline.identity(str(file))})
    return guard(host, opened=opened, running=False, scratch_floor_bytes=1 << 62), file


def test_a_stopped_machine_that_stays_so_is_vouched_for_whatever_the_scratch_space(host: Host, tmp_path: Path) -> None:
    watch, _file = stopped(host, tmp_path)
    assert watch.look() is False
    assert verdict(host)["valid"] is True


@pytest.mark.parametrize("state", ["running (booted)", "paused (starting up)", "in shutdown ()"])
def test_its_owners_start_wins(host: Host, tmp_path: Path, state: str) -> None:
    watch, _file = stopped(host, tmp_path)
    host.world.answers["virsh domstate"] = said(state)
    host.world.answers["systemctl list-units"] = said("resilient-vm-nbd-vda-acme.erp.service loaded active running x")
    host.world.answers["systemctl show"] = said("active")
    assert watch.look() is True
    assert "its start wins" in verdict(host)["reason"]
    assert host.world.asked("systemctl stop") == ["systemctl stop"]
    assert not host.world.asked("virsh resume")


def test_a_write_to_its_disk_behind_libvirts_back_ends_it(host: Host, tmp_path: Path) -> None:
    watch, file = stopped(host, tmp_path)
    with open(file, "r+b") as stream:
        stream.write(b"1")
    assert watch.look() is True
    assert "was written while it was read" in verdict(host)["reason"]


def test_its_disk_going_away_ends_it(host: Host, tmp_path: Path) -> None:
    watch, file = stopped(host, tmp_path)
    file.unlink()
    assert watch.look() is True
    assert "was removed" in verdict(host)["reason"]


# the unit


def test_a_watch_that_was_killed_while_it_ended_one_goes_on_with_the_first_reason(host: Host) -> None:
    write_json(_snapshot.request_file(host.layout), request(host))
    write_json(host.layout.snapshot, document())
    first = {"checked": 1.0, "valid": False, "reason": "no space", "id": "20260114T020000Z"}
    write_json(host.layout.watch, first)
    assert _watch.watch(host.layout, host.world, never) == 0
    assert host.world.asked("virsh domjobabort") == ["virsh domjobabort"]
    assert verdict(host) == first
    assert not os.path.exists(host.layout.snapshot)


def test_a_watch_without_a_snapshot_ends_at_once(host: Host) -> None:
    assert _watch.watch(host.layout, host.world, never) == 0
    assert not host.world.calls


def test_the_unit_looks_until_the_snapshot_is_over(host: Host) -> None:
    write_json(_snapshot.request_file(host.layout), request(host))
    write_json(host.layout.snapshot, document())
    host.world.answers["virsh backup-dumpxml"] = [ours(host), ours(host), refused(NO_JOB)]
    assert _watch.watch(host.layout, host.world, never) == 0
    assert len(host.world.asked("virsh domstate")) >= 3


def test_a_heartbeat_has_the_next_look_at_once(host: Host) -> None:
    slept: list[float] = []

    def doze(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            with open(host.layout.heartbeat, "wb"):
                pass

    guard = _watch.Watch(host.layout, host.world, request(host), document(), doze)
    guard.pause()
    assert len(slept) == 3
    assert guard.look() is False
    heard = len(slept)
    guard.pause()
    # Without a new heartbeat it lasts its whole length, and still gives a word each second.
    assert len(slept) - heard > 3
    assert sum(slept[heard:]) < 1.0
