# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab of the integration tests: three machines, two protected VMs that write all the time, one for faults."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.diary import DAYS, DIARY, ODD, Diary
from integration.vault import VM, Vault
from integration.world import ROOT, World

# Files whose tests read the same images, which are made once where one process has them all.
_TOGETHER = {
    **dict.fromkeys(("test_instant.py", "test_restore.py", "test_restore_files.py"), "diary"),
    **dict.fromkeys(("test_campaign.py", "test_kill.py", "test_pin.py", "test_verify.py"), "vault"),
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes share the tests (pytest -n), a file is one's, and so are those that belong together."""
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return _TOGETHER.get(Path(file).name, file)

    return Together(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Function]) -> None:
    """Modules that need nothing but machines come first: those of the others write all the time, beside all that
    follows, and have to be started again after each power cut of their host.

    Where the cases of a module are one story, its soak is all of them.
    """
    busy = {item.module for item in items if "world" in item.fixturenames}
    items.sort(key=lambda item: item.module in busy)
    if config.option.markexpr == "soak":
        for item in items:
            if getattr(item.module, "STORY", False):
                item.add_marker("soak")


@pytest.fixture(scope="session")
def machines() -> Iterator[World]:
    """Three fresh machines, gone at the end. With RVM_KEEP_LAB they stay, and serve the next run as they are.

    Where several processes share the tests (pytest -n), each has machines of its own.
    """
    state = Path(os.environ.get("RVM_TEST_LAB", ROOT / ".dev/lab-test"))
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    world = World(state.with_name(f"{state.name}-{worker}") if worker else state)
    keep = bool(os.environ.get("RVM_KEEP_LAB"))
    if not keep:
        world.lab("destroy")
    world.lab("up", timeout=1200)
    yield world
    if not keep:
        world.lab("destroy")


@pytest.fixture(scope="session")
def world(machines: World) -> World:
    """The machines with erp (two qcow2 disks) and web (one raw disk) running and protected, no image yet."""
    for vm, kind in (("erp", "two-disk"), ("web", "raw")):
        if f"{vm} " not in machines.lab("guest", "list"):
            # At a low rate: they write beside all the other tests, which share the box with them.
            machines.lab("guest", "create", "a", vm, "--kind", kind, "--rate", "128", "--start")
    machines.play("site")
    return machines


@pytest.fixture(scope="session")
def vault(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    """A protected VM with an image on C and on B, for tests that break its copies; few images."""
    settings = {"retention_days": 7, "retention_minimum": 2}
    extra = world.inventory_file(
        tmp_path_factory.mktemp("inventory") / f"{VM}.json",
        {VM: {f"resilient_vm_{name}": value for name, value in settings.items()}},
    )
    world.lab("guest", "create", "a", VM, "--kind", "raw", "--format", "qcow2", "--no-mount", "--start")
    world.protect(extra, VM)
    vault = Vault(world, extra)
    vault.next_day()
    vault.cycle()
    yield vault
    world.lab("guest", "remove", VM, "--on", "a")


@pytest.fixture(scope="module")
def diary(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Diary]:
    extra = world.inventory_file(
        tmp_path_factory.mktemp("inventory") / "diary.json", {DIARY: {"resilient_vm_lend_to": ["b"]}}
    )
    made = DIARY in world.lab("guest", "list")
    if not made:
        world.lab("guest", "create", "a", DIARY, "--kind", "two-disk", "--rate", "0", "--start")
    elif DIARY not in world.on("a", "virsh list --name").split():
        world.lab("guest", "start", DIARY, "--on", "a")
        world.lab("guest", "wait", DIARY, "--on", "a")
    diary = Diary(world, extra)
    for host in ("a", "b", "c"):
        world.on(host, "rm -rf /srv/*")
    if not world.images(DIARY):
        world.protect(extra, DIARY)
        # What test_restore_files takes out again.
        world.in_guest(DIARY, ODD)
        for day in DAYS:
            diary.daily(day)
    yield diary
    # A guest that idles takes its share of the box from the tests to come.
    world.on("a", f"virsh destroy {DIARY}", check=False)
