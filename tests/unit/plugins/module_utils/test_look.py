# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about looking whether another machine is up, on real sockets."""

from __future__ import annotations

import errno
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._look import Target, look
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed


def silent(argv: list[str], **_options: Any) -> Completed:
    assert argv[0] == "ping"
    return Completed(1, "", "")


def answering(_argv: list[str], **_options: Any) -> Completed:
    return Completed(0, "", "")


def test_what_listens_and_what_refuses_are_both_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = look([Target("a", "127.0.0.1", port)], silent, 2.0)
        assert found == {"a": f"port {port} of 127.0.0.1 answers"}
    assert look([Target("a", "127.0.0.1", port)], silent, 2.0) == {"a": f"127.0.0.1 answers (port {port} is closed)"}


def test_a_connection_that_is_reset_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    def reset(*_words: object, **_options: object) -> None:
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    monkeypatch.setattr(socket, "create_connection", reset)
    assert look([Target("a", "192.0.2.11", 22)], silent, 0.5) == {"a": "192.0.2.11 answers (port 22 is closed)"}


def test_what_does_not_answer_is_not_seen() -> None:
    """A listener that is full drops what else comes, as a cut cable does."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        waiting = [socket.socket() for _each in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        found = look([Target("a", *address), Target("b", "name.invalid", 22)], silent, 0.5)
        for one in waiting:
            one.close()
    assert found == {"a": "", "b": ""}


def test_an_echo_counts_where_the_machine_can_ask_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ping").symlink_to(shutil.which("true") or "/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = look([Target("a", "name.invalid", 22)], answering, 0.5)
    assert found == {"a": "name.invalid answers an echo"}
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert look([Target("a", "name.invalid", 22)], answering, 0.5) == {"a": ""}


def test_nothing_to_look_for_is_nothing_seen() -> None:
    assert look([], silent, 0.5) == {}
