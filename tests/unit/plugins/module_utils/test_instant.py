# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about resilient-vm instant: a host runs an old day by the backup storage's leave, and ends what it began."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from unit.claim_fakes import PLAN
from unit.engine_fakes import IDS
from unit.lend_fakes import Host, borrower
from unit.libvirt_fakes import UUID

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _ask_storage, _borrow, _instant, _mover
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._beside import Twin
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._claim import Claim
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import read_json, write_json
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._restore_plan import parts
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._restored_files import RECORD
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store


class Storage:
    """The backup storage: it lends its only image to whoever asks, and remembers what was asked."""

    def __init__(self, host: Host) -> None:
        self.asked: list[Claim] = []
        self.refusal = ""
        self._host = host

    def ask(self, claim: Claim) -> dict[str, Any]:
        self.asked.append(claim)
        if self.refusal:
            raise ResilientVmError(self.refusal)
        image = Store(self._host.images).read(IDS[0]).summary()
        return {"image": {"id": image["id"], "instant": image["instant"], **parts(image)}}


class Typed:
    """The command on host b."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.storage = Storage(host)
        self.said: list[str] = []
        self.reserve = 0

    def type(self, point: str = "-8d", name: str = "tuesday") -> str:
        machines = {"b": {**PLAN["machine_settings"]["b"], "reserve_bytes": self.reserve}}
        plan = {**PLAN, "machine_settings": machines, "transfer_bytes_per_second": 5}
        host, storage = self.host, self.storage
        command = _instant.Instant(host.layout, "b", "mary", plan, storage, host.libvirt, self.said.append)  # type: ignore[arg-type]
        command.go(point, Twin(name, start=True))
        return self.said[-1]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    return Typed(borrower(tmp_path, monkeypatch))


def test_it_runs_what_the_backup_storage_lends(typed: Typed) -> None:
    told = typed.type()
    assert (
        told.startswith(f"tuesday runs on b: image {IDS[0]} of acme/erp, its data as of ") and "follow from c" in told
    )
    assert typed.storage.asked == [Claim("borrow", who="mary", point="-8d", name="tuesday")]
    identity = typed.host.domains["tuesday"]
    assert identity in typed.host.running and identity != UUID
    record = read_json(str(typed.host.folder / RECORD))
    assert (record["image"], record["format"], record["rate"], record["borrows"]) == (IDS[0], "qcow2", 5, ["vda"])


def test_typed_again_it_goes_on_with_what_it_began_whatever_day_that_is_now(typed: Typed) -> None:
    typed.type()
    typed.host.crash()
    with pytest.raises(ResilientVmError, match=f"tuesday is made of image {IDS[0]}, which is not 2025-12-31; choose"):
        typed.type("2025-12-31")
    assert "25 % of it are there" in typed.type("-9d")
    assert typed.type("2026-01-01")
    assert typed.storage.asked[-1].point == IDS[0]
    assert typed.host.domains["tuesday"] in typed.host.running
    record = str(typed.host.folder / RECORD)
    write_json(record, {**read_json(record), "borrows": []})
    asked = len(typed.storage.asked)
    assert typed.type() == f"tuesday is on b already, made of image {IDS[0]} of acme/erp; all its data is there"
    assert len(typed.storage.asked) == asked


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("erp", "erp is the protected VM's own name; choose another"),
        ("other", "this host has a VM other already, another machine; choose another"),
        ("kept", "holds disks of a VM that is no longer defined; remove that folder"),
    ],
)
def test_what_can_not_be_is_refused_before_anybody_is_asked(typed: Typed, name: str, why: str) -> None:
    typed.host.domains["other"] = "00000000-0000-4000-8000-000000000009"
    Path(typed.host.layout.restored, "kept").mkdir(parents=True)
    with pytest.raises(ResilientVmError, match=why):
        typed.type(name=name)
    assert not typed.storage.asked and _borrow.read(typed.host.layout) is None


def test_a_second_one_waits_its_turn(typed: Typed) -> None:
    typed.type()
    with pytest.raises(ResilientVmError, match=f"tuesday is being made of image {IDS[0]} of acme/erp here"):
        typed.type(name="friday")
    assert len(typed.storage.asked) == 1


def test_what_was_killed_before_it_was_a_machine_is_gone_on_with_or_given_up(typed: Typed) -> None:
    loan = {"image": IDS[0], "name": "tuesday", "channels": ["definition", "vda"], "over": False}
    _borrow.prepare(typed.host.layout, loan, 0)
    typed.type("-9d")
    assert typed.storage.asked[-1].point == IDS[0] and "tuesday" in typed.host.domains
    # Of another one nothing is there but that it was borrowed.
    typed.host.domains.pop("tuesday")
    _borrow.prepare(typed.host.layout, {**loan, "name": "monday"}, 0)
    typed.storage.refusal = "c refuses: image is lent to monday"
    with pytest.raises(ResilientVmError, match="c refuses"):
        typed.type("-9d", name="friday")
    settled = _borrow.read(typed.host.layout)
    assert settled is not None and settled["over"]


def test_two_at_once_wait_for_each_other(typed: Typed) -> None:
    with _borrow.making(typed.host.layout), pytest.raises(ResilientVmError, match="is held by a restore of acme/erp"):
        typed.type()
    assert not typed.storage.asked


def test_a_copy_that_was_cut_off_is_not_called_done(typed: Typed) -> None:
    typed.host.folder.mkdir(parents=True)
    record = {"image": IDS[0], "format": "qcow2", "uuid": UUID, "defined": False}
    write_json(str(typed.host.folder / RECORD), record)
    with pytest.raises(ResilientVmError, match="that was cut off before it was a VM; run the restore playbook"):
        typed.type()


def test_sentences_name_its_own_options() -> None:
    told = "wait for it, or restore with resilient_vm_restore_mode=copy; choose another resilient_vm_restore_name"
    assert _instant.as_typed(told) == "wait for it, or run the restore playbook; choose another --name"


def test_what_is_refused_leaves_nothing(typed: Typed) -> None:
    typed.storage.refusal = "c refuses: b may not have images of acme/erp by itself"
    with pytest.raises(ResilientVmError, match="b may not have images"):
        typed.type()
    assert _borrow.read(typed.host.layout) is None and not os.path.exists(typed.host.layout.restored)


def test_where_there_is_no_room_whoever_lends_already_hears_it(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    def free(_folder: str, needed_bytes: int, image_id: str, reserve_bytes: int) -> None:
        assert reserve_bytes == 7
        if needed_bytes:
            raise ResilientVmError(f"no space for the restore of {image_id}")

    typed.reserve = 7
    monkeypatch.setattr(
        "ansible_collections.edgecloud.resilient_vm.plugins.module_utils._restored_files.check_free", free
    )
    with pytest.raises(ResilientVmError, match=f"no space for the restore of {IDS[0]}"):
        typed.type()
    loan = _borrow.read(typed.host.layout)
    assert loan is not None and loan["over"] and not os.path.exists(_borrow.folder(typed.host.layout))
    assert "tuesday" not in typed.host.domains


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["acme/erp", "-8d"],
        ["acme/erp", "-8d", "--name", "a/b"],
        ["acme/erp", "-8d", "--name", "x", "--network", "br-lan"],
        ["acme/erp", "-8d", "--name", "x", "-x"],
        ["acme/erp", "13.01.2026", "--name", "x"],
    ],
)
def test_what_can_not_be_understood_ends_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _instant.main(words, Layout, "b")  # type: ignore[arg-type]
    assert ended.value.code == 2


def test_days_ago_are_no_option_and_networks_are_pairs(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(_instant, "prepared", lambda *_given: (PLAN, typed.storage))
    monkeypatch.setattr(_instant.Instant, "go", lambda _self, point, twin: seen.append((point, twin)))
    words = ["acme/erp", "-8d", "--name", "tuesday", "--network", "br-lan=br-test"]
    assert _instant.main(words, lambda _name: typed.host.layout, "b") == 0
    assert seen == [("-8d", Twin("tuesday", {"br-lan": "br-test"}, start=True))]


def test_it_is_for_root_and_for_a_host_of_the_vm(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["acme/erp", "latest", "--name", "tuesday"]
    monkeypatch.setattr(_ask_storage.os, "geteuid", lambda: 1000)
    with pytest.raises(ResilientVmError, match="instant makes a VM run here; run it as root"):
        _instant.main(words, lambda _name: typed.host.layout, "b")
    assert _mover._COMMANDS["instant"]
