# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about restored files, on real files: all of them, proven, or none; images stay as they are."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unit.engine_fakes import IDS, Cut, Disk, Snapshot, blocks, change, make_layout, raw, transfer
from unit.fakes_cycle import STATE

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _restored_files
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._digests import BLOCK_SIZE
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed, run
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._restore_store import (
    RestoreStore,
    moving_bytes,
    pinned,
)
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._restored_files import Wish, examine, lay, root_of
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._stored_source import StoredSource

TUESDAY = blocks(60) + b"tail" * 100
WEDNESDAY = change(TUESDAY, {3, 4, 50})
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A backup storage with two days."""
    made = make_layout(tmp_path / "root")
    store = Store(made)
    transfer(Snapshot(IDS[0], [Disk("vda", TUESDAY)], None), store)
    transfer(Snapshot(IDS[1], [Disk("vda", WEDNESDAY)], None), store)
    return made


def wish_for(layout: Layout, path: Path, image_id: str = IDS[0], **more: Any) -> Wish:
    manifest = Store(layout).read(image_id).manifest
    assert manifest is not None
    summary = manifest.as_dict()
    wish = Wish(image_id, str(path), "raw", summary["disks"], summary["definition"])
    return replace(wish, **more)


def files_in(folder: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def refused(work: Callable[[], object]) -> str:
    with pytest.raises(ResilientVmError) as caught:
        work()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_day_is_laid_as_it_was_and_for_root_alone(layout: Layout, tmp_path: Path) -> None:
    path, before = tmp_path / "tuesday", files_in(layout.images)
    wish = wish_for(layout, path)
    assert examine(layout, wish) is False
    lay(layout, wish, run)
    assert (path / "vda.raw").read_bytes() == TUESDAY
    assert (path / "domain.xml").read_bytes() == b"<domain/>"
    assert [stat.S_IMODE(file.stat().st_mode) for file in (path, path / "vda.raw")] == [0o700, 0o600]
    assert examine(layout, wish) is True
    assert files_in(layout.images) == before
    assert os.listdir(layout.pins) == []
    assert sorted(os.listdir(tmp_path)) == ["root", "tuesday"]


def test_what_somebody_changed_is_told_and_left_alone(layout: Layout, tmp_path: Path) -> None:
    wish = wish_for(layout, tmp_path / "tuesday")
    lay(layout, wish, run)
    with open(tmp_path / "tuesday/vda.raw", "r+b") as stream:
        stream.write(b"x")
    said = refused(lambda: examine(layout, wish))
    assert "tuesday/vda.raw is no longer what was restored from image 20260101T020000Z" in said
    other = wish_for(layout, tmp_path / "tuesday", IDS[1])
    assert "holds image 20260101T020000Z of acme/erp as raw" in refused(lambda: examine(layout, other))
    (tmp_path / "tuesday/vda.raw").unlink()
    assert "vda.raw is no longer what" in refused(lambda: examine(layout, wish))


def test_what_is_in_the_way_or_no_place_is_refused(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "loop").symlink_to(layout.home)
    for path, words in (
        (tmp_path / "there", "is there already; move it away"),
        (tmp_path / "no/where", "there is no folder"),
        (Path(layout.images) / "mine", "where this collection keeps what it works with"),
        (tmp_path / "loop/mine", "where this collection keeps what it works with"),
    ):
        assert words in refused(lambda path=path: examine(layout, wish_for(layout, path)))  # type: ignore[misc]
    for text in ("/", "srv/x", f"{tmp_path}/../x", f"{tmp_path}/x/"):
        wish = replace(wish_for(layout, tmp_path), path=text)
        assert "is not the plain absolute path" in refused(lambda wish=wish: examine(layout, wish))  # type: ignore[misc]


def test_without_room_nothing_is_begun(layout: Layout, tmp_path: Path) -> None:
    big = 1 << 60
    for more in ({"bytes_arriving": big}, {"bytes_allocated": big, "format": "qcow2"}, {"reserve_bytes": big}):
        wish = wish_for(layout, tmp_path / "x", **more)
        assert "no space for the restore" in refused(lambda wish=wish: examine(layout, wish))  # type: ignore[misc]


def test_a_damaged_image_is_marked_with_the_place_and_not_laid(layout: Layout, tmp_path: Path) -> None:
    file = Store(layout).read(IDS[0]).file("vda.raw")
    with open(file, "r+b") as stream:
        stream.seek(17 * BLOCK_SIZE + 5)
        stream.write(b"rot")
    said = refused(lambda: lay(layout, wish_for(layout, tmp_path / "x"), run))
    assert f"disk vda at byte {17 * BLOCK_SIZE}" in said
    assert Store(layout).read(IDS[0]).damaged[0]["found_by"] == "restore"
    assert sorted(os.listdir(tmp_path)) == ["root"] and os.listdir(layout.pins) == []
    assert "is damaged" in refused(lambda: lay(layout, wish_for(layout, tmp_path / "x"), run))


def test_what_a_killed_restore_left_is_cleared_away(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / ".x.restoring").mkdir()
    (tmp_path / ".x.restoring/vda.raw").write_bytes(b"half")
    lay(layout, wish_for(layout, tmp_path / "x"), run)
    assert sorted(os.listdir(tmp_path)) == ["root", "x"]


@pytest.mark.parametrize(
    "told",
    [{"definition": [{"name": "/etc/cron.d/x", "sha256": ""}]}, {"disks": [{"target": "../x"}]}],
)
def test_what_the_backup_storage_tells_names_no_file_elsewhere(tmp_path: Path, told: dict[str, Any]) -> None:
    wish = {"image_id": IDS[0], "path": str(tmp_path / "x"), "format": "raw", "disks": [], **told}
    assert "which is no disk and no file of a definition" in refused(lambda: Wish(**wish))


def test_two_restores_to_one_path_do_not_mix(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of two VMs that one --limit names."""
    path, laid, second = tmp_path / "x", _restored_files.lay_disk, []

    def meanwhile(*given: Any) -> None:
        monkeypatch.setattr(_restored_files, "lay_disk", laid)
        second.append(refused(lambda: lay(layout, wish_for(layout, path, IDS[1]), run)))
        laid(*given)

    monkeypatch.setattr(_restored_files, "lay_disk", meanwhile)
    lay(layout, wish_for(layout, path), run)
    assert second == [f"another run is restoring to {path}; wait for it to end, or name another path"]
    assert (path / "vda.raw").read_bytes() == TUESDAY
    assert sorted(os.listdir(tmp_path)) == ["root", "x"]


def test_a_link_in_the_images_folder_leads_nowhere(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(TUESDAY)
    file = Path(Store(layout).read(IDS[0]).file("vda.raw"))
    file.unlink()
    file.symlink_to(tmp_path / "secret")
    assert "can't be read" in refused(lambda: lay(layout, wish_for(layout, tmp_path / "x"), run))


def test_an_image_is_pinned_while_it_is_read(layout: Layout) -> None:
    with pinned(Store(layout), IDS[0]) as image:
        assert image.id == IDS[0]
        assert Store(layout).read(IDS[0]).reading and not Store(layout).read(IDS[1]).reading
    assert not Store(layout).read(IDS[0]).reading


def test_qcow2_is_made_of_a_proven_image_said_to_be_raw(layout: Layout, tmp_path: Path) -> None:
    asked = []

    def converting(argv: list[str], *_more: Any, **_options: Any) -> Completed:
        asked.append(argv)
        if argv[1] == "convert":
            shutil.copyfile(argv[-2], argv[-1])
        return Completed(0, "", "")

    wish = wish_for(layout, tmp_path / "x", format="qcow2")
    lay(layout, wish, converting)
    assert [words[1:5] for words in asked] == [["convert", "-q", "-f", "raw"], ["compare", "-q", "-f", "raw"]]
    assert stat.S_IMODE((tmp_path / "x/vda.qcow2").stat().st_mode) == 0o600
    assert examine(layout, wish) is True


# on a host


@pytest.fixture
def host(tmp_path: Path) -> Layout:
    return make_layout(tmp_path / "host", "generations")


def restores(host: Layout) -> RestoreStore:
    os.makedirs(host.restores, exist_ok=True)
    return RestoreStore(host)


def test_any_day_comes_to_a_host_in_any_order_and_goes_when_it_is_laid(
    layout: Layout, host: Layout, tmp_path: Path
) -> None:
    # Since those days the VM has moved to another host, and back.
    Path(host.state).write_text(json.dumps({**STATE, "epoch": 3, "changed": "2026-01-04T02:00:00Z", "why": "failover"}))
    for image_id, content in ((IDS[1], WEDNESDAY), (IDS[0], TUESDAY)):
        transfer(StoredSource(Store(layout), image_id), restores(host))
        assert raw(restores(host), image_id) == content
        assert transfer(StoredSource(Store(layout), image_id), restores(host))["already"]
    assert sorted(os.listdir(host.restores)) == [IDS[0], "incoming"]  # the other was never laid
    lay(host, replace(wish_for(layout, tmp_path / "x"), store="restores"), run)
    assert (tmp_path / "x/vda.raw").read_bytes() == TUESDAY
    assert os.listdir(host.restores) == ["incoming"]


def test_only_what_differs_from_a_generation_travels_and_it_stays_as_it_is(layout: Layout, host: Layout) -> None:
    generations = Store(host, "generations")
    transfer(StoredSource(Store(layout), IDS[1]), generations)
    before = files_in(generations.folder)
    result = transfer(StoredSource(Store(layout), IDS[0]), restores(host))
    assert result["disks"][0]["changed_bytes"] == 3 * BLOCK_SIZE == moving_bytes(Store(layout), IDS[0], IDS[1])
    assert raw(restores(host), IDS[0]) == TUESDAY
    assert files_in(generations.folder) == before
    everything = moving_bytes(Store(layout), IDS[0], None)
    assert 3 * BLOCK_SIZE < everything <= len(TUESDAY) + BLOCK_SIZE


def test_a_damaged_generation_does_not_get_into_a_restore(layout: Layout, host: Layout) -> None:
    generations = Store(host, "generations")
    transfer(StoredSource(Store(layout), IDS[1]), generations)
    for block in (3, 30):  # one that differs anyway, and one that doesn't
        with open(generations.read(IDS[1]).file("vda.raw"), "r+b") as stream:
            stream.seek(block * BLOCK_SIZE)
            stream.write(b"rot")
    transfer(StoredSource(Store(layout), IDS[0]), restores(host))
    assert raw(restores(host), IDS[0]) == TUESDAY


def test_a_restore_that_was_cut_off_goes_on(layout: Layout, host: Layout) -> None:
    with pytest.raises(Cut):
        transfer(StoredSource(Store(layout), IDS[0]), restores(host), cut_after=1)
    result = transfer(StoredSource(Store(layout), IDS[0]), restores(host))
    assert result["disks"][0]["resumed_bytes"] > 0
    assert raw(restores(host), IDS[0]) == TUESDAY


def test_what_did_not_arrive_whole_is_thrown_away(layout: Layout, host: Layout, tmp_path: Path) -> None:
    transfer(StoredSource(Store(layout), IDS[0]), restores(host))
    with open(restores(host).read(IDS[0]).file("vda.raw"), "r+b") as stream:
        stream.write(b"rot")
    wish = replace(wish_for(layout, tmp_path / "x"), store="restores")
    assert "did not arrive as it is on the backup storage; run again" in refused(lambda: lay(host, wish, run))
    assert os.listdir(host.restores) == ["incoming"] and not (tmp_path / "x").exists()


# as modules


def arguments(layout: Layout, wish: Wish) -> dict[str, Any]:
    names = ("target", "size_bytes", "root_digest")
    return {
        "root": layout.root,
        "customer": "acme",
        "vm": "erp",
        "image_id": wish.image_id,
        "path": wish.path,
        "disks": [{name: disk[name] for name in names} for disk in wish.disks],
        "definition": [{"name": entry["name"], "sha256": entry["sha256"]} for entry in wish.definition],
        "reserve_bytes": 0,
    }


def test_the_module_tells_does_and_finds_nothing_to_do(run_module: Run, layout: Layout, tmp_path: Path) -> None:
    given = arguments(layout, wish_for(layout, tmp_path / "x"))
    planned = run_module("image_restore", given, check_mode=True, diff=True)
    assert planned["changed"] is True and not (tmp_path / "x").exists()
    done = run_module("image_restore", given, diff=True)
    assert done["diff"] == planned["diff"] == {"before": {"image": None}, "after": {"image": IDS[0]}}
    digest = given["disks"][0]["root_digest"]
    size = len(TUESDAY)
    assert done["disks"] == [
        {"target": "vda", "file": "vda.raw", "size_bytes": size, "root_digest": digest, "file_digest": digest}
    ]
    record = json.loads((tmp_path / "x" / _restored_files.RECORD).read_text())
    assert record["disks"] == done["disks"]
    with open(tmp_path / "x/vda.raw", "rb") as stream:
        assert root_of(stream.fileno(), size) == digest
    assert run_module("image_restore", given)["changed"] is False
    failed = run_module("image_restore", {**given, "path": str(tmp_path)})
    assert failed["failed"] is True and "is there already" in failed["msg"]
