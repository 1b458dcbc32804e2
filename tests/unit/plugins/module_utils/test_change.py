# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about changes of a VM's state: one by one, and in random histories."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _change, _clock, _journal
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._digests import RootDigest
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import locked, write_json
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._manifest import Disk, Manifest
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._state import State, followed
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._transitions import CLOSED, TABLE

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
HOSTS = ("a", "b")
FIRST = State("acme", "erp", "erp", "u", 1, "a", "b", "protected", "2026-01-01T00:00:00Z", "site")


def laid_out(root: Path, state: State = FIRST) -> Layout:
    layout = Layout("acme", "erp", str(root))
    for path in (layout.images, layout.incoming, layout.pins):
        os.makedirs(path)
    write_json(layout.state, state.as_dict())
    return layout


def asked(transition: str, epoch: int = 1) -> _change.Request:
    return _change.Request(transition, epoch, "mary", "a test", {"a": "silent"})


def publish(layout: Layout, image_id: str, epoch: int) -> None:
    work = Path(layout.incoming, image_id)
    work.mkdir(exist_ok=True)
    for name in ("vda.raw", "vda.digests"):
        (work / name).write_bytes(b"")
    disk = Disk("vda", 0, RootDigest(0).hexdigest(), "allocation")
    manifest = Manifest(image_id, "2026-01-14T02:00:00Z", "acme", "erp", "erp", "u", epoch, "crash", "a", [disk], [])
    with locked(layout.lock, "publishing"):
        Store(layout).publish(str(work), manifest)


@pytest.fixture
def storage(tmp_path: Path) -> Layout:
    return laid_out(tmp_path)


def test_a_step_is_taken_once_and_written_down(storage: Layout) -> None:
    before, after = _change.change(storage, asked("fail_over"), START)
    assert before == FIRST
    assert (after.epoch, after.active, after.standby, after.phase) == (2, "b", "a", "failing_over")
    assert _change.held(storage) == after
    [entry] = _journal.read(storage.journal)
    assert (entry["who"], entry["what"], entry["epoch"], entry["active"]) == ("mary", "fail_over", 2, "b")
    with pytest.raises(ResilientVmError, match="is at epoch 2 with b active, and fail_over was decided on at epoch 1"):
        _change.change(storage, asked("fail_over"), START)
    assert len(_journal.read(storage.journal)) == 1


def test_a_step_that_comes_late_fits_nothing_that_came_between(storage: Layout) -> None:
    """The switch of a switchover that was given up, when the next one has begun."""
    moving = [asked(name) for name in ("begin_switch", "give_up_switch", "begin_switch")]
    states = [_change.change(storage, each, START + timedelta(minutes=n))[1] for n, each in enumerate(moving)]
    assert {state.epoch for state in states} == {1}
    late = dataclasses.replace(asked("switch"), seen=states[0].changed)
    refusal = (
        f"is as it was changed at {states[2].changed}, and switch was decided on as of {states[0].changed}: somebody"
    )
    with pytest.raises(ResilientVmError, match=refusal):
        _change.change(storage, late, START)
    assert _change.held(storage) == states[2]
    _change.change(storage, dataclasses.replace(late, seen=states[2].changed), START)
    assert _change.held(storage).active == "b"


def test_a_step_from_another_phase_is_refused(storage: Layout) -> None:
    with pytest.raises(ResilientVmError, match=r"in phase protected, from which there is no switch \(only"):
        _change.change(storage, asked("switch"), START)
    assert _change.held(storage) == FIRST


@pytest.mark.parametrize("dry", [True, False])
def test_no_takeover_from_a_host_that_asked_since_it_was_looked_at(storage: Layout, dry: bool) -> None:
    """It is up, whatever was seen before; the same question before that says nothing."""
    Path(storage.asked).touch()
    os.utime(storage.asked, (START.timestamp(),) * 2)
    since = dataclasses.replace(asked("fail_over"), unasked_since=START)
    with pytest.raises(ResilientVmError, match="a asked at 2026-01-01T00:00:00Z whether it may run acme/erp"):
        _change.change(storage, since, START, dry)
    assert _change.held(storage) == FIRST and not os.path.exists(storage.journal)
    later = dataclasses.replace(since, unasked_since=START + timedelta(seconds=1))
    assert _change.change(storage, later, START, dry)[1].active == "b"


def test_a_takeover_by_an_operators_word_needs_that_word_and_a_host_that_kept_silent(storage: Layout) -> None:
    Path(storage.asked).touch()
    os.utime(storage.asked, (START.timestamp(),) * 2)
    nonce = _change.ask(storage, 1)
    wrong = dataclasses.replace(asked("fail_over"), nonce="0" * 8)
    with pytest.raises(ResilientVmError, match="is not the last one that was asked for"):
        _change.change(storage, wrong, START)
    right = dataclasses.replace(wrong, nonce=nonce)
    os.utime(storage.asked)
    with pytest.raises(ResilientVmError, match="so it is up"):
        _change.change(storage, right, START)
    os.utime(storage.asked, (START.timestamp(),) * 2)
    assert _change.change(storage, right, START)[1].epoch == 2
    with pytest.raises(ResilientVmError, match="somebody else was faster"):
        _change.change(storage, right, START)


def test_whoever_asks_is_told_who_is_active_and_is_known_to_be_up(storage: Layout) -> None:
    Path(storage.asked).touch()
    os.utime(storage.asked, (START.timestamp(),) * 2)
    assert _change.told(storage) == "1 a protected"
    assert os.stat(storage.asked).st_mtime > START.timestamp() + 60


def test_a_host_that_is_about_to_take_it_over_says_so(storage: Layout) -> None:
    Path(storage.asked).touch()
    write_json(storage.intent, {"epoch": 2, "when": "2026-01-14T02:00:00Z"})
    assert _change.told(storage) == "1 a intended"
    # Once it has been decided, the intent is void.
    _change.change(storage, asked("fail_over"), START)
    assert _change.told(storage) == "2 b failing_over"


def test_nobody_is_told_anything_while_a_takeover_is_decided(storage: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told in that moment would be outdated, and known too late."""
    Path(storage.asked).touch()
    os.utime(storage.asked, (START.timestamp(),) * 2)
    told: list[str] = []
    record = _change.record

    def asked_meanwhile(*given: object) -> None:
        with pytest.raises(ResilientVmError) as refused:
            _change.told(storage)
        told.append(str(refused.value))
        record(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(_change, "record", asked_meanwhile)
    request = dataclasses.replace(asked("fail_over"), unasked_since=START + timedelta(seconds=1))
    _change.change(storage, request, START)
    assert told == ["acme/erp is being decided on here at this moment; ask again"]
    assert _change.told(storage) == "2 b failing_over"


def test_what_a_host_decides_by_itself_says_so_until_the_backup_storage_has_decided_it(storage: Layout) -> None:
    alone = dataclasses.replace(asked("fail_over"), unwitnessed=True)
    decided = _change.change(storage, alone, START)[1]
    assert decided.unwitnessed == "2026-01-01T00:00:00Z"
    later = START + timedelta(minutes=1)
    over = _change.change(storage, dataclasses.replace(asked("finish_failover", 2), unwitnessed=True), later)[1]
    assert (over.phase, over.unwitnessed) == ("failed_over", "2026-01-01T00:00:00Z")
    assert _change.change(storage, asked("begin_reprotect", 2), later)[1].unwitnessed is None
    told = dataclasses.replace(over, unwitnessed=None)
    assert State.from_json(over.as_dict(), "here") == over
    assert followed(over, told) == told


def test_a_takeover_does_not_wait_for_ever_for_whoever_is_told_something(storage: Layout) -> None:
    Path(storage.asked).touch()
    with (
        _change._asked(storage, fcntl.LOCK_SH),
        pytest.raises(ResilientVmError, match="is held by another process"),
        _change.undisturbed(storage, lambda _seconds: None),
    ):
        raise AssertionError("it is disturbed")


def test_check_mode_tells_and_writes_nothing(storage: Layout) -> None:
    assert _change.change(storage, asked("fail_over"), START, dry=True)[1].epoch == 2
    moved = dataclasses.replace(FIRST, epoch=2, active="b", standby="a")
    assert _change.follow(storage, moved, "mary", START, dry=True)[1] == moved
    assert _change.held(storage) == FIRST
    assert not os.path.exists(storage.journal)


def test_a_change_waits_for_nobody(storage: Layout) -> None:
    with locked(storage.lock, "publishing"), pytest.raises(ResilientVmError, match="is held by publishing"):
        _change.change(storage, asked("fail_over"), START)


def test_an_image_under_way_at_the_change_is_never_published(storage: Layout) -> None:
    publish(storage, "20260101T020000Z", 1)
    _change.change(storage, asked("fail_over"), START)
    with pytest.raises(ResilientVmError, match="has epoch 1 and epoch 2 is here already: a is no longer the active"):
        publish(storage, "20260102T020000Z", 1)
    publish(storage, "20260102T020000Z", 2)


def test_nothing_is_changed_under_a_journal_that_was_altered(storage: Layout) -> None:
    Path(storage.journal).write_text('{"number": 1}\n')
    with pytest.raises(ResilientVmError, match="was altered"):
        _change.change(storage, asked("fail_over"), START)
    assert _change.held(storage) == FIRST


def test_a_host_follows_a_higher_epoch_and_never_goes_back(storage: Layout) -> None:
    moved = dataclasses.replace(FIRST, epoch=2, active="b", standby="a", phase="failed_over")
    assert _change.follow(storage, moved, "mary", START)[1] == moved
    assert _change.follow(storage, moved, "mary", START) == (moved, moved)
    assert len(_journal.read(storage.journal)) == 1
    for wrong in (FIRST, dataclasses.replace(moved, active="a", standby="b")):
        with pytest.raises(ResilientVmError, match="find out where it runs before anything is changed"):
            _change.follow(storage, wrong, "mary", START)
    with pytest.raises(ResilientVmError, match="find out which VM is meant"):
        _change.follow(storage, dataclasses.replace(moved, uuid="other"), "mary", START)


def test_a_machine_without_a_document_says_so(tmp_path: Path) -> None:
    with pytest.raises(ResilientVmError, match="this machine knows nothing of acme/erp; run the site playbook"):
        _change.held(Layout("acme", "erp", str(tmp_path)))


class Histories(RuleBasedStateMachine):
    """Operators who looked at any time, hosts that follow any document they heard of, images of any age."""

    places: tempfile.TemporaryDirectory[str]

    @initialize()
    def begin(self) -> None:
        self.places = tempfile.TemporaryDirectory(prefix="rvm-histories-")
        self.layouts = {name: laid_out(Path(self.places.name, name)) for name in ("a", "b", "c")}
        self.heard = [FIRST]
        self.under_way: list[tuple[str, int]] = []
        self.now = START
        self.highest = dict.fromkeys(self.layouts, 1)

    def teardown(self) -> None:
        self.places.cleanup()

    def at(self, name: str) -> State:
        return _change.held(self.layouts[name])

    @rule(data=st.data(), name=st.sampled_from([step.name for step in TABLE]))
    def an_operator_takes_a_step(self, data: st.DataObject, name: str) -> None:
        looked_at = data.draw(st.sampled_from(self.heard))
        before = self.at("c")
        self.now += timedelta(hours=1)
        try:
            _change.change(self.layouts["c"], asked(name, looked_at.epoch), self.now)
        except ResilientVmError:
            assert self.at("c") == before
            return
        assert looked_at.epoch == before.epoch
        self.heard.append(self.at("c"))

    @rule(data=st.data(), host=st.sampled_from(HOSTS))
    def a_host_follows(self, data: st.DataObject, host: str) -> None:
        before = self.at(host)
        document = data.draw(st.sampled_from(self.heard))
        try:
            _change.follow(self.layouts[host], document, "mary", self.now)
        except ResilientVmError:
            assert self.at(host) == before

    @rule(host=st.sampled_from(HOSTS))
    def a_host_begins_an_image(self, host: str) -> None:
        state = self.at(host)
        self.now += timedelta(hours=1)
        if state.active == host:
            self.under_way.append((_clock.image_id(self.now), state.epoch))

    @rule(data=st.data())
    def an_image_arrives(self, data: st.DataObject) -> None:
        if not self.under_way:
            return
        image_id, epoch = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        try:
            publish(self.layouts["c"], image_id, epoch)
        except ResilientVmError:
            return
        assert epoch >= self.at("c").epoch, "an older epoch published"

    @rule(name=st.sampled_from(["a", "b", "c"]))
    def power_fails_in_the_middle_of_an_entry(self, name: str) -> None:
        with open(self.layouts[name].journal, "ab") as stream:
            stream.write(b'{"active": "a", "di')

    @invariant()
    def epochs_never_fall(self) -> None:
        for name, highest in self.highest.items():
            epoch = self.at(name).epoch
            assert epoch >= highest
            self.highest[name] = epoch

    @invariant()
    def at_each_epoch_at_most_one_host_may_start_it(self) -> None:
        open_at = [
            (state.epoch, host)
            for host, state in ((host, self.at(host)) for host in HOSTS)
            if state.active == host and state.phase not in CLOSED
        ]
        assert len({epoch for epoch, _host in open_at}) == len(open_at)

    @invariant()
    def a_host_never_knows_more_than_was_decided(self) -> None:
        assert max(self.at(host).epoch for host in HOSTS) <= self.at("c").epoch

    @invariant()
    def journals_are_whole_and_end_with_what_is_in_force(self) -> None:
        for layout in self.layouts.values():
            entries = _journal.read(layout.journal)
            epochs = [entry["epoch"] for entry in entries]
            assert epochs == sorted(epochs)
            if entries:
                state = _change.held(layout)
                assert (entries[-1]["epoch"], entries[-1]["active"]) == (state.epoch, state.active)

    @invariant()
    def images_stand_in_the_order_of_their_epochs(self) -> None:
        images = Store(self.layouts["c"]).images()
        assert [image.id for image in images] == sorted(image.id for image in images)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
