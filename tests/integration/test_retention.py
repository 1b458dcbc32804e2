# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The calendar: which images stay, whatever the clocks do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from integration.world import STORE, World

# hr keeps the default fourteen days, crm three.
VMS = {"hr": {}, "crm": {"resilient_vm_retention_days": 3}}
LIMIT = ("--limit", "hr,crm")


def ids(*days: str) -> list[str]:
    return [f"2026{day}T020000Z" for day in days]


@pytest.fixture(scope="module")
def calendar(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Path]]:
    """Two more protected VMs, whose history is only what these tests make it."""
    extra = world.inventory_file(tmp_path_factory.mktemp("inventory") / "calendar.json", VMS)
    for vm in VMS:
        world.lab("guest", "create", "a", vm, "--kind", "raw", "--format", "qcow2", "--rate", "64", "--start")
    world.protect(extra, *VMS)
    yield world, extra
    # A guest that idles takes its share of the box from the tests to come.
    for vm in VMS:
        world.lab("guest", "destroy", vm, "--on", "a")


def cycle(calendar: tuple[World, Path], now: str, expect: int = 0, more: tuple[Path, ...] = ()) -> str:
    world, extra = calendar
    return world.play("daily", *LIMIT, inventory=[extra, *more], now=now, expect=expect).output


def january(calendar: tuple[World, Path], days: Sequence[int]) -> None:
    """First run on January 1st, fourteen days kept: after the run of the 15th what is from the 2nd on remains."""
    world, _extra = calendar
    done: list[str] = []
    for day in days:
        cycle(calendar, f"2026-01-{day:02d}T02:00:00Z")
        done.append(f"01{day:02d}")
        if day == 14:
            assert world.images("hr") == ids(*done)
    assert world.images("hr") == ids(*done[1:])
    assert world.images("crm") == ids("0113", "0114", "0115")
    for vm in VMS:
        for image_id in world.images(vm):
            world.check_image(vm, image_id)
        assert world.generations(vm) == ids("0115")
        world.check_image(vm, "20260115T020000Z", "b")
    found = [disk["found_by"] for disk in world.manifest("hr", "20260115T020000Z")["disks"]]
    assert found == ["bitmap"]


def test_some_days_of_january(calendar: tuple[World, Path]) -> None:
    january(calendar, (1, 13, 14, 15))


@pytest.mark.soak
def test_january(calendar: tuple[World, Path]) -> None:
    """Every day of it; --soak runs it in place of the test before."""
    january(calendar, range(1, 16))


def boots(world: World, vm: str, image_id: str) -> None:
    world.lab("guest", "boot-raw", "c", f"{STORE}/{vm}/images/{image_id}/vda.raw")
    world.check_image(vm, image_id)


def test_an_image_boots_as_a_plain_file(calendar: tuple[World, Path]) -> None:
    world, _extra = calendar
    boots(world, "hr", world.images("hr")[0])
    boots(world, "crm", world.images("crm")[-1])


@pytest.mark.soak
def test_every_image_boots_as_a_plain_file(calendar: tuple[World, Path]) -> None:
    world, _extra = calendar
    for vm in VMS:
        for image_id in world.images(vm):
            boots(world, vm, image_id)


@pytest.mark.parametrize("machine", ["c", *(pytest.param(name, marks=pytest.mark.soak) for name in ("a", "control"))])
def test_a_clock_a_year_ahead_takes_no_image_and_erases_nothing(
    calendar: tuple[World, Path], tmp_path: Path, machine: str
) -> None:
    world, _extra = calendar
    before = {vm: world.images(vm) for vm in VMS}
    now, ahead = "2026-01-16T02:00:00Z", "2027-01-16T02:00:00Z"
    machines = {name: {"resilient_vm_now": ahead if name == machine else now} for name in ("a", "b", "c")}
    vms = {vm: {"resilient_vm_now": ahead if machine == "control" else now} for vm in VMS}
    clocks = world.inventory_file(tmp_path / "clocks.json", vms, machines)
    played = world.play("daily", *LIMIT, inventory=[_extra, clocks], expect=1)
    assert "clock" in played.output
    assert {vm: world.images(vm) for vm in VMS} == before
    for vm in VMS:
        world.nothing_open(vm)


@pytest.mark.soak
def test_after_thirty_days_of_silence_the_minimum_remains(calendar: tuple[World, Path]) -> None:
    world, _extra = calendar
    before = world.images("hr")
    cycle(calendar, "2026-02-15T02:00:00Z")
    assert world.images("hr") == [*before[-2:], "20260215T020000Z"]
    assert len(world.images("crm")) == 3


@pytest.mark.soak
def test_a_run_delayed_past_midnight_does_not_cost_the_next_evening(calendar: tuple[World, Path]) -> None:
    world, _extra = calendar
    for now in ("2026-03-01T23:30:00Z", "2026-03-02T00:05:00Z", "2026-03-02T23:30:00Z"):
        cycle(calendar, now)
    assert world.images("hr")[-3:] == ["20260301T233000Z", "20260302T000500Z", "20260302T233000Z"]
