# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what a host does with a machine that lives elsewhere now."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from unit import standby_fakes
from unit.libvirt_fakes import UUID, Host, disk, domain, refused, said

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _aside
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError

NOW = datetime(2026, 1, 16, 9, tzinfo=timezone.utc)
RAW = "<driver name='qemu' type='raw'/>"


class Cut(Exception):
    """The run ends here."""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Host b, not the active one, with the machine as it ran there: a raw disk, and one that no image holds."""
    made = standby_fakes.make_standby(tmp_path, monkeypatch)
    for image_id in (standby_fakes.OLD, standby_fakes.NEW):
        for file in Path(made.layout.generations, image_id).iterdir():
            file.unlink()
        Path(made.layout.generations, image_id).rmdir()
    Path(made.layout.incoming).mkdir()
    Path(made.layout.lock).touch()
    images = tmp_path / "images"
    images.mkdir()
    (images / "vda.raw").write_bytes(os.urandom(65536))
    (images / "swap.raw").write_bytes(b"swap")
    defines(made, xml(images))
    return made


def xml(images: Path) -> str:
    return domain(
        disk(inside=RAW, source=f"<source file='{images}/vda.raw'/>"),
        disk("vdb", inside=RAW, source=f"<source file='{images}/swap.raw'/>"),
    )


def defines(host: Host, text: str) -> None:
    host.world.answers["virsh dumpxml"] = said(text)
    host.world.answers["virsh domstate"] = said("shut off (destroyed)")
    host.world.answers["virsh undefine"] = lambda _words: undefined(host)


def undefined(host: Host) -> Any:
    host.world.answers["virsh domstate"] = refused("error: Domain not found")
    return said()


def wish(**changed: Any) -> _aside.Wish:
    asked = {
        "host": "b",
        "uuid": UUID,
        "epoch": 1,
        "image_id": "20260115T020000Z",
        "disks": [{"target": "vda", "size_bytes": 65536}],
        **changed,
    }
    return _aside.Wish(**asked)


def carry_out(host: Host) -> list[str] | None:
    record = _aside.examine(host.layout, wish(), NOW, host.world)
    return None if record is None else _aside.put_aside(host.layout, wish(), record, host.world)


def test_its_disks_get_other_names_and_begin_the_copy(host: Host, tmp_path: Path) -> None:
    content = (tmp_path / "images" / "vda.raw").read_bytes()
    assert carry_out(host) == ["vda"]
    assert (tmp_path / "images" / "vda.raw.before-e1").read_bytes() == content
    assert sorted(os.listdir(tmp_path / "images")) == ["swap.raw", "vda.raw.before-e1"]
    kept = Path(host.layout.before(1))
    assert "vda.raw" in (kept / "domain.xml").read_text()
    [arriving] = Path(host.layout.incoming).iterdir()
    assert (arriving / "vda.raw").read_bytes() == content and (arriving / "vda.digests").exists()
    [entry] = json.loads(Path(host.layout.directory, "aside.json").read_text())
    assert entry["aside"] == str(tmp_path / "images" / "vda.raw.before-e1")
    assert host.world.asked("virsh undefine") == ["virsh undefine"]
    assert carry_out(host) is None


@pytest.mark.parametrize("step", range(6))
def test_cut_off_anywhere_it_is_ended_by_the_next_run(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    content = (tmp_path / "images" / "vda.raw").read_bytes()
    left = [step]

    def counted(real: Any) -> Any:
        def called(*words: Any, **more: Any) -> Any:
            if left[0] == 0:
                raise Cut
            left[0] -= 1
            return real(*words, **more)

        return called

    with monkeypatch.context() as patch:
        for name in ("rename", "mkdir"):
            patch.setattr(_aside.os, name, counted(getattr(os, name)))
        patch.setattr(_aside, "write_json", counted(_aside.write_json))
        with pytest.raises(Cut):
            carry_out(host)
    carry_out(host)
    assert (tmp_path / "images" / "vda.raw.before-e1").read_bytes() == content
    assert not (tmp_path / "images" / "vda.raw").exists()
    assert "vda.raw" in Path(host.layout.before(1), "domain.xml").read_text()
    assert len(json.loads(Path(host.layout.directory, "aside.json").read_text())) == 1
    assert carry_out(host) is None


def test_what_an_earlier_protection_put_aside_is_not_taken_for_this_one_s(host: Host, tmp_path: Path) -> None:
    """Unprotected and protected again, the VM has left this host at the same epoch once more."""
    carry_out(host)
    (tmp_path / "images" / "vda.raw").write_bytes(os.urandom(65536))
    defines(host, xml(tmp_path / "images"))
    with pytest.raises(
        ResilientVmError, match="in an earlier protection of it, and b has it again; move away that folder"
    ):
        carry_out(host)
    assert host.world.asked("virsh undefine") == ["virsh undefine"]
    os.rename(host.layout.before(1), tmp_path / "elsewhere")
    with pytest.raises(
        ResilientVmError, match=r"vda\.raw\.before-e1, which is there already from an earlier protection"
    ):
        carry_out(host)
    # Both moved, it is done as if nothing had ever been there.
    os.rename(tmp_path / "images/vda.raw.before-e1", tmp_path / "elsewhere/vda.raw")
    assert carry_out(host) is not None
    assert (tmp_path / "images" / "vda.raw.before-e1").exists()


def test_volumes_of_storage_pools_are_kept_as_files_are(host: Host, tmp_path: Path) -> None:
    """Of one whose pool is away nobody knows where it is; the machine is not taken for a standby's all the same."""
    volumes = [
        disk(
            target,
            inside=RAW,
            source=f"<source pool='pool' volume='{name}'/>",
            attributes="type='volume' device='disk'",
        )
        for target, name in (("vda", "there"), ("vdb", "away"))
    ]
    defines(host, domain(*volumes))
    host.world.answers["virsh vol-path"] = refused("error: failed to get pool")
    host.world.answers["virsh vol-path --pool pool --vol there"] = said(f"{tmp_path}/images/vda.raw\n")
    assert carry_out(host) == ["vda"]
    assert sorted(os.listdir(tmp_path / "images")) == ["swap.raw", "vda.raw.before-e1"]
    assert host.world.asked("virsh undefine") == ["virsh undefine"]


def test_what_a_takeover_made_there_is_moved_as_a_whole(host: Host) -> None:
    running = Path(host.layout.running)
    running.mkdir()
    for name in ("vda.qcow2", "vda.base.raw", "promoted.json"):
        (running / name).write_text(name)
    defines(host, domain(disk(inside=RAW, source=f"<source file='{running}/vda.qcow2'/>")))
    assert carry_out(host) == []
    moved = Path(host.layout.before(1), "running")
    assert not running.exists()
    assert sorted(os.listdir(moved)) == ["promoted.json", "vda.base.raw", "vda.qcow2"]
    listed = json.loads(Path(host.layout.directory, "aside.json").read_text())
    assert sorted(entry["aside"] for entry in listed) == sorted(str(path) for path in moved.iterdir())


def test_a_standbys_own_definition_is_left_alone(host: Host) -> None:
    defines(host, domain(disk(inside=RAW, source=f"<source file='{host.layout.running}/vda.qcow2'/>")))
    assert carry_out(host) is None
    assert not host.world.asked("virsh undefine")


def test_a_host_that_holds_a_generation_needs_no_beginning(host: Host) -> None:
    standby_fakes.generation(host, standby_fakes.NEW)
    assert carry_out(host) == []
    assert not os.listdir(host.layout.incoming)


def test_a_disk_that_was_resized_since_is_no_beginning(host: Host, tmp_path: Path) -> None:
    (tmp_path / "images" / "vda.raw").write_bytes(b"0" * 4096)
    assert carry_out(host) == []


@pytest.mark.parametrize(
    ("state", "asked", "sentence"),
    [
        ("running (booted)", {}, "erp is running on b, which is not its active host; shut it down there"),
        ("shut off (saved)", {}, "virsh managedsave-remove"),
        ("shut off (destroyed)", {"epoch": 2}, "this host holds epoch 1 of acme/erp with a as its active host"),
        ("shut off (destroyed)", {"host": "a"}, "run reprotect again"),
        ("shut off (destroyed)", {"bytes_allocated": 1 << 60}, "no space to stand by"),
    ],
)
def test_what_can_not_be_is_refused_and_nothing_touched(
    host: Host, tmp_path: Path, state: str, asked: dict[str, Any], sentence: str
) -> None:
    host.world.answers["virsh domstate"] = said(state)
    with pytest.raises(ResilientVmError) as refusal:
        _aside.examine(host.layout, wish(**asked), NOW, host.world)
    assert sentence in str(refusal.value)
    assert sorted(os.listdir(tmp_path / "images")) == ["swap.raw", "vda.raw"]
    assert not os.path.exists(host.layout.before(1))
