# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab for all integration tests: three machines, two protected VMs that write all the time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.world import ROOT, World


@pytest.fixture(scope="session")
def machines() -> Iterator[World]:
    """Three fresh machines, gone at the end. With RVM_KEEP_LAB they stay, and serve the next run as they are."""
    world = World(Path(os.environ.get("RVM_TEST_LAB", ROOT / ".dev/lab-test")))
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
            machines.lab("guest", "create", "a", vm, "--kind", kind, "--start")
    machines.play("site")
    return machines
