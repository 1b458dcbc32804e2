# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what the documents of a VM's machines say together, and that status is red and tells it."""

from __future__ import annotations

from typing import Any

import pytest
from unit.fakes_cycle import World, image, plan
from unit.plugins.module_utils.test_report import asked

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._report import status, status_table
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._standing import disagreement, standing, stopped

TODAY = "20260115T020000Z"
STOP = {
    "when": "2026-01-15T09:30:00Z",
    "why": "acme/erp was stopped on a: c says b is active since epoch 2; what it wrote here since then is on its disks",
    "epoch": 1,
}


def moved(phase: str = "failed_over", *follow: str) -> World:
    """It lives on b, at epoch 2, and these have heard of it."""
    world = World().holds(image(TODAY))
    for name in follow or "bc":
        world.hosts[name]["state"].update(epoch=2, active="b", standby="a", phase=phase)
    return world


def told(world: World) -> list[str]:
    found = standing(plan(), world.hosts, "b", "a")
    return [*found.problems, *found.later]


def row(world: World) -> dict[str, Any]:
    given = asked(world)
    for result in given["cycle_hosts"]["results"]:
        if "states" in result:
            result["stops"] = {"acme/erp": world.hosts[result["item"]["machine"]].get("stopped")}
    given["cycle_standbys"] = {"results": []}
    found = status({"erp": given}, ["erp"])[0]
    assert [line for line in status_table({"erp": given}, ["erp"]) if line == f"    ALARM: {found['alarm']}"]
    return {**found, "lines": "\n".join(status_table({"erp": given}, ["erp"]))}


def test_a_host_that_ran_on_and_was_stopped_is_told_with_what_it_keeps() -> None:
    world = moved()
    world.hosts["a"]["stopped"] = STOP
    found = row(world)
    assert found["alarm"] == "a holds erp as it was at epoch 1, and does not stand by; run the reprotect playbook"
    assert f"    on a at 2026-01-15T09:30:00Z: {STOP['why']}" in found["lines"]


def test_while_it_is_away_nobody_stands_by() -> None:
    found = row(moved().gone("a"))
    assert found["alarm"].startswith("nobody stands by for erp since b took it over from a; when that is up again")


def test_it_has_heard_of_it() -> None:
    assert row(moved("failed_over", *"abc"))["alarm"].startswith("a is up, and does not stand by for erp since b")


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        ("switching", "erp is down to move from b to a; run the switchover playbook again"),
        ("reprotecting", "a still has erp as it was before b took it over, and does not stand by"),
        ("restoring", "erp is in phase restoring; no image is taken until that is brought to its end"),
        ("failing_over", "erp is in phase failing_over"),
    ],
)
def test_what_was_begun_and_is_not_over(phase: str, expected: str) -> None:
    follow = "bc" if phase == "reprotecting" else "abc"
    assert row(moved(phase, *follow))["alarm"].startswith(expected)


def test_documents_that_disagree() -> None:
    assert row(moved("protected", "b"))["alarm"] == (
        "the state documents of erp disagree (a: epoch 1 on a, b: epoch 2 on b, c: epoch 1 on a); find out where it "
        "runs, then run the resolve playbook"
    )
    assert disagreement("erp", {}) == []


def test_a_machine_without_a_document() -> None:
    world = moved("protected", *"abc")
    world.hosts["a"]["state"] = None
    assert row(world)["alarm"] == "erp has no state document on a; run the site playbook"


def test_at_rest_nothing_is_told() -> None:
    assert told(moved("protected", *"abc")) == []


@pytest.mark.parametrize(
    ("phase", "epoch", "stop", "expected"),
    [
        ("failed_over", 2, 1, True),
        ("failed_over", 2, 2, True),
        ("reprotecting", 2, 1, True),
        # Over, and of an earlier takeover.
        ("protected", 2, 1, False),
        ("failed_over", 4, 1, False),
    ],
)
def test_a_stop_is_told_until_the_machine_is_at_rest_again(phase: str, epoch: int, stop: int, expected: bool) -> None:
    world = moved(phase)
    world.hosts["b"]["state"]["epoch"] = epoch
    world.hosts["a"]["stopped"] = {**STOP, "epoch": stop}
    # What the host it lives on stopped once is no news.
    world.hosts["b"]["stopped"] = {**STOP, "epoch": epoch}
    assert [line.split()[1] for line in stopped(world.hosts, "b")] == (["a"] if expected else [])
