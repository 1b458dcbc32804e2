# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what the backup storage answers a host that takes a VM over alone: by its own rules."""

from __future__ import annotations

import io
import json
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.claim_fakes import NOW, PLAN, STATE, claims, holds
from unit.engine_fakes import IDS, Disk, Snapshot, blocks, transfer
from unit.lend_fakes import systemd

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import (
    _change,
    _claim,
    _claimed,
    _journal,
    _mover,
    _relay,
    _word,
)
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._claim import Claim
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._laid_plan import laid
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._state import State
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store


@pytest.fixture
def storage(tmp_path: Path) -> Layout:
    layout = Layout("acme", "erp", str(tmp_path / "root"), str(tmp_path / "run"))
    Path(layout.directory).mkdir(parents=True)
    for path in (layout.lock, layout.asked):
        Path(path).touch()
    asked = (NOW - timedelta(hours=1)).timestamp()
    os.utime(layout.asked, (asked, asked))
    holds(layout, STATE)
    Path(layout.plan).write_text(json.dumps(laid(PLAN)))
    return layout


def what(layout: Layout) -> tuple[bytes, list[str]]:
    return Path(layout.state).read_bytes(), [entry["what"] for entry in _journal.read(layout.journal)]


def test_the_standby_host_is_let_take_it_over_by_the_word(storage: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    door = claims(storage, monkey=monkeypatch, seen="b")
    looked = door.answer(Claim("look"))
    assert (looked["seen"], looked["state"]["epoch"]) == ({"a": "", "b": "port 22 answers"}, 1)
    # The watchdog's command may hold what nobody else shall read.
    assert "TOKEN" not in json.dumps(looked)
    nonce = door.answer(Claim("word", 1))["nonce"]
    taken = door.answer(Claim("take", 1, nonce, "mary", {"confirmed": True}))["state"]
    assert (taken["active"], taken["standby"], taken["epoch"], taken["phase"]) == ("b", "a", 2, "failing_over")
    assert _change.held(storage).alarm_command == "mail -s $TOKEN"
    done = door.answer(Claim("finish", 2, who="mary", told={"lines": ["it runs"]}))["state"]
    assert done["phase"] == "failed_over"
    said = _journal.read(storage.journal)
    assert [(each["what"], each["who"], each["why"]) for each in said] == [
        ("fail_over", "mary@b", "takeover on b"),
        ("finish_failover", "mary@b", "takeover on b"),
    ]
    assert said[0]["evidence"] == {
        "claimed_by": "b",
        "seen": {"a": "", "b": "port 22 answers"},
        "told": {"confirmed": True},
    }
    assert said[1]["evidence"] == {"report": {"lines": ["it runs"]}}


def asks_again(layout: Layout, _nonce: str) -> None:
    os.utime(layout.asked)


def asks_for_another(layout: Layout, _nonce: str) -> None:
    _change.ask(layout, 1)


def grows_old(layout: Layout, nonce: str) -> None:
    old = (datetime.now(timezone.utc) - timedelta(minutes=16)).strftime("%Y-%m-%dT%H:%M:%SZ")
    Path(layout.nonce).write_text(json.dumps({"nonce": nonce, "epoch": 1, "issued": old}))


def is_in(**changes: Any) -> Callable[[Layout, str], None]:
    return lambda layout, _nonce: holds(layout, replace(STATE, **changes))


@pytest.mark.parametrize(
    ("happens", "holder", "seen", "why"),
    [
        (None, "b", "a b", "the backup storage still reaches a (port 22 answers); shut erp down on a"),
        (None, "b", "erp", "the backup storage still reaches erp"),
        (None, "a", "", "a is not its standby host: acme/erp is at epoch 1, a is its active host and b its standby"),
        (None, "d", "", "d is not its standby host"),
        (None, "", "", " is not its standby host"),
        (asks_again, "b", "", "whether it may run acme/erp, so it is up"),
        (asks_for_another, "b", "", "was used already, or is not the last one that was asked for"),
        (grows_old, "b", "", "is good for 15 minutes"),
        (is_in(epoch=2), "b", "", "was decided on at epoch 1: somebody else was faster"),
        (is_in(phase="maintenance"), "b", "", "is in phase maintenance, from which there is no fail_over"),
        (is_in(phase="failed_over"), "b", "", "is in phase failed_over, from which there is no fail_over"),
        (is_in(phase="reprotecting"), "b", "", "is in phase reprotecting"),
    ],
)
def test_it_decides_by_its_own_rules(
    storage: Layout,
    monkeypatch: pytest.MonkeyPatch,
    happens: Callable[[Layout, str], None] | None,
    holder: str,
    seen: str,
    why: str,
) -> None:
    Path(storage.plan).write_text(json.dumps(laid({**PLAN, "guest_address": "192.0.2.80:443"})))
    nonce = _change.ask(storage, 1)
    if happens:
        happens(storage, nonce)
    before = what(storage)
    with pytest.raises(ResilientVmError) as refused:
        claims(storage, holder, seen, monkeypatch).answer(Claim("take", 1, nonce, "mary"))
    assert why in str(refused.value)
    assert what(storage) == before


def test_a_word_is_good_once(storage: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    door = claims(storage, monkey=monkeypatch)
    take = Claim("take", 1, door.answer(Claim("word", 1))["nonce"], "mary")
    door.answer(take)
    before = what(storage)
    for again in (take, replace(take, epoch=2)):
        with pytest.raises(ResilientVmError):
            door.answer(again)
    assert what(storage) == before


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (STATE, "b is not its active host"),
        (replace(STATE, active="b", standby="a", epoch=2), "is in phase protected, from which there is no finish_fail"),
        (replace(STATE, active="b", standby="a", epoch=3, phase="failing_over"), "was decided on at epoch 2"),
    ],
)
def test_only_the_host_that_took_it_over_ends_that(storage: Layout, state: State, why: str) -> None:
    holds(storage, state)
    before = what(storage)
    with pytest.raises(ResilientVmError, match=why):
        claims(storage).answer(Claim("finish", 2, who="mary"))
    assert what(storage) == before


@given(
    st.sampled_from(["look", "word", "take", "finish", "borrow"]),
    st.sampled_from("abcd"),
    st.integers(1, 4),
    st.booleans(),
)
def test_whatever_is_asked_only_the_two_steps_of_a_takeover_are_taken(
    tmp_path_factory: pytest.TempPathFactory, ask: str, holder: str, epoch: int, good: bool
) -> None:
    """And these by the host that they are for."""
    place = tmp_path_factory.mktemp("c")
    layout = Layout("acme", "erp", str(place))
    Path(layout.directory).mkdir(parents=True)
    for path in (layout.lock, layout.asked):
        Path(path).touch()
    os.utime(layout.asked, (0, 0))
    holds(layout, STATE)
    Path(layout.plan).write_text(json.dumps(laid(PLAN)))
    nonce = _word.renew(layout, 1, datetime.now(timezone.utc))
    with pytest.MonkeyPatch.context() as patch:
        door = claims(layout, holder, monkey=patch)
        try:
            door.answer(Claim(ask, epoch, nonce if good else "00000000", "mary"))
        except ResilientVmError:
            assert _change.held(layout) == STATE
            return
    after = _change.held(layout)
    if after != STATE:
        assert (ask, holder, epoch, good, after.active, after.epoch) == ("take", "b", 1, True, "b", 2)


# an image that is lent


@pytest.fixture
def history(storage: Layout) -> Layout:
    for name in ("images", "incoming", "pins", "transfer"):
        Path(storage.directory, name).mkdir()
    base = None
    for image_id in IDS[:2]:
        transfer(Snapshot(image_id, [Disk("vda", blocks(3))], base), Store(storage))
        base = image_id
    Path(storage.plan).write_text(json.dumps(laid({**PLAN, "lend_to": ["b"]})))
    return storage


def borrow(point: str, name: str = "erp-old") -> Claim:
    return Claim("borrow", who="mary", point=point, name=name)


def test_a_host_that_may_is_lent_the_day_it_means(history: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    run = systemd()
    door = replace(claims(history), run=run)
    image = door.answer(borrow(IDS[0]))["image"]
    assert (image["id"], image["instant"], image["disks"][0]["target"]) == (IDS[0], image["instant"], "vda")
    assert set(image) == {"id", "instant", "bytes_allocated", "disks", "definition"}
    assert Store(history).read(IDS[0]).pinned_by == ["lent to erp-old on b until its data is there"]
    request = json.loads(Path(history.transfer, "lend.request.json").read_text())
    assert request["peer"] == {"name": "b", "address": "127.0.0.1", "port": 1}
    assert (
        capsys.readouterr().err
        == f"image {IDS[0]} of acme/erp is lent to erp-old on b until its data is there, for mary\n"
    )
    # Asked again it is told the same, and nothing else is done.
    started = len([call for call in run.calls if call.startswith("systemd-run")])
    assert door.answer(borrow(IDS[0]))["image"] == image
    assert len([call for call in run.calls if call.startswith("systemd-run")]) == started == 1
    with pytest.raises(ResilientVmError, match="a VM has one restore at once at a time"):
        door.answer(borrow("latest"))


@pytest.mark.parametrize(
    ("holder", "point", "why"),
    [
        (
            "a",
            "latest",
            "a may not have images of acme/erp by itself; name it in resilient_vm_lend_to and run the site",
        ),
        ("", "latest", " may not have images"),
        ("b", "2031-01-01", "2031-01-01 is in the future"),
        ("b", "-900d", "is kept any more; the images go from"),
        ("b", "tuesday", "restore point 'tuesday' of erp is none; name an image id"),
    ],
)
def test_what_is_not_lent_is_told_in_a_sentence(history: Layout, holder: str, point: str, why: str) -> None:
    before = what(history)
    with pytest.raises(ResilientVmError) as refused:
        replace(claims(history, holder), run=systemd()).answer(borrow(point))
    assert why in str(refused.value)
    assert what(history) == before and not os.listdir(history.pins)


def test_a_full_disk_is_told_in_a_sentence(history: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_given: Any) -> None:
        raise OSError(28, "No space left on device", "/var/lib/x")

    monkeypatch.setattr(_claimed.Claims, "answer", full)
    mine, theirs = socket.socketpair()
    with mine, theirs:
        mine.sendall(b'{"vm": "acme/erp", "holder": "b"}\n' + _claim.line(borrow("latest")).encode())
        mine.shutdown(socket.SHUT_WR)
        monkeypatch.setattr(_claimed, "_check_account", lambda *_given: None)
        serve(history, theirs)
        assert "No space left on device" in json.loads(mine.recv(1 << 16))["refused"]


# the way there


@pytest.fixture
def unit(storage: Layout, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Root's unit, one connection after the other, on this machine's own socket."""
    claims(storage, monkey=monkeypatch)
    Path(storage.runtime).mkdir()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(storage.claims)
    listening.listen()

    def accept() -> None:
        while True:
            try:
                connection, _who = listening.accept()
            except OSError:
                return
            with connection:
                serve(storage, connection)

    threading.Thread(target=accept, daemon=True).start()
    return storage


def serve(storage: Layout, connection: socket.socket) -> None:
    def layout_of(name: str) -> Layout:
        customer, _slash, vm = name.partition("/")
        return Layout(customer, vm, storage.root, storage.runtime)

    _claimed.serve(layout_of, "1+x protocol 3", lambda *_w, **_m: Completed(1, "", ""), connection.fileno())


def relayed(layout: Layout, line: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    class Stdin:
        buffer = io.BytesIO(line)

    monkeypatch.setattr("sys.stdin", Stdin)
    assert _relay.relay(layout, "b") == 0
    return json.loads(capsys.readouterr().out)


def test_the_forced_command_carries_question_and_answer(
    unit: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    account = type("Account", (), {"pw_uid": os.getuid()})
    monkeypatch.setattr(_claimed.pwd, "getpwnam", lambda name: account if name == "rvm-acme" else None)
    line = _claim.line(Claim("look")).encode()
    assert relayed(unit, line, monkeypatch, capsys)["state"]["active"] == "a"
    assert "no claim" in relayed(unit, line[:-1], monkeypatch, capsys)["refused"]
    assert "no claim" in relayed(unit, b"x" * 200000 + b"\n", monkeypatch, capsys)["refused"]


def test_no_other_account_speaks_for_a_vm(
    unit: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    account = type("Account", (), {"pw_uid": os.getuid() + 1})
    monkeypatch.setattr(_claimed.pwd, "getpwnam", lambda _name: account)
    line = _claim.line(Claim("look")).encode()
    assert relayed(unit, line, monkeypatch, capsys) == {"refused": "only account rvm-acme may claim acme/erp"}


def test_without_the_unit_it_says_so(storage: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": io.BytesIO(b"x\n")}))
    with pytest.raises(ResilientVmError, match=r"see to resilient-vm-claim\.socket, or run the site playbook"):
        _relay.relay(storage, "b")


@pytest.mark.parametrize(
    "asked", ["", "claim x", "claim;id", "claims", "epoch x", "takeover", "claimed", "send", " claim"]
)
def test_the_key_opens_no_other_door(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_ORIGINAL_COMMAND", asked)
    with pytest.raises(ResilientVmError, match="this key may only ask for epoch or claim of acme/erp"):
        _mover._forced("acme/erp", "epoch,claim", "b")
