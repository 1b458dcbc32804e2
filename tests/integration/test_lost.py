# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that are gone with their disks: the commands of docs/restore.md, on machines made anew in their place.

In a lab of its own: no other test's VM may lose its images.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from integration.world import ROOT, STORE, Played, World

pytestmark = pytest.mark.soak

VM = "erp"
UUID = "ef406ca7-2a83-597a-81c4-a543f1e42a67"


@pytest.fixture
def world() -> Iterator[World]:
    """Three machines, one VM with an image on C and on B, and in it something to be found again."""
    world = World(ROOT / ".dev/lab-lost")
    world.lab("destroy")
    world.lab("up", timeout=1200)
    world.lab("guest", "create", "a", VM, "--start")
    world.in_guest(VM, "echo precious > /disk/vda/precious; sync")
    site(world)
    daily(world)
    yield world
    world.lab("destroy")


def lose(world: World, *hosts: str) -> None:
    for host in hosts:
        world.lab("crash", host)
    world.lab("destroy", *hosts)


def renew(world: World, *hosts: str) -> None:
    world.lab("up", *hosts)


def site(world: World, expect: int = 0, **variables: Any) -> Played:
    return world.play("site", "--limit", f"{VM},a,b,c", expect=expect, **variables)


def daily(world: World, expect: int = 0, **variables: Any) -> Played:
    return world.play("daily", "--limit", VM, expect=expect, **variables)


def state(world: World, host: str) -> tuple[int, str, str]:
    document = world.on(host, f"cat {STORE}/{VM}/state.json")
    found = {name: re.search(f'"{name}": "?([^",]+)', document) for name in ("epoch", "active", "phase")}
    epoch, active, phase = (match.group(1) for match in found.values() if match)
    return int(epoch), active, phase


def take_over(world: World) -> Played:
    """As the operator who knows that A is gone."""
    asked = world.play("failover", "--limit", VM, expect=1)
    word = re.search(r"resilient_vm_confirm=(\S+)", asked.output)
    assert word, asked.output
    return world.play("failover", "--limit", VM, confirm=word.group(1))


def check_moved(world: World) -> None:
    """The VM runs on B, the same one, with what it had."""
    assert world.in_guest(VM, "cat /disk/vda/precious", on="b") == "precious"
    assert world.on("b", f"virsh domuuid {VM}") == UUID
    assert state(world, "c") == state(world, "b") == (2, "b", "failed_over")


def test_everything_gone_but_c(world: World) -> None:
    kept = {image_id: world.check_image(VM, image_id) for image_id in world.images(VM)}
    lose(world, "a", "b")
    renew(world, "b")
    # Red for A, which is not there; B is set up all the same.
    site(world, expect=1)
    assert "holds" in "".join(daily(world, expect=1).recap[VM])
    take_over(world)
    check_moved(world)
    assert {image_id: world.check_image(VM, image_id) for image_id in kept} == kept
    renew(world, "a")
    site(world)
    assert world.on("a", "virsh list --all --name") == ""
    assert state(world, "a") == (2, "b", "failed_over")
    said = f"a is up, and does not stand by for {VM} since b took it over; run the reprotect playbook"
    assert daily(world, expect=1, force=True).refusals(VM) == [said]
    assert len(world.images(VM)) == 2


def test_c_gone(world: World) -> None:
    lost = world.images(VM)
    lose(world, "c")
    renew(world, "c")
    # While a host is away it may know better than the other one which of them is active.
    world.lab("cut", "b")
    refused = site(world, expect=1)
    assert "b can't be asked whether that is still so" in " ".join(refused.output.split())
    assert world.on("c", f"ls {STORE}/{VM}/state.json 2> /dev/null || true") == ""
    world.lab("heal", "b")
    site(world)
    assert state(world, "c") == (1, "a", "protected")
    played = daily(world)
    assert f"c has lost its images, of which {lost[-1]} is on b" in played.recap[VM]
    assert len(world.images(VM)) == 1
    assert world.current(VM) == world.images(VM)[0] > lost[-1]
    assert site(world).changed == daily(world).changed == 0


def test_everything_gone_but_b(world: World) -> None:
    lose(world, "a", "c")
    renew(world, "c")
    assert "a can't be asked" in " ".join(site(world, expect=1).output.split())
    site(world, expect=1, lost_hosts=["a"])
    assert state(world, "c") == (1, "a", "protected")
    take_over(world)
    check_moved(world)
    # Its images begin anew.
    assert daily(world, expect=1).recap[VM]
    assert len(world.images(VM)) == 1
