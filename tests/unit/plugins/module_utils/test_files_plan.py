# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what restore_files reads, and what it refuses before anything is touched."""

from __future__ import annotations

from typing import Any

import pytest
from unit import fakes_cycle
from unit.fakes_cycle import VERSION, World, image

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files_plan import Decision, decide

OLD, NEW = "20260113T020000Z", "20260114T020000Z"
WISH = {"restore_point": "latest", "restore_files": ["/etc/fstab"], "restore_path": "/srv/x"}


def decided(**settings: Any) -> Decision:
    world = World().holds(*(image(day, bytes_allocated=1 << 20, definition=[]) for day in (OLD, NEW)), standby=NEW)
    for stored in world.stored["images"]:
        stored["disks"][0]["root_digest"] = "0" * 64
    plan = fakes_cycle.plan(**{**WISH, **settings})
    return decide(plan, world.hosts, {"c": world.stored}, _clock.parse(world.now), VERSION)


def test_files_are_taken_out_on_the_backup_storage() -> None:
    for host in (None, "c"):
        decision = decided(restore_point="2026-01-13", restore_host=host, restore_files_device="vda2")
        assert (decision.image_id, decision.host, decision.path) == (OLD, "c", "/srv/x")
        assert (decision.take, decision.list, decision.device) == (["/etc/fstab"], [], "vda2")


def test_without_a_path_or_with_a_directory_to_list_it_is_only_looked_at() -> None:
    looked = decided(restore_path=None)
    assert (looked.path, looked.take, looked.list, looked.device) == ("", [], ["/etc/fstab"], "")
    listed = decided(list_files="/home")
    assert (listed.path, listed.take, listed.list) == ("", [], ["/home"])
    bare = decided(restore_path=None, restore_files=[])
    assert (bare.take, bare.list) == ([], [])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"restore_point": None}, "resilient_vm_restore_point is not set for erp"),
        ({"restore_point": "2026-01-12"}, "no image of erp of 2026-01-12 is kept any more"),
        ({"restore_files": []}, "resilient_vm_restore_files is not set for erp; set it to a list"),
        ({"restore_host": "b"}, "names b; files are laid on its backup storage c: leave it out"),
    ],
)
def test_a_wrong_wish_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ResilientVmError) as caught:
        decided(**settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
