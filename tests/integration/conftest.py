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
    """Three fresh machines; gone at the end unless RVM_KEEP_LAB is set."""
    world = World(Path(os.environ.get("RVM_TEST_LAB", ROOT / ".dev/lab-test")))
    world.lab("destroy")
    world.lab("up", timeout=1200)
    yield world
    if not os.environ.get("RVM_KEEP_LAB"):
        world.lab("destroy")


@pytest.fixture(scope="session")
def world(machines: World) -> World:
    """The machines with erp (two qcow2 disks) and web (one raw disk) running and protected, no image yet."""
    machines.lab("guest", "create", "a", "erp", "--kind", "two-disk", "--start")
    machines.lab("guest", "create", "a", "web", "--kind", "raw", "--start")
    machines.play("site")
    return machines
