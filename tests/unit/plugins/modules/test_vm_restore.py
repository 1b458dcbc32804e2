# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about vm_restore: a new machine, once, and whatever an interrupted run left of it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from unit.engine_fakes import IDS, Disk, Snapshot, blocks, make_layout, restoring, transfer
from unit.libvirt_fakes import UUID, disk, domain, refused, said
from unit.libvirt_fakes import World as Libvirt

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _beside
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import read_json, write_json
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._restore_store import RestoreStore
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._restored_files import RECORD
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._stored_source import StoredSource
from ansible_collections.edgecloud.resilient_vm.plugins.modules import vm_restore

Run = Callable[..., dict[str, Any]]
CONTENT = blocks(20)


def tar_of(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name.replace("__", "/"))
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


class Machine(Snapshot):
    """A snapshot with the definition of a machine that has a TPM."""

    tpm = tar_of(tpm2__tpm2_00_permall=b"state")

    def definition(self) -> Any:
        yield "domain.xml", domain(disk()).encode()
        yield "tpm.tar", self.tpm


class Host:
    """A host that has got an image, and a libvirt that remembers what was defined."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path
        self.images = make_layout(tmp_path / "c")
        transfer(Machine(IDS[0], [Disk("vda", CONTENT)], None), Store(self.images))
        self.layout: Layout = make_layout(tmp_path / "b", "generations")
        Path(self.layout.restores).mkdir()
        self.arrives()
        self.domains = {"erp": UUID}
        self.xml = ""
        self.libvirt = Libvirt(
            {
                "virsh list --all --uuid --name": lambda _words: said(
                    "".join(f"{uuid} {name}\n" for name, uuid in self.domains.items())
                ),
                "virsh define": self.define,
                "virsh start": said(),
                "virsh domstate": said("shut off (unknown)"),
            }
        )

    def arrives(self) -> None:
        transfer(StoredSource(Store(self.images), IDS[0]), RestoreStore(self.layout))

    def define(self, words: list[str]) -> Any:
        self.xml = Path(words[1]).read_text()
        uuid = self.xml.partition("<uuid>")[2].partition("<")[0]
        self.domains["tuesday"] = uuid
        return said()

    @property
    def wish(self) -> dict[str, Any]:
        return restoring(self.images, self.layout, "tuesday")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    monkeypatch.setattr(vm_restore, "run", made.libvirt)
    monkeypatch.setattr(_beside, "make", partial(_beside.make, swtpm=str(tmp_path / "swtpm")))
    return made


def test_it_is_told_made_and_then_left_alone(run_module: Run, host: Host) -> None:
    planned = run_module(vm_restore, host.wish, check_mode=True, diff=True)
    assert planned["changed"] is True and planned["uuid"] is None and not host.xml
    done = run_module(vm_restore, host.wish, diff=True)
    assert done["diff"] == planned["diff"] == {"before": {"state": "absent"}, "after": {"state": "shut off"}}
    folder = Path(done["path"])
    assert folder == Path(host.layout.restored, "tuesday")
    assert (folder / "vda.raw").read_bytes() == CONTENT
    assert (host.path / "swtpm" / done["uuid"] / "tpm2/tpm2_00_permall").read_bytes() == b"state"
    assert host.domains["tuesday"] == done["uuid"] != UUID
    (folder / "vda.raw").write_bytes(b"it has run")
    assert run_module(vm_restore, host.wish)["changed"] is False
    assert not host.libvirt.asked("virsh start", "virsh undefine", "virsh autostart")


def test_it_is_started_when_asked_for(run_module: Run, host: Host) -> None:
    assert run_module(vm_restore, {**host.wish, "start": True})["changed"] is True
    assert len(host.libvirt.asked("virsh start")) == 1
    host.libvirt.answers["virsh domstate"] = said("running (booted)")
    again = run_module(vm_restore, {**host.wish, "start": True}, diff=True)
    assert (again["changed"], again["diff"]["after"]) == (False, {"state": "running"})


def test_a_run_that_ended_before_the_machine_was_defined_is_ended(run_module: Run, host: Host) -> None:
    host.libvirt.answers["virsh define"] = refused("error: no such emulator")
    failed = run_module(vm_restore, host.wish)
    assert failed["failed"] is True and "no such emulator" in failed["msg"]
    host.libvirt.answers["virsh define"] = host.define
    assert run_module(vm_restore, host.wish)["changed"] is True
    assert run_module(vm_restore, host.wish)["changed"] is False


def test_what_is_in_the_way_is_told(run_module: Run, host: Host) -> None:
    answer = run_module(vm_restore, {**host.wish, "name": "erp"})
    assert answer["msg"].startswith("this host has a VM erp already, another machine; choose another")
    run_module(vm_restore, host.wish)
    answer = run_module(vm_restore, {**host.wish, "image_id": IDS[1]})
    assert f"this host has a VM tuesday already, of image {IDS[0]}" in answer["msg"]
    answer = run_module(vm_restore, {**host.wish, "format": "qcow2"})
    assert f"this host has a VM tuesday already, of image {IDS[0]}" in answer["msg"]
    del host.domains["tuesday"]
    answer = run_module(vm_restore, host.wish)
    assert "holds disks of a VM that is no longer defined; remove that folder" in answer["msg"]
    answer = run_module(vm_restore, {**host.wish, "name": "other", "reserve_bytes": 1 << 60})
    assert "no space for the restore" in answer["msg"]


def test_a_tpm_that_would_leave_its_folder_is_not_unpacked(
    run_module: Run, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Machine, "tpm", tar_of(**{"..__..__evil": b"x"}))
    transfer(Machine(IDS[1], [Disk("vda", CONTENT)], None), Store(host.images))
    transfer(StoredSource(Store(host.images), IDS[1]), RestoreStore(host.layout))
    manifest = Store(host.images).read(IDS[1]).manifest
    assert manifest is not None
    definition = [{"name": entry.name, "sha256": entry.sha256} for entry in manifest.definition]
    answer = run_module(vm_restore, {**host.wish, "image_id": IDS[1], "definition": definition})
    assert "which is no file of a TPM" in answer["msg"] and not host.xml
    assert not list(host.path.rglob("evil"))


def test_what_it_says_about_itself(run_module: Run, host: Host) -> None:
    done = run_module(vm_restore, host.wish)
    record = json.loads(Path(done["path"], "restored.json").read_text())
    assert (record["name"], record["uuid"], record["defined"]) == ("tuesday", done["uuid"], True)


def test_a_run_that_was_killed_right_after_it_was_defined_is_written_down(run_module: Run, host: Host) -> None:
    run_module(vm_restore, host.wish)
    record = f"{host.layout.restored}/tuesday/{RECORD}"
    write_json(record, {**read_json(record), "defined": False})
    assert not run_module(vm_restore, {**host.wish, "start": False})["changed"]
    run_module(vm_restore, {**host.wish, "start": True})
    # Else its disks would be taken for those of a machine that is still to be defined, once it is not there any more.
    assert read_json(record)["defined"]
