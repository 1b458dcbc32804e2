# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the door for an image that is lent: a program of its own, as ssh starts it, over real sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.engine_fakes import make_layout

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _borrow
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout

PLUGINS = Path(__file__).parents[4] / "plugins"
DOOR = f"""
import sys
sys.path.insert(0, {str(PLUGINS)!r})
from module_utils._borrow import borrow
from module_utils._layout import Layout
borrow(Layout("acme", "erp", sys.argv[1], sys.argv[2]), sys.argv[3])
"""
LOAN: dict[str, Any] = {
    "image": "20260113T020000Z",
    "name": "tuesday",
    "channels": ["definition", "vda"],
    "over": False,
}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout("acme", "erp", make_layout(tmp_path / "root").root, str(tmp_path / "run"))


@pytest.fixture
def ours(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A host where nothing runs as root, and everybody is one."""
    monkeypatch.setattr("os.chown", lambda *_arguments, **_options: None)
    monkeypatch.setattr("os.fchown", lambda *_arguments: None)
    account = type("Account", (), {"pw_uid": os.getuid(), "pw_gid": os.getgid()})
    monkeypatch.setattr("pwd.getpwnam", lambda _name: account)
    os.makedirs(layout.runtime)
    return layout


class Door:
    """One ssh's end on the host."""

    def __init__(self, layout: Layout, channel: str = "vda") -> None:
        words = [sys.executable, "-c", DOOR, layout.root, layout.runtime, channel]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe)

    def word(self) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def read(self, count: int) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.read(count)

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def hang_up(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def ended(self) -> int:
        return self.process.wait(timeout=60)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@pytest.fixture
def doors() -> Iterator[list[Door]]:
    opened: list[Door] = []
    yield opened
    for door in opened:
        door.close()


def connect(layout: Layout) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(_borrow.socket_of(layout, "vda"))
    return client


def test_what_is_said_at_one_end_is_heard_at_the_other(ours: Layout, doors: list[Door]) -> None:
    _borrow.prepare(ours, LOAN, os.getuid())
    place = Path(_borrow.folder(ours))
    assert oct(place.stat().st_mode)[-3:] == "730"
    door = Door(ours)
    doors.append(door)
    assert door.word() == b"ready\n"
    # Said before anybody is there, as an NBD server does.
    door.write(b"NBDMAGIC")
    with connect(ours) as client:
        assert client.recv(8) == b"NBDMAGIC"
        data = os.urandom(32 << 10)
        client.sendall(data)
        assert door.read(len(data)) == data
    # QEMU is gone, so this ssh is over, and the next one makes another socket.
    assert door.ended() == 0
    assert not os.listdir(place)


def test_when_the_backup_storage_hangs_up_qemu_hears_it(ours: Layout, doors: list[Door]) -> None:
    _borrow.prepare(ours, LOAN, os.getuid())
    for before in (True, False):
        door = Door(ours)
        doors.append(door)
        assert door.word() == b"ready\n"
        if before:
            door.hang_up()
        else:
            with connect(ours) as client:
                door.hang_up()
                assert client.recv(1) == b""
        assert door.ended() == 0


def test_a_later_one_takes_the_place_of_one_whose_link_has_died(ours: Layout, doors: list[Door]) -> None:
    _borrow.prepare(ours, LOAN, os.getuid())
    old = Door(ours)
    doors.append(old)
    assert old.word() == b"ready\n"
    with connect(ours) as client:
        new = Door(ours)
        doors.append(new)
        assert new.word() == b"ready\n"
        # The old one lets go, so that QEMU looks for the new one.
        assert client.recv(1) == b""
        assert old.ended() == 0
    with connect(ours) as client:
        client.sendall(b"x")
        assert new.read(1) == b"x"


def test_it_hears_that_it_is_over(ours: Layout, doors: list[Door]) -> None:
    _borrow.prepare(ours, LOAN, os.getuid())
    waiting = Door(ours)
    doors.append(waiting)
    assert waiting.word() == b"ready\n"
    _borrow.settle(ours, LOAN)
    assert waiting.ended() == 0
    late = Door(ours)
    doors.append(late)
    assert late.word() == b"over\n"
    assert late.ended() == 0
    assert _borrow.read(ours) == {**LOAN, "over": True}
    assert not os.path.exists(_borrow.folder(ours))


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        ("", "this host has borrowed no channel of acme/erp"),
        ("../x", "this host has borrowed no ../x of acme/erp"),
    ],
)
def test_what_is_not_lent_is_refused(ours: Layout, channel: str, words: str) -> None:
    _borrow.prepare(ours, LOAN, os.getuid())
    with pytest.raises(ResilientVmError, match=words):
        _borrow.borrow(ours, channel)


@pytest.mark.parametrize("prepared", [False, True])
def test_another_image_than_the_one_that_was_borrowed_is_not_let_in(
    ours: Layout, doors: list[Door], prepared: bool
) -> None:
    if prepared:
        _borrow.prepare(ours, LOAN, os.getuid())
    for wanted in ("vda 20260112T020000Z", "definition 20260112T020000Z", "../x 20260112T020000Z"):
        door = Door(ours, wanted)
        doors.append(door)
        assert door.word() == b"over\n" and door.ended() == 0
    if prepared:
        door = Door(ours, f"vda {LOAN['image']}")
        doors.append(door)
        assert door.word() == b"ready\n"


def test_two_do_not_make_one_at_once(ours: Layout) -> None:
    with (
        _borrow.making(ours),
        pytest.raises(ResilientVmError, match="is held by a restore of acme/erp at once"),
        _borrow.making(ours),
    ):
        pass


def test_after_a_start_of_the_host_it_has_to_be_prepared_again(ours: Layout) -> None:
    _borrow.prepare(ours, LOAN, os.getuid())
    os.rmdir(_borrow.folder(ours))
    with pytest.raises(ResilientVmError, match="not prepared since this host was started; run the restore again"):
        _borrow.borrow(ours, "vda")


def test_a_socket_has_no_room_for_the_longest_names(tmp_path: Path) -> None:
    long = Layout("acme", "x" * 100, str(tmp_path), str(tmp_path / "run"))
    with pytest.raises(ResilientVmError, match="resilient_vm_restore_mode=copy"):
        _borrow.check_names(long, LOAN["channels"])
