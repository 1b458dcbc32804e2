# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about disks that are kept aside: which go back, which are erased, and that neither is cut off half-way."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from unit.libvirt_fakes import UUID, Host, disk, domain, make_host, said

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _exchange, _kept, _kept_report
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import write_json

NOW = datetime(2026, 1, 15, 10, 15, tzinfo=timezone.utc)
WISH = _exchange.Wish(_kept.KEPT, UUID, 1, [], [])


class Cut(Exception):
    """The run ends here."""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Host a, where today's disks of erp took the place of Tuesday's, or the other way round."""
    made = make_host(tmp_path, monkeypatch)
    images = tmp_path / "images"
    images.mkdir()
    for name in ("vda", "vdb"):
        (images / f"{name}.qcow2").write_text(f"{name} of Tuesday")
        keep(made, images / f"{name}.qcow2", f"{name} of today", NOW)
    defined(made, images)
    made.world.answers.update({"virsh domstate": said("shut off (shutdown)"), "virsh domjobinfo": said("")})
    monkeypatch.setattr(_exchange.Virsh, "job", lambda _virsh, _uuid: None)
    monkeypatch.setattr(_exchange.Virsh, "facts", lambda _virsh, _uuid: type("Facts", (), {"own_checkpoints": ()}))
    Path(made.layout.lock).touch()
    return made


def keep(host: Host, path: Path, content: str, when: datetime, suffix: str = "") -> Path:
    aside = path.with_name(f"{path.name}.before-{suffix or when.strftime('%Y%m%dT%H%M%SZ')}")
    aside.write_text(content)
    target = path.name.partition(".")[0]
    file = {"target": target, "path": str(path), "format": "qcow2", "aside": str(aside)}
    _kept.note(host.layout, [file], when.strftime("%Y-%m-%dT%H:%M:%SZ"))
    return aside


def defined(host: Host, images: Path, *more: str) -> None:
    disks = [disk(name, source=f"<source file='{images}/{name}.qcow2'/>") for name in ("vda", "vdb")]
    host.world.answers["virsh dumpxml"] = said(domain(*disks, *more))
    host.world.answers["virsh list --all --uuid --name"] = said(f"{UUID} erp\n")


def go_back(host: Host, now: datetime = NOW) -> None:
    record = _exchange.examine(host.layout, WISH, now, host.world)
    _exchange.prepare(host.layout, WISH, record, host.world)
    _exchange.exchange(host.layout, WISH, record, host.world)
    _exchange.finish(host.layout, WISH, record, host.world)


def contents(tmp_path: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (tmp_path / "images").iterdir()}


def listed(host: Host) -> list[str]:
    return [Path(entry["aside"]).name for entry in _kept.kept(host.layout)]


def test_they_change_places_and_back_again(host: Host, tmp_path: Path) -> None:
    """Within one second even, which gives both the same name else."""
    go_back(host)
    after = contents(tmp_path)
    assert (after["vda.qcow2"], after["vdb.qcow2"]) == ("vda of today", "vdb of today")
    assert after["vda.qcow2.before-20260115T101501Z"] == "vda of Tuesday"
    assert len(after) == 4
    assert listed(host) == [f"{name}.qcow2.before-20260115T101501Z" for name in ("vda", "vdb")]
    assert not Path(host.layout.directory, "exchange.json").exists()
    go_back(host, NOW + timedelta(hours=1))
    assert contents(tmp_path)["vda.qcow2"] == "vda of Tuesday"
    assert listed(host) == [f"{name}.qcow2.before-20260115T111500Z" for name in ("vda", "vdb")]


@pytest.mark.parametrize("step", range(8))
def test_cut_off_anywhere_it_is_ended_by_the_next_run(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    left = [step]

    def counted(real: Any) -> Any:
        def called(*words: Any, **more: Any) -> Any:
            if left[0] == 0:
                raise Cut
            left[0] -= 1
            return real(*words, **more)

        return called

    with monkeypatch.context() as patch:
        for name in ("rename", "link"):
            patch.setattr(_exchange.os, name, counted(getattr(os, name)))
        patch.setattr(_exchange, "write_json", counted(_exchange.write_json))
        with pytest.raises(Cut):
            go_back(host)
    # At no time is there no disk in its place.
    assert {"vda.qcow2", "vdb.qcow2"} < set(contents(tmp_path))
    # Nothing is erased that a run that has begun may need.
    begun = Path(host.layout.directory, "exchange.json").exists()
    assert (not _kept.due(host.layout, 1, NOW + timedelta(days=99), host.world)[0]) == begun
    go_back(host, NOW + timedelta(minutes=5))
    after = contents(tmp_path)
    assert (after["vda.qcow2"], after["vdb.qcow2"]) == ("vda of today", "vdb of today")
    assert len(after) == 4
    assert len(listed(host)) == 2


def test_only_to_where_they_were(host: Host, tmp_path: Path) -> None:
    images = tmp_path / "images"
    raw = disk("vdb", inside="<driver name='qemu' type='raw'/>", source=f"<source file='{images}/vdb.qcow2'/>")
    first = disk(source=f"<source file='{images}/vda.qcow2'/>")
    for devices in ((first,), (first, raw), (disk("vdb", source=f"<source file='{images}/vda.qcow2'/>"),)):
        host.world.answers["virsh dumpxml"] = said(domain(*devices))
        with pytest.raises(ResilientVmError, match="and the VM has another one there now"):
            go_back(host)
    defined(host, images)
    for name in listed(host):
        (images / name).unlink()
    with pytest.raises(ResilientVmError, match=r"no disks of acme/erp|no disks of erp are kept aside on this host"):
        go_back(host)
    assert contents(tmp_path) == {"vda.qcow2": "vda of Tuesday", "vdb.qcow2": "vdb of Tuesday"}


@pytest.mark.parametrize(("days", "age", "over"), [(14, 13.9, 0), (14, 14, 2), (0, 999, 0), (1, 1, 2)])
def test_they_are_erased_after_their_days(host: Host, tmp_path: Path, days: int, age: float, over: int) -> None:
    keep(host, tmp_path / "images" / "vda.qcow2", "newer", NOW + timedelta(days=999))
    found, stays = _kept.due(host.layout, days, NOW + timedelta(days=age), host.world)
    assert (len(found), stays) == (over, [])
    if found:
        _kept.erase(host.layout, found)
    assert len(contents(tmp_path)) == 5 - over
    assert len(listed(host)) == 3 - over
    assert contents(tmp_path)["vda.qcow2"] == "vda of Tuesday"


@pytest.mark.parametrize(("epoch", "over"), [(1, 2), (2, 0)])
def test_only_a_restore_of_the_present_epoch_keeps_them_from_being_erased(host: Host, epoch: int, over: int) -> None:
    """Of one of an earlier epoch the VM has moved on, and nobody ends it any more."""
    write_json(host.layout.state, {"epoch": 2})
    write_json(os.path.join(host.layout.directory, _kept.EXCHANGE), {"epoch": epoch})
    assert len(_kept.due(host.layout, 1, NOW + timedelta(days=1), host.world)[0]) == over


def test_what_a_machine_has_as_its_disk_stays(host: Host, tmp_path: Path) -> None:
    used = str(tmp_path / "images" / "vda.qcow2.before-20260115T101500Z")
    defined(host, tmp_path / "images", disk("vdc", source=f"<source file='{used}'/>"))
    found, stays = _kept.due(host.layout, 1, NOW + timedelta(days=2), host.world)
    assert [entry["target"] for entry in found] == ["vdb"]
    assert stays == [f"{used} stays, because domain erp on this host has it as its disk"]


def test_what_belongs_to_a_machine_that_moved_goes_with_its_last_file(host: Host, tmp_path: Path) -> None:
    folder = Path(host.layout.before(2))
    (folder / "running").mkdir(parents=True)
    (folder / "domain.xml").write_text("<domain/>")
    record = folder / "record.json"
    record.write_text(json.dumps({"done": False}))
    inside = folder / "running" / "vda.qcow2"
    inside.write_text("what it wrote")
    place = {"target": "vda", "path": "/gone/vda.qcow2", "format": "qcow2", "aside": str(inside)}
    _kept.note(host.layout, [place], "2026-01-15T10:15:00Z")
    beside = keep(host, tmp_path / "images" / "vda.qcow2", "of epoch 2", NOW, "e2")
    later = NOW + timedelta(days=20)
    # Its return is not over: the copy of the next image is made of it.
    assert len(_kept.due(host.layout, 14, later, host.world)[0]) == 2
    record.write_text(json.dumps({"done": True}))
    found, _stays = _kept.due(host.layout, 14, later, host.world)
    assert {str(inside), str(beside)} < {entry["aside"] for entry in found}
    _kept.erase(host.layout, [entry for entry in found if entry["aside"] == str(inside)])
    assert (folder / "domain.xml").exists() and not inside.exists()
    _kept.erase(host.layout, [entry for entry in found if entry["aside"] == str(beside)])
    assert not folder.exists() and not beside.exists()
    # Erasing what is gone already is no failure: the run before was cut off.
    _kept.erase(host.layout, found)
    assert listed(host) == []


def test_status_and_recap_say_where_how_much_and_until_when(host: Host) -> None:
    hosts = {"a": {"kept_aside": _kept.kept(host.layout)}, "c": {"kept_aside": []}, "b": {"answered": False}}
    (entry,) = _kept_report.kept(hosts, 14)
    assert (entry["host"], entry["until"], len(entry["files"])) == ("a", "2026-01-29T10:15:00Z", 2)
    (said_of,) = _kept_report.remarks([entry])
    assert said_of.startswith("kept aside on a: disks of until 2026-01-15T10:15:00Z, ")
    assert said_of.endswith("erased after 2026-01-29T10:15:00Z")
    assert _kept_report.remarks(_kept_report.kept(hosts, 0))[0].endswith("for good")
    gone = {"results": [{"cycle_keeper": "a", "erased": _kept.kept(host.layout), "stays": ["x stays"]}]}
    lines = _kept_report.erased(gone, check_mode=True)
    assert lines[0].startswith("would erase what was kept aside on a: ") and lines[1] == "x stays"
    assert _kept_report.erased({"skipped": True}, check_mode=False) == []
