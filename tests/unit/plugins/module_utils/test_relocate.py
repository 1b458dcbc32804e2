# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about disks that go back to their owner's place: which, whereto, and never over what is somebody else's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from unit.fakes_cycle import UUID
from unit.libvirt_fakes import Host, disk, domain, facts_answer, make_host, never, said
from unit.standby_fakes import STATE

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _relocate
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._relocate import Move, Relocation, Wish


def machine(host: Host, mirror: str = "", source: str = "", more: str = "") -> str:
    place = f"<source file='{source or Path(host.layout.running, 'vda.qcow2')}'/>{mirror}"
    return domain(disk(source=place), more)


def mirrored(path: Path, ready: bool) -> str:
    ready_word = " ready='yes'" if ready else ""
    return f"<mirror type='file' job='copy'{ready_word}><format type='qcow2'/><source file='{path}'/></mirror>"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Host a, where erp lives on what a takeover made, and where it once lay at old/erp.img."""
    made = make_host(tmp_path, monkeypatch)
    Path(made.layout.state).write_text(json.dumps({**STATE, "active": "a", "standby": "b", "epoch": 3}))
    Path(made.layout.running).mkdir()
    for name in ("vda.qcow2", "vda.base.raw", "promoted.json", "domain.xml"):
        Path(made.layout.running, name).write_bytes(b"x")
    (tmp_path / "old").mkdir()
    for epoch, path, form in ((1, "oldest", "raw"), (2, "old/erp.img", "qcow2")):
        folder = Path(made.layout.before(epoch))
        folder.mkdir()
        files = [
            {"target": "vda", "path": str(tmp_path / path), "format": form, "aside": "gone"},
            {"target": "vars.fd", "path": "/nvram", "format": "", "aside": "gone"},
        ]
        (folder / "record.json").write_text(json.dumps({"files": files}))
    show(made, machine(made))
    made.world.answers.update(
        {
            "virsh blockcopy": said(),
            "virsh blockjob": said(" type=Block Copy\n cur=300\n end=900\n"),
            f"virsh dumpxml {UUID} --inactive": said(machine(made)),
        }
    )
    return made


def show(host: Host, xml: str, **how: str) -> None:
    host.world.answers[f"virsh dumpxml {UUID};"] = facts_answer(xml, **how)
    host.world.answers[f"virsh dumpxml {UUID}"] = said(xml)


def relocation(host: Host, **wish: Any) -> Relocation:
    return Relocation(host.layout, Wish(**{"host": "a", "uuid": UUID, "epoch": 3, **wish}), host.world, never)


def test_each_goes_to_where_it_last_lay_elsewhere(host: Host) -> None:
    (move,) = relocation(host).examine()
    assert (move.target, move.path, move.format) == ("vda", str(host.path / "old/erp.img"), "qcow2")
    (move,) = relocation(host, folder=str(host.path), format="raw").examine()
    assert (move.path, move.format) == (str(host.path / "erp-vda.raw"), "raw")


def test_what_lies_elsewhere_already_stays(host: Host) -> None:
    show(host, machine(host, source="/images/erp.img"))
    assert relocation(host).examine() == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"state": {"phase": "failed_over"}}, "erp is failed_over on a at epoch 3 here"),
        ({"state": {"active": "b", "standby": "a"}}, "its disks are moved on the host that it lives on"),
        ({"facts": {"state": "shut off (shutdown)"}}, "erp is shut off on a, and its disks are moved while it runs"),
        ({"facts": {"job": "<domainbackup><server socket='/x'/></domainbackup>"}}, "an image of erp is being taken"),
        ({"there": "old/erp.img"}, "old/erp.img is there already; move it aside"),
        ({"mirror": "elsewhere"}, "is being copied to {path}/elsewhere by somebody else"),
        ({"wish": {"folder": "/nowhere"}}, "/nowhere is no folder of a"),
        ({"wish": {"reserve_bytes": 1 << 60}}, "no space for the disks of erp"),
    ],
)
def test_what_is_in_the_way_is_said_first(host: Host, given: dict[str, Any], sentence: str) -> None:
    if "state" in given:
        state = json.loads(Path(host.layout.state).read_text())
        Path(host.layout.state).write_text(json.dumps({**state, **given["state"]}))
    if "there" in given:
        (host.path / given["there"]).touch()
    mirror = mirrored(host.path / given["mirror"], True) if "mirror" in given else ""
    show(host, machine(host, mirror), **given.get("facts", {}))
    with pytest.raises(ResilientVmError) as refusal:
        relocation(host, **given.get("wish", {})).examine()
    assert sentence.format(path=host.path) in str(refusal.value)
    assert not [call for call in host.world.calls if "blockcopy" in call]


def test_without_a_record_of_it_a_folder_has_to_be_named(host: Host) -> None:
    for epoch in (1, 2):
        Path(host.layout.before(epoch), "record.json").unlink()
    with pytest.raises(ResilientVmError, match="nobody knows any more where disk vda of erp lay"):
        relocation(host).examine()


def begun(host: Host) -> tuple[Relocation, list[Move]]:
    made = relocation(host)
    return made, made.examine()


def test_it_begins_the_copy_and_says_how_far_it_is(host: Host) -> None:
    made, moves = begun(host)
    path = host.path / "old/erp.img"

    def copied(_words: list[str]) -> Any:
        show(host, machine(host, mirrored(path, False)))
        return said()

    host.world.answers["virsh blockcopy"] = copied
    told = made.carry_on(moves, 0)
    assert told == {"over": False, "bytes_done": 300, "bytes_total": 1048576}
    (call,) = host.world.asked(f"virsh blockcopy {UUID} vda --dest {path} --format qcow2 --transient-job")
    assert call
    # A second run attaches to it, and what a run has begun is its own to erase after a crash.
    path.touch()
    assert relocation(host).carry_on(relocation(host).examine(), 0)["over"] is False
    assert len(host.world.asked("virsh blockcopy")) == 1
    show(host, machine(host))
    assert relocation(host).examine() == moves


def test_when_all_is_level_it_goes_over_and_the_old_disks_go(host: Host) -> None:
    made, moves = begun(host)
    path = host.path / "old/erp.img"
    show(host, machine(host, mirrored(path, True)))

    def over(_words: list[str]) -> Any:
        show(host, machine(host, source=str(path)))
        host.world.answers[f"virsh dumpxml {UUID} --inactive"] = said(machine(host, source=str(path)))
        return said()

    host.world.answers[f"virsh blockjob {UUID} vda --pivot"] = over
    assert made.carry_on(moves, 0) == {"over": True}
    assert not Path(host.layout.running).exists()
    assert not Path(host.layout.directory, "relocate.json").exists()
    assert relocation(host).examine() == []
    assert relocation(host).tidy() is False


def test_variables_of_firmware_stay_and_a_disk_of_its_next_start_too(host: Host) -> None:
    running = Path(host.layout.running)
    (running / "nvram.fd").touch()
    system = f"<type>hvm</type><nvram>{running / 'nvram.fd'}</nvram>"
    moved = domain(disk(source="<source file='/images/erp.img'/>"), system=system)
    show(host, moved)
    # libvirt has not written down yet that it moved.
    assert relocation(host).tidy() is False
    assert sorted(path.name for path in running.iterdir())[-2:] == ["vda.base.raw", "vda.qcow2"]
    host.world.answers[f"virsh dumpxml {UUID} --inactive"] = said(moved)
    assert relocation(host).tidy() is True
    assert sorted(path.name for path in running.iterdir()) == ["domain.xml", "nvram.fd", "promoted.json"]


def test_a_copy_that_qemu_gave_up_is_said(host: Host) -> None:
    made, moves = begun(host)
    with pytest.raises(ResilientVmError, match="QEMU gave up copying disk vda of erp, which runs on as it did"):
        made.carry_on(moves, 0)


def test_a_disk_that_is_taken_away_meanwhile_is_said(host: Host) -> None:
    made, moves = begun(host)
    show(host, domain())
    with pytest.raises(ResilientVmError, match="QEMU gave up copying disk vda of erp"):
        made.carry_on(moves, 0)


def gone_over(host: Host, path: Path) -> None:
    """As another run, whose playbook was killed, leaves it: its module lives on for a while."""
    show(host, machine(host, source=str(path)))
    host.world.answers[f"virsh dumpxml {UUID} --inactive"] = said(machine(host, source=str(path)))
    path.touch()


def test_what_another_run_has_gone_over_to_meanwhile_is_over_and_stays(host: Host) -> None:
    """Its file is the machine's disk by now, however the copy to it once began."""
    made, moves = begun(host)
    path = host.path / "old/erp.img"
    gone_over(host, path)
    assert made.carry_on(moves, 0) == {"over": True}
    assert path.exists()
    assert not host.world.asked("virsh blockcopy", f"virsh blockjob {UUID} vda --pivot")
    assert not Path(host.layout.running).exists()


def test_another_run_that_goes_over_while_this_one_waits_is_no_failure(host: Host) -> None:
    path = host.path / "old/erp.img"
    show(host, machine(host, mirrored(path, False)))
    made = Relocation(
        host.layout, Wish(host="a", uuid=UUID, epoch=3), host.world, lambda _seconds: gone_over(host, path)
    )
    assert made.carry_on(made.examine(), 60) == {"over": True}
    assert path.exists()
    assert not host.world.asked("virsh blockcopy", f"virsh blockjob {UUID} vda --pivot")


def test_of_two_that_find_it_level_one_goes_over(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    path = host.path / "old/erp.img"
    show(host, machine(host, mirrored(path, True)))
    made, held = relocation(host), []
    moves = made.examine()
    real = _relocate.locked

    @contextmanager
    def after_the_other(lock: str, who: str) -> Iterator[None]:
        held.append(who)
        if len(held) == 2:
            gone_over(host, path)
        with real(lock, who):
            yield

    monkeypatch.setattr(_relocate, "locked", after_the_other)
    assert made.carry_on(moves, 0) == {"over": True}
    assert not host.world.asked(f"virsh blockjob {UUID} vda --pivot")
