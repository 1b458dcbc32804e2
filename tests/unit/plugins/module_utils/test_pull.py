# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what follows a machine that runs before its data is there, whatever breaks meanwhile."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from unit.libvirt_fakes import UUID, Host, disk, domain, make_host, refused, said

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _borrow, _pull
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import read_json, write_json
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._restored_files import RECORD
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._virsh import Virsh

BELOW = "<backingStore type='network'><source protocol='nbd' name='vda'/></backingStore>"
JOB = " type=Block Pull\n bandwidth=0\n cur=4096\n end=8192\n"
PULL = f"virsh blockpull {UUID} vda"


def alike(*targets: str) -> str:
    """A machine of which these disks lack something."""
    return domain(*(disk(name, inside=_driver() + (BELOW if name in targets else "")) for name in ("vda", "vdb")))


def _driver() -> str:
    return "<driver name='qemu' type='qcow2' error_policy='stop' rerror_policy='stop'/>"


class Case:
    def __init__(self, host: Host) -> None:
        self.host, self.layout = host, host.layout
        self.folder = Path(self.layout.restored, "tuesday")
        self.folder.mkdir(parents=True)
        (self.folder / "domain.xml").write_text(domain(disk("vda"), disk("vdb")))
        disks = [{"target": name, "file": f"{name}.qcow2"} for name in ("vda", "vdb")]
        self.record = {"uuid": UUID, "defined": True, "borrows": ["vda", "vdb"], "rate": 1 << 20, "disks": disks}
        write_json(str(self.folder / RECORD), self.record)
        loan = {"image": "20260113T020000Z", "name": "tuesday", "channels": ["definition", "vda", "vdb"], "over": False}
        _borrow.prepare(self.layout, loan, 0)
        self.lends()
        self.backed = {"backing-filename": "nbd+unix:///vda?socket=/x"}
        self.answers: dict[str, Any] = {
            "virsh dumpxml": said(alike("vda")),
            "virsh blockjob": said(""),
            "virsh blockpull": said(),
            "virsh resume": said(),
            "virsh define": self.define,
            "qemu-img info": lambda _words: said(json.dumps(self.backed)),
        }
        host.world.answers.update(self.answers)
        self.defined = ""

    def lends(self, there: bool = True) -> None:
        for name in ("vda", "vdb"):
            path = Path(_borrow.socket_of(self.layout, name))
            if there:
                path.touch()
            else:
                path.unlink()

    def define(self, words: list[str]) -> Any:
        self.defined = Path(words[1]).read_text()
        return said()

    def step(self) -> bool:
        self.host.world.calls.clear()
        loan = _borrow.read(self.layout)
        assert loan is not None
        return _pull.Pull(self.layout, loan, self.host.world, start_seconds=0).step()

    @property
    def over(self) -> bool:
        loan = _borrow.read(self.layout)
        return loan is not None and bool(loan["over"])


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr("os.fchown", lambda *_arguments: None)
    return Case(make_host(tmp_path, monkeypatch))


def test_a_disk_that_lacks_something_is_pulled_once_at_its_share_of_the_rate(case: Case) -> None:
    assert not case.step()
    assert [call for call in case.host.world.calls if "blockpull" in call] == [f"{PULL} --bandwidth {1 << 19} --bytes"]
    case.host.world.answers["virsh blockjob"] = said(JOB)
    assert not case.step()
    assert not case.host.world.asked("virsh blockpull")
    virsh = Virsh(case.host.world)
    sizes = [{"target": name, "size_bytes": 8192} for name in ("vda", "vdb")]
    assert _pull.arrived(virsh, UUID, sizes) == (4096 + 8192, 2 * 8192)


def test_a_guest_that_starts_has_the_line_for_itself_at_first(case: Case) -> None:
    loan, now = _borrow.read(case.layout), [5.0]
    assert loan is not None
    pull, world = _pull.Pull(case.layout, loan, case.host.world, clock=lambda: now[0]), case.host.world
    for seconds, asks in ((0, 0), (19, 0), (20, 1)):
        now[0] = 5.0 + seconds
        assert not pull.step()
        assert len(world.asked("virsh blockpull")) == asks
    # Started anew, it has it again.
    runs = world.answers["virsh domstate"]
    world.answers["virsh domstate"] = said("shut off (shutdown)\n")
    assert not pull.step()
    world.answers["virsh domstate"] = runs
    assert not pull.step()
    assert len(world.asked("virsh blockpull")) == 1


def test_without_a_rate_it_takes_what_there_is(case: Case) -> None:
    write_json(str(case.folder / RECORD), {**case.record, "rate": 0})
    case.step()
    assert [call for call in case.host.world.calls if "blockpull" in call] == [PULL]


def test_a_guest_that_was_stopped_by_the_link_goes_on(case: Case) -> None:
    case.host.world.answers["virsh domstate"] = said("paused (I/O error)\n")
    case.step()
    assert case.host.world.asked("virsh resume", "virsh blockpull") == ["virsh resume", "virsh blockpull"]
    # Without anybody to lend it, it would be stopped again.
    case.lends(False)
    case.step()
    assert case.host.world.asked("virsh resume", "virsh blockpull") == []
    case.lends()
    # Its owner paused it: that is for him to end.
    case.host.world.answers["virsh domstate"] = said("paused (user)\n")
    case.step()
    assert case.host.world.asked("virsh resume") == []


def test_at_the_end_it_is_a_machine_like_any_other(case: Case) -> None:
    case.host.world.answers["virsh dumpxml"] = said(alike())
    case.lends(False)
    # QEMU says so before it has written it down.
    assert not case.step() and not case.over
    case.backed = {}
    assert case.step() and case.over
    assert "qcow2" in case.defined and "backingStore" not in case.defined and "policy" not in case.defined
    assert read_json(str(case.folder / RECORD))["borrows"] == []
    assert not os.path.exists(_borrow.folder(case.layout))
    assert case.step()


def test_one_that_is_off_waits_for_its_owner_or_ends(case: Case) -> None:
    case.host.world.answers["virsh domstate"] = said("shut off (shutdown)\n")
    assert not case.step() and not case.over
    assert case.host.world.asked("virsh blockpull", "virsh start") == []
    case.backed = {}
    assert case.step() and case.over


def test_one_that_is_not_defined_yet_is_waited_for(case: Case) -> None:
    write_json(str(case.folder / RECORD), {**case.record, "defined": False})
    case.host.world.answers["virsh domstate"] = refused("error: failed to get domain 'x'")
    assert not case.step() and not case.over


@pytest.mark.parametrize("how", ["undefined", "removed"])
def test_one_whose_owner_took_it_away_needs_nothing_any_more(case: Case, how: str) -> None:
    if how == "removed":
        (case.folder / RECORD).unlink()
    else:
        case.host.world.answers["virsh domstate"] = refused("error: failed to get domain 'x'")
    assert case.step() and case.over


def test_what_goes_wrong_is_said_once_and_tried_again(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    case.backed = {}
    busy = refused("error: Failed to connect socket to '/run/libvirt/libvirt-sock'")
    case.host.world.answers["virsh domstate"] = [busy, busy, said("running (booted)\n")]
    case.host.world.answers["virsh dumpxml"] = said(alike())
    pauses: list[float] = []
    assert _pull.stream(case.layout, case.host.world, pauses.append) == 0
    assert len(pauses) == 2 and case.over
    assert capsys.readouterr().err.count("libvirt does not answer") == 1
    # Started again though it is over, as after a crash of the unit: nothing is to be done.
    assert _pull.stream(case.layout, case.host.world, pauses.append) == 0
