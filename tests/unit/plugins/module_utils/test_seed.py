# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A first copy that begins with what was brought."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from unit.engine_fakes import IDS, UUID, Disk, Snapshot, blocks, change, check_image, make_layout, transfer

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._digests import BLOCK_SIZE
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed, run
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._seed import as_raw, check, lay, seeds_of
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return make_layout(tmp_path / "root")


def bring(folder: Path, content: bytes, name: str = "brought.raw") -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)


def test_only_what_differs_from_the_seed_travels(layout: Layout, tmp_path: Path) -> None:
    content = blocks(200)
    path = bring(tmp_path, change(content, {5, 77, 199}))
    laid = lay(layout, seeds_of({"vda": path}, {"vda": len(content)}), UUID, IDS[0], dry=False)
    assert laid == [{"target": "vda", "path": path, "size_bytes": len(content), "changed": True}]
    result = transfer(Snapshot(IDS[1], [Disk("vda", content)], None), Store(layout))
    check_image(Store(layout), IDS[1], content)
    assert result["disks"][0]["changed_bytes"] <= 3 * BLOCK_SIZE
    assert result["disks"][0]["resumed_bytes"] > 100 * BLOCK_SIZE
    assert os.listdir(layout.incoming) == []
    assert Path(path).read_bytes() == change(content, {5, 77, 199})


def test_a_second_time_there_is_nothing_to_do(layout: Layout, tmp_path: Path) -> None:
    content = blocks(20)
    seeds = seeds_of({"vda": bring(tmp_path, content)}, {"vda": len(content)})
    assert lay(layout, seeds, UUID, IDS[0], dry=True)[0]["changed"]
    assert os.listdir(layout.incoming) == []
    lay(layout, seeds, UUID, IDS[0], dry=False)
    assert not lay(layout, seeds, UUID, IDS[1], dry=False)[0]["changed"]
    assert os.listdir(layout.incoming) == [IDS[0]]


def test_a_seed_that_was_cut_off_is_laid_anew(layout: Layout, tmp_path: Path) -> None:
    content = blocks(20)
    seeds = seeds_of({"vda": bring(tmp_path, content)}, {"vda": len(content)})
    lay(layout, seeds, UUID, IDS[0], dry=False)
    folder = Path(layout.incoming, IDS[0])
    (folder / "vda.digests").rename(folder / "vda.digests.part")
    (folder / "vda.raw").write_bytes(b"half")
    assert lay(layout, seeds, UUID, IDS[1], dry=False)[0]["changed"]
    transfer(Snapshot(IDS[1], [Disk("vda", content)], None), Store(layout))
    check_image(Store(layout), IDS[1], content)


def test_a_seed_of_another_machine_is_never_used(layout: Layout, tmp_path: Path) -> None:
    content = blocks(20)
    lay(layout, seeds_of({"vda": bring(tmp_path, content)}, {"vda": len(content)}), "other", IDS[0], dry=False)
    result = transfer(Snapshot(IDS[1], [Disk("vda", content)], None), Store(layout))
    assert result["disks"][0]["resumed_bytes"] == 0
    check_image(Store(layout), IDS[1], content)


def test_what_would_not_serve_is_refused_by_name(layout: Layout, tmp_path: Path) -> None:
    store, path = Store(layout), bring(tmp_path, blocks(4))
    size = 4 * BLOCK_SIZE
    qcow2 = bring(tmp_path, b"QFI\xfb" + bytes(100), "erp.qcow2")
    for paths, sizes, sentence in (
        ({}, {"vda": size}, "no seed was named"),
        ({"vdz": path}, {"vda": size}, "has no disk vdz, its disks are vda"),
        ({"vda": path + "x"}, {"vda": size}, "is no file on this machine"),
        ({"vda": path}, {"vda": size + 1}, f"has {size} bytes and disk vda of acme/erp has {size + 1}"),
        ({"vda": qcow2}, {"vda": size}, "qemu-img convert -O raw"),
    ):
        with pytest.raises(ResilientVmError, match=sentence):
            check(layout, store, seeds_of(paths, sizes), sorted(sizes))
    check(layout, store, seeds_of({"vda": path}, {"vda": size}), ["vda"])
    transfer(Snapshot(IDS[1], [Disk("vda", blocks(4))], None), store)
    with pytest.raises(ResilientVmError, match="has image 20260102T020000Z on this machine already"):
        check(layout, store, seeds_of({"vda": path}, {"vda": size}), ["vda"])


def test_what_is_made_of_a_disk_on_the_way_is_for_root_alone(tmp_path: Path) -> None:
    """It lies where every account gets through."""
    source, work = tmp_path / "disk.qcow2", tmp_path / ".vda.exchange"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(source), "1M"], check=True)
    work.write_text("left by a run that was killed")
    modes = []

    def seen(argv: list[str], **options: Any) -> Completed:
        modes.append(stat.S_IMODE(work.stat().st_mode))
        return run(argv, **options)

    assert as_raw(str(source), "qcow2", str(work), seen) == str(work)
    assert [*modes, stat.S_IMODE(work.stat().st_mode)] == [0o600, 0o600]
