# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what a restore decides, and what it refuses before anything is touched."""

from __future__ import annotations

from typing import Any

import pytest
from unit import fakes_cycle
from unit.fakes_cycle import VERSION, World, image

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._restore_plan import Decision, decide

OLD, NEW = "20260113T020000Z", "20260114T020000Z"
WISH = {"restore_point": "latest", "restore_to": "files", "restore_path": "/srv/x"}


def stored(image_id: str, **members: Any) -> dict[str, Any]:
    made = image(
        image_id, bytes_allocated=1 << 20, definition=[{"name": "domain.xml", "size_bytes": 9, "sha256": "ab"}]
    )
    made["disks"][0]["root_digest"] = "0" * 64
    return {**made, **members}


@pytest.fixture
def world() -> World:
    return World().holds(stored(OLD), stored(NEW), standby=NEW)


def decided(world: World, version: str = VERSION, **settings: Any) -> Decision:
    plan = fakes_cycle.plan(**{**WISH, **settings})
    return decide(plan, world.hosts, {"c": world.stored}, _clock.parse(world.now), version)


def refused(world: World, version: str = VERSION, **settings: Any) -> str:
    with pytest.raises(ResilientVmError) as caught:
        decided(world, version, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_are_laid_on_the_backup_storage_when_no_machine_is_named(world: World) -> None:
    decision = decided(world, restore_format="qcow2", restore_point="-2d")
    assert (decision.image_id, decision.host, decision.store, decision.travels) == (OLD, "c", "images", False)
    assert (decision.path, decision.format, decision.bytes_allocated) == ("/srv/x", "qcow2", 1 << 20)
    assert decision.disks == [{"target": "vda", "size_bytes": 1 << 28, "root_digest": "0" * 64}]
    assert decision.definition == [{"name": "domain.xml", "sha256": "ab"}]


@pytest.mark.parametrize("host", ["a", "b"])
def test_to_a_host_the_image_travels(world: World, host: str) -> None:
    decision = decided(world, restore_host=host)
    assert (decision.image_id, decision.host, decision.store, decision.travels) == (NEW, host, "restores", True)


def test_a_new_vm_is_made_on_the_host_that_stands_by(world: World) -> None:
    wish = {"restore_to": "beside", "restore_name": "tuesday"}
    decision = decided(world, **wish)
    assert (decision.host, decision.store, decision.name) == ("b", "restores", "tuesday")
    assert decision.path == "/var/lib/resilient-vm/acme/erp/restored/tuesday"
    for fact in world.hosts.values():
        fact["state"].update(epoch=2, active="b", standby="a")
    assert decided(world, **wish).host == "a"


def test_at_once_its_disks_are_qcow2_which_can_lack_something(world: World) -> None:
    wish = {"restore_to": "beside", "restore_name": "tuesday", "restore_mode": "instant"}
    decision = decided(world, **wish)
    assert (decision.instant, decision.format, decision.host) == (True, "qcow2", "b")
    assert not decided(world, **{**wish, "restore_mode": "copy"}).instant


@pytest.mark.parametrize("to", ["files", "place"])
def test_only_a_new_vm_runs_at_once(world: World, to: str) -> None:
    said = refused(world, restore_to=to, restore_mode="instant")
    assert f"set resilient_vm_restore_to=beside, or restore to {to} with resilient_vm_restore_mode=copy" in said


PLACE = {"restore_to": "place", "restore_path": None, "restore_point": OLD}


def test_in_place_it_is_the_active_host_and_takes_a_word_that_is_good_once(world: World) -> None:
    world.hosts["c"]["state"]["changed"] = "2026-01-10T10:00:00Z"
    asked = decided(world, **PLACE)
    assert (asked.host, asked.store, asked.travels, asked.epoch, asked.confirmed) == ("a", "restores", True, 1, False)
    assert asked.word.startswith(f"erp@{OLD}#")
    assert decided(world, **PLACE, confirm=f"crm@{OLD}#00000000, {asked.word}").confirmed
    # For that image only, and while nothing has happened to the VM since.
    assert not decided(world, **{**PLACE, "restore_point": NEW}, confirm=asked.word).confirmed
    world.hosts["c"]["state"]["changed"] = "2026-01-15T01:59:59Z"
    assert not decided(world, **PLACE, confirm=asked.word).confirmed
    # What was begun goes on without one.
    world.hosts["c"]["state"]["phase"] = "restoring"
    begun = decided(world, **PLACE)
    assert (begun.begun, begun.confirmed) == (True, True)


def test_in_place_needs_all_three_machines_and_a_vm_that_is_protected(world: World) -> None:
    assert "it lives on a" in refused(world, **PLACE, restore_host="b")
    world.hosts["c"]["state"]["phase"] = "failed_over"
    assert "erp is in phase failed_over" in refused(world, **PLACE)
    world.hosts["c"]["state"]["phase"] = "protected"
    assert "machine b can't be reached" in refused(world.gone("b"), **PLACE)


def test_a_machine_that_is_not_needed_may_be_away(world: World) -> None:
    world.gone("a").gone("b")
    assert decided(world).image_id == NEW
    assert "machine b can't be reached" in refused(world, restore_host="b")
    assert "machine c can't be reached" in refused(world.gone("c"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"restore_point": ""}, "resilient_vm_restore_point is not set for erp; set it to an image id"),
        ({"restore_to": ""}, "resilient_vm_restore_to is not set for erp"),
        ({"restore_to": "beside"}, "resilient_vm_restore_name is not set for erp"),
        ({"restore_to": "beside", "restore_name": "erp"}, "is the protected VM's own name"),
        ({"restore_to": "beside", "restore_name": "x", "restore_host": "c"}, "where no VM runs; name a or b"),
        ({"restore_path": ""}, "resilient_vm_restore_path is not set for erp"),
        ({"restore_host": "d"}, "names d, which is none of its machines; name one of a, b, c"),
        ({"restore_point": "2026-01-16"}, "2026-01-16 is in the future"),
    ],
)
def test_a_wish_that_lacks_something_is_told(world: World, settings: dict[str, Any], words: str) -> None:
    assert words in refused(world, **settings)


def test_images_that_cannot_be_used_say_why(world: World) -> None:
    mark = {"disk": "vda", "offset_bytes": 65536, "found": "2026-01-14T03:00:00Z", "found_by": "restore"}
    world.holds(stored(OLD, complete=False, damaged=[mark]), stored(NEW))
    assert "its disk vda is damaged at byte 65536; name another one: " + NEW in refused(world, restore_point=OLD)
    torn = {"id": OLD, "complete": False, "damaged": [], "problem": "manifest.json is damaged"}
    world.holds(torn, stored(NEW))
    assert "manifest.json is damaged" in refused(world, restore_point="-2d")
    assert decided(world).image_id == NEW


def test_machines_must_be_set_up_by_this_collection(world: World) -> None:
    assert "the mover on c is 0.1.0+0123456789ab and this collection's is 0.2.0+ff" in refused(world, "0.2.0+ff")
    world.hosts["b"]["version"] = None
    assert "the mover is not installed on b; run the site playbook" in refused(world, restore_host="b")
    world.stored["laid_out"] = False
    assert "erp is not laid out on c" in refused(world)
