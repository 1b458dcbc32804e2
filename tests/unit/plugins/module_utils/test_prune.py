# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about erasing for real: on folders of images, under the VM's lock, and through the module."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.engine_fakes import UUID

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._manifest import Disk, Manifest

JANUARY = [f"202601{day:02}T020000Z" for day in range(1, 32)]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout("acme", "erp", str(tmp_path / "root"))
    for folder in (layout.images, layout.pins):
        os.makedirs(folder)
    return layout


def store(layout: Layout, image_id: str, epoch: int = 1) -> None:
    disk = Disk("vda", 65536, "0" * 64, "digests")
    folder = Path(layout.image(image_id))
    folder.mkdir()
    (folder / disk.file).write_bytes(bytes(disk.size_bytes))
    (folder / disk.digests).write_bytes(b"")
    instant = _clock.iso(_clock.instant(image_id))
    manifest = Manifest(image_id, instant, "acme", "erp", "erp", UUID, epoch, "crash", "a", [disk], [])
    (folder / "manifest.json").write_text(json.dumps(manifest.as_dict()))


def held(layout: Layout) -> list[str]:
    return sorted(os.listdir(layout.images))


@pytest.fixture
def prune(layout: Layout, run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def run(check_mode: bool = False, **wish: Any) -> dict[str, Any]:
        vms = [{"customer": "acme", "vm": "erp", **wish}]
        return run_module("image_prune", {"root": layout.root, "vms": vms}, check_mode=check_mode, diff=True)

    return run


def test_weeks_and_months_stay_beside_the_days(layout: Layout, prune: Callable[..., dict[str, Any]]) -> None:
    for image_id in ("20251231T020000Z", *JANUARY[:15]):
        store(layout, image_id)
    wish = {"retention_days": 2, "minimum": 1, "keep_weekly": 2, "keep_monthly": 2}
    checked = prune(check_mode=True, **wish)
    key = "acme/erp 20260111T020000Z"
    assert checked["diff"]["after"][key] == "the newest image of 2026-W02, and those of 2 weeks are kept"
    prune(**wish)
    assert held(layout) == ["20251231T020000Z", JANUARY[10], JANUARY[13], JANUARY[14]]
    assert not prune(**wish)["changed"]


def test_a_negative_number_of_weeks_is_refused(prune: Callable[..., dict[str, Any]]) -> None:
    assert "images of -1 weeks, months or years of acme/erp can't be kept" in prune(keep_weekly=-1)["msg"]


def test_check_do_check_do(layout: Layout, prune: Callable[..., dict[str, Any]]) -> None:
    for image_id in JANUARY[:15]:
        store(layout, image_id)
    checked, before = prune(check_mode=True), held(layout)
    done, after = prune(), held(layout)
    checked_again, again = prune(check_mode=True), prune()
    assert [checked["changed"], done["changed"], checked_again["changed"], again["changed"]] == [
        True,
        True,
        False,
        False,
    ]
    assert before == JANUARY[:15]
    assert after == held(layout) == JANUARY[1:15]
    reason = "14 days older than the newest image 20260115T020000Z, 14 are kept"
    assert checked["erased"] == done["erased"] == [{"vm": "acme/erp", "id": JANUARY[0], "reason": reason}]
    assert [entry["id"] for entry in done["kept"]] == JANUARY[1:15]
    assert all(entry["reason"] for entry in done["kept"])
    assert set(checked["diff"]["before"]) - set(checked["diff"]["after"]) == {f"acme/erp {JANUARY[0]}"}


def test_check_mode_counts_from_the_image_that_would_come(layout: Layout, prune: Callable[..., dict[str, Any]]) -> None:
    for image_id in JANUARY[:14]:
        store(layout, image_id)
    checked = prune(check_mode=True, newest_id=JANUARY[14])
    assert [entry["id"] for entry in checked["erased"]] == JANUARY[:1]
    assert held(layout) == JANUARY[:14]


def test_nothing_goes_when_the_published_image_is_not_there(
    layout: Layout, prune: Callable[..., dict[str, Any]]
) -> None:
    for image_id in JANUARY[:14]:
        store(layout, image_id)
    done = prune(newest_id=JANUARY[14], retention_days=1)
    assert done["changed"] is False
    assert held(layout) == JANUARY[:14]


def test_nothing_goes_when_the_published_image_is_damaged(layout: Layout, prune: Callable[..., dict[str, Any]]) -> None:
    for image_id in JANUARY[:3]:
        store(layout, image_id)
    Path(layout.image(JANUARY[2]), "damaged.json").write_text('[{"disk": "vda", "offset_bytes": 0, "found": ""}]')
    assert prune(newest_id=JANUARY[2], retention_days=1)["changed"] is False


def test_a_pinned_image_stays(layout: Layout, prune: Callable[..., dict[str, Any]]) -> None:
    for image_id in (JANUARY[0], JANUARY[1], *JANUARY[20:24]):
        store(layout, image_id)
    pin = {"image": JANUARY[0], "purpose": "audit", "until": None, "reading": False}
    Path(layout.pins, "audit.json").write_text(json.dumps(pin))
    done = prune()
    assert [entry["id"] for entry in done["erased"]] == [JANUARY[1]]
    assert {entry["id"]: entry["reason"] for entry in done["kept"]}[JANUARY[0]] == "pinned by audit"


def test_an_unreadable_image_is_neither_counted_nor_spared(
    layout: Layout, prune: Callable[..., dict[str, Any]]
) -> None:
    for image_id in (JANUARY[0], *JANUARY[20:24]):
        store(layout, image_id)
    Path(layout.image(JANUARY[0]), "manifest.json").write_text("{")
    assert [entry["id"] for entry in prune()["erased"]] == [JANUARY[0]]


def test_whoever_holds_the_lock_is_named(layout: Layout, prune: Callable[..., dict[str, Any]]) -> None:
    store(layout, JANUARY[0])
    with open(layout.lock, "w") as lock:
        lock.write("somebody (process 1)")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = prune()
    assert said["failed"]
    assert "is held by somebody (process 1)" in said["msg"]


@pytest.mark.parametrize("wish", [{"retention_days": 0}, {"retention_days": -3}, {"minimum": 0}, {"timezone": "Mars"}])
def test_a_rule_that_cannot_be_erases_nothing(
    layout: Layout, prune: Callable[..., dict[str, Any]], wish: dict[str, Any]
) -> None:
    for image_id in JANUARY:
        store(layout, image_id)
    assert prune(**wish)["failed"]
    assert held(layout) == JANUARY


def test_a_vm_that_site_has_not_laid_out_is_said(run_module: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    said = run_module("image_prune", {"root": str(tmp_path), "vms": [{"customer": "acme", "vm": "crm"}]})
    assert said["failed"]
    assert "acme/crm/images is not there; run the site playbook" in said["msg"]
