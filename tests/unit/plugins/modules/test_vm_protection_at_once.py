# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about vm_protection beside whoever else is at work on the machine in the same moment."""

from __future__ import annotations

import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unit.plugins.modules.test_vm_protection import KEY, OTHER_KEY, World

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _protection
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._state import State


@pytest.fixture
def storage(tmp_path: Path) -> World:
    return World(tmp_path, "backup_storage", keys={"a": KEY, "b": OTHER_KEY})


@pytest.mark.parametrize("news", [True, False])
def test_what_is_decided_while_site_looks_is_not_taken_back(
    storage: World, monkeypatch: pytest.MonkeyPatch, news: bool
) -> None:
    """A takeover is decided just after site has read what held before. ``news``: site had something to say, too."""
    storage.do()
    path = storage.root / "acme/erp/state.json"
    decided = {**json.loads(path.read_text()), "epoch": 2, "active": "b", "standby": "a", "phase": "failing_over"}
    settle = _protection.settle

    def meanwhile(*given: Any) -> State:
        found = settle(*given)
        path.write_text(json.dumps(decided))
        return replace(found, why="something new") if news else found

    monkeypatch.setattr(_protection, "settle", meanwhile)
    done = storage.do()
    assert json.loads(path.read_text()) == decided
    said = ["something was decided about acme/erp on c just now; run the site playbook again"]
    assert done["problems"] == (said if news else [])


@pytest.mark.parametrize("forgotten", [True, False])
def test_two_runs_for_vms_of_one_customer_undo_nothing_of_each_other(
    storage: World, monkeypatch: pytest.MonkeyPatch, forgotten: bool
) -> None:
    """They share the file of keys that are let in. Each is held where it has read that file, until the other one has
    read it too, or could not."""
    names = ("erp", "crm")
    if forgotten:
        replace(storage, names=names).do()
    both = threading.Barrier(2)
    read = _protection.read_text

    def slowly(path: str) -> str:
        found = read(path)
        if path.endswith("authorized_keys"):
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(timeout=0.5)
        return found

    monkeypatch.setattr(_protection, "read_text", slowly)
    runs = [replace(storage, names=(name,)) for name in names]
    with ThreadPoolExecutor(2) as several:
        done = list(several.map(lambda run: run.do(state="absent" if forgotten else "present"), runs))
    assert [result["problems"] for result in done] == [[], []]
    doors = storage.root / "acme" / ".ssh" / "authorized_keys"
    let_in = doors.read_text() if doors.exists() else ""
    assert [f"acme/{name} " in let_in for name in names] == [not forgotten] * 2
