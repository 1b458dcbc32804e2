# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what a drill decides: whose turn it is, and where."""

from __future__ import annotations

from typing import Any

import pytest
from unit import fakes_cycle
from unit.fakes_cycle import VERSION, World, image

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._drill_plan import decide
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._restore_plan import Decision

OLD, NEW = "20260113T020000Z", "20260114T020000Z"


def stored(image_id: str, **members: Any) -> dict[str, Any]:
    made = image(
        image_id, bytes_allocated=1 << 20, definition=[{"name": "domain.xml", "size_bytes": 9, "sha256": "ab"}]
    )
    made["disks"][0]["root_digest"] = "0" * 64
    return {**made, **members}


@pytest.fixture
def world() -> World:
    return World().holds(stored(OLD), stored(NEW), standby=NEW)


def decided(world: World, **settings: Any) -> Decision:
    plan = fakes_cycle.plan(**settings)
    return decide(plan, world.hosts, {"c": world.stored}, _clock.parse(world.now), VERSION)


def test_the_image_whose_turn_it_is_goes_to_the_host_that_stands_by(world: World) -> None:
    decision = decided(world)
    assert (decision.image_id, decision.host, decision.store, decision.travels) == (NEW, "b", "restores", True)
    assert (decision.name, decision.path) == ("erp-drill", "/var/lib/resilient-vm/acme/erp/drill")
    world.stored["drills"] = [{"image": NEW, "ended": "2026-01-14T03:00:00Z"}]
    assert decided(world).image_id == OLD
    assert decided(world, restore_point="latest").image_id == NEW


def test_a_damaged_image_has_no_turn_and_a_named_one_is_told(world: World) -> None:
    world.stored["images"][1].update(complete=False, problem="its manifest is gone")
    assert decided(world).image_id == OLD
    with pytest.raises(ResilientVmError, match="its manifest is gone"):
        decided(world, restore_point=NEW)
    world.stored["images"][0].update(complete=False, problem="its manifest is gone")
    with pytest.raises(ResilientVmError, match="no image of erp can be restored"):
        decided(world)


def test_a_machine_that_is_needed_and_away_is_told(world: World) -> None:
    with pytest.raises(ResilientVmError, match="machine b can't be reached"):
        decided(world.gone("b"))
