# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the nights of a VM that moves, or has moved, to its other host."""

from __future__ import annotations

import pytest
from unit.fakes_cycle import VERSION, World, image, plan

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._preflight import Decision, Facts, examine

YESTERDAY, TODAY = "20260114T020000Z", "20260115T013000Z"


def after(world: World, standby: str = "a") -> Decision:
    facts = Facts(world.hosts, {"c": world.stored}, {standby: world.held}, _clock.parse(world.now), VERSION)
    return examine(plan(), facts)


def moved(phase: str, lags: bool = False, former: bool = False) -> World:
    """It lives on b, at epoch 2; a may not have heard of it yet, or still have what it had."""
    world = World().holds(image(YESTERDAY), standby=YESTERDAY)
    state = {"epoch": 2, "active": "b", "standby": "a", "phase": phase}
    for name in "bc" if lags else "abc":
        world.hosts[name]["state"].update(state)
    world.hosts["a"]["domain"]["state"], world.hosts["b"]["domain"]["state"] = "shut off", "running"
    world.held["former"] = former
    return world


@pytest.mark.parametrize("lags", [False, True])
def test_after_a_takeover_the_image_is_taken_and_nobody_is_brought_up_to_it(lags: bool) -> None:
    decision = after(moved("failed_over", lags))
    assert (decision.take_image, decision.refresh_standby, decision.reprotects) == (True, False, False)
    assert [each["name"] for each in decision.destinations] == ["c"]
    [said] = decision.later
    there = "a holds erp as it was at epoch 1, and does not" if lags else "a is up, and does not"
    assert said.startswith(there) and said.endswith("; run the reprotect playbook")


def test_while_the_other_host_is_away_it_is_to_be_made_its_standby_when_it_is_back() -> None:
    world = moved("failed_over").gone("a")
    world.held = dict(world.hosts["a"])
    said = after(world).later[-1]
    assert said == (
        "nobody stands by for erp since b took it over from a; when that is up again, run the reprotect playbook"
    )


@pytest.mark.parametrize(("lags", "former"), [(True, False), (False, True), (True, True)])
def test_a_host_that_has_not_put_aside_what_it_had_is_given_nothing(lags: bool, former: bool) -> None:
    """Its machine would be defined over."""
    decision = after(moved("reprotecting", lags, former))
    assert (decision.take_image, decision.refresh_standby, decision.reprotects) == (True, False, False)
    [said] = decision.later
    assert "a still has erp as it was before b took it over" in said


def test_a_host_that_has_is_given_the_image_and_stands_by() -> None:
    decision = after(moved("reprotecting"))
    assert (decision.take_image, decision.refresh_standby, decision.reprotects) == (True, True, True)
    assert not decision.later


def test_a_run_that_was_cut_off_before_the_last_step_is_ended_by_the_next_one() -> None:
    """The image is there already; only the word that somebody stands by is missing."""
    world = moved("reprotecting")
    world.holds(image(TODAY, epoch=2))
    world.held.update(current={"id": TODAY, "epoch": 2})
    decision = after(world)
    assert (decision.take_image, decision.refresh_standby, decision.reprotects) == (False, True, True)


def test_a_machine_that_is_down_to_be_moved_gets_its_image_and_the_run_is_red() -> None:
    world = World().holds(image(YESTERDAY), standby=YESTERDAY)
    for name in "abc":
        world.hosts[name]["state"]["phase"] = "switching"
    world.hosts["a"]["domain"]["state"] = "shut off"
    decision = after(world, "b")
    assert (decision.take_image, decision.refresh_standby, decision.reprotects) == (True, True, False)
    assert decision.later == ["erp is down to move from a to b; run the switchover playbook again"]


def test_after_a_switch_the_other_host_is_the_active_one() -> None:
    world = World()
    for name in "abc":
        world.hosts[name]["state"].update(epoch=2, active="b", standby="a")
    world.hosts["a"]["domain"]["state"], world.hosts["b"]["domain"]["state"] = "shut off", "running"
    decision = after(world)
    assert (decision.active, decision.standby, decision.epoch) == ("b", "a", 2)
