# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about whether a takeover would work right now."""

from __future__ import annotations

from copy import deepcopy
from datetime import datetime, timezone
from typing import Any

import pytest
from unit.fakes_cycle import STATE, image, plan

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._readiness import readiness
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._takeover import Facts

NOW = datetime(2026, 1, 14, 11, 30, tzinfo=timezone.utc)
NIGHT = "20260114T020000Z"
ROOT = {"path": "/var/lib/resilient-vm", "free_bytes": 9 << 30, "reflink": True}
FENCED = {"resilient_vm_fence_agent": "fence_x"}
ON, OFF, FAILED = ({"power": power, "told": f"fence_x: {power}"} for power in ("on", "off", "failed"))


def asked(**changes: Any) -> Any:
    """What preflight says where all is well but ``changes``: ``b.root.reflink=False`` is said with ``__``."""
    machine = {"answered": True, "version": "1+x protocol 1", "state": {**STATE, "changed": "2026-01-01T00:00:00Z"}}
    off = {"exists": True, "state": "shut off"}
    world: dict[str, Any] = {
        "hosts": {
            "a": {**machine, "libvirt": {"version": "9.0.0", "qemu_version": "7.2"}},
            "b": {**machine, "root": ROOT, "domain": off, "libvirt": {"version": "9.0.0", "qemu_version": "7.2"}},
            "c": machine,
        },
        "held": {"answered": True, "current": image(NIGHT), "generations": [], "defined": True, "unfit": []},
        "gate": [],
        "seen": {"a": "port 22", "c": "port 22"},
        "fenced": [],
        "plan": plan(),
    }
    # Each machine with a document of its own.
    world["hosts"] = {name: deepcopy(told) for name, told in world["hosts"].items()}
    for path, value in changes.items():
        *folders, name = path.split("__")
        place = world
        for folder in folders:
            place = place[folder]
        place[name] = value
    facts = Facts(world["hosts"], {"b": world["held"]}, {}, NOW, "1+x", world["fenced"])
    return readiness(world["plan"], facts, world["gate"], world["seen"])


def fenced_plan() -> dict[str, Any]:
    made = plan()
    made["machine_settings"]["a"]["fence_agent"] = "fence_x"
    return made


def test_what_could_not_all_run_at_once_is_said_and_is_no_failure() -> None:
    told = asked(held__crowded="the 2 VMs that stand by here take 8.0 GiB of memory together")
    assert told.findings == []
    assert "    on b: the 2 VMs that stand by here take 8.0 GiB of memory together" in told.lines


def test_a_takeover_that_c_was_not_told_of_is_what_there_is_to_say() -> None:
    taken = {"epoch": 2, "active": "b", "standby": "a", "phase": "failed_over", "unwitnessed": "2026-01-14T10:00:00Z"}
    told = asked(hosts__b__state={**STATE, "changed": "2026-01-14T10:00:00Z", **taken})
    [sentence] = told.findings
    assert sentence.startswith("b took erp over by itself at 2026-01-14T10:00:00Z (epoch 2), while c was out of reach")
    assert sentence.endswith("run the daily playbook, which does it")


def test_where_all_is_well_it_says_from_when_the_data_would_be() -> None:
    told = asked()
    assert told.findings == []
    assert told.lines == [
        "erp: a takeover by b would work now",
        f"    recovery point: {NIGHT}, 9 h 30 min old, not read again as a whole yet",
        "    a has no fence agent: a takeover asks for somebody's word that it is off",
    ]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"hosts__c": {"answered": False, "msg": "machine c can't be reached"}}, "machine c can't be reached"),
    ({"hosts__b": {"answered": False, "msg": "machine b can't be reached"}}, "machine b can't be reached"),
    ({"hosts__c__state": None}, "erp has no state document on c; run the site playbook"),
    ({"hosts__c__state__phase": "maintenance"}, "from which there is no failover"),
    ({"hosts__b__version": "1+old protocol 1"}, "the mover on b is 1+old protocol 1, not this collection's"),
    ({"hosts__b__domain__state": "running"}, "erp is running on b already"),
    ({"held__current": None}, "b holds no complete generation of erp"),
    ({"held__current__complete": False}, f"generation {NIGHT} of erp on b is damaged"),
    ({"held__current__instant": "2026-01-11T02:00:00Z"}, "is 3 d 9 h old, and what was written since would be lost"),
    ({"held__defined": False}, "erp is not defined on b; run the daily playbook"),
    ({"held__unfit": ["bridge br0 is not there"]}, "on b: bridge br0 is not there"),
    (
        {"hosts__b__root__free_bytes": 1 << 29},
        "on b: 512.0 MiB are free in /var/lib/resilient-vm, and erp needs 1.0 Gi",
    ),
    (
        {"hosts__a__state__epoch": 2, "hosts__a__state__active": "b"},
        "disagree (a: epoch 2 on b, b: epoch 1 on a, c: epo",
    ),
    ({"seen": {"c": ""}}, "b can't reach c, so a takeover would take it for the one that is cut off"),
    ({"seen": {}}, "b can't reach c"),
    ({"gate": ["on a: the gate is open"]}, "on a: the gate is open"),
    ({"fenced": [("c", FAILED), ("b", FAILED)]}, "a could not be powered off (c: fence_x: failed; b: fence_x: failed)"),
    ({"fenced": [("c", OFF), ("b", OFF)]}, "says that it is off (c: fence_x: off; b: fence_x: off), but it answers"),
]


@pytest.mark.parametrize(("changes", "why"), WRONG)
def test_each_thing_that_would_stop_it_is_one_line(changes: dict[str, Any], why: str) -> None:
    told = asked(plan=fenced_plan(), **changes)
    assert len(told.findings) == 1, told.findings
    assert why in told.findings[0]
    assert told.lines[0] == "erp: a takeover by b would NOT work now"
    assert told.lines[1] == f"    NOT: {told.findings[0]}"


def test_without_reflink_a_takeover_needs_room_for_a_copy() -> None:
    changes = {"hosts__b__root__reflink": False, "hosts__b__root__free_bytes": 5 << 28}
    assert asked(**changes).findings == []
    assert "erp needs 1.3 GiB to run there" not in str(asked(**changes).findings)
    changes["hosts__b__root__free_bytes"] -= 1
    assert "erp needs 1.2 GiB to run there" in asked(**changes).findings[0]


def test_the_active_host_need_not_answer_and_one_way_to_its_fence_agent_will_do() -> None:
    silent = {"answered": False, "msg": "machine a can't be reached"}
    told = asked(hosts__a=silent, plan=fenced_plan(), fenced=[("c", FAILED), ("b", ON)])
    assert told.findings == []
    assert "    a gave no answer; if it is down: failover --limit erp" in told.lines
    assert "    power of a: c: fence_x: failed; b: fence_x: on" in told.lines
    assert asked(hosts__a=silent, plan=fenced_plan(), fenced=[("c", OFF)]).findings == []


def test_other_versions_are_worth_a_line() -> None:
    told = asked(hosts__b__libvirt={"version": "8.0.0", "qemu_version": "6.2"})
    assert told.findings == []
    assert "    a has libvirt 9.0.0, QEMU 7.2; b has libvirt 8.0.0, QEMU 6.2" in told.lines


def test_after_a_takeover_nobody_stands_by() -> None:
    moved = {**STATE, "phase": "failed_over", "active": "b", "standby": "a", "epoch": 2}
    told = asked(hosts__c__state=moved)
    assert told.findings == ["nobody stands by for erp since b took it over from a"]
