# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what a person reads at the end."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from unit.fakes_cycle import VERSION, World, image, plan

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._preflight import Facts, examine
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._report import (
    failures,
    human_size,
    recap,
    status,
    status_table,
)

YESTERDAY, TODAY = "20260114T020000Z", "20260115T020000Z"
DISK = {
    "target": "vda",
    "found_by": "bitmap",
    "reason": "",
    "changed_bytes": 3 << 20,
    "resumed_bytes": 0,
}


def ran(world: World, **settings: Any) -> dict[str, Any]:
    """What the tasks of a whole good run have registered."""
    facts = Facts(world.hosts, {"c": world.stored}, {"b": world.held}, _clock.parse(world.now), VERSION)
    variables = {
        "cycle_plan": {"plan": plan(now=world.now, **settings)},
        "cycle_preflight": {"decision": asdict(examine(plan(**settings), facts))},
        "cycle_fetch": {
            "image_id": TODAY,
            "published": True,
            "consistency": "filesystem",
            "bytes_sent": 4 << 20,
            "seconds": 12.3,
            "disks": [dict(DISK)],
            "bitmap_mismatches": 0,
            "missed": [],
            "damaged": [],
        },
        "cycle_close": {"changed": True},
        "cycle_refresh": {"image_id": TODAY, "published": True, "bytes_sent": 3 << 20, "damaged": []},
        "cycle_standby": {"changed": True},
        "cycle_prune": {"erased": [{"id": "20260101T020000Z"}], "kept": [{"id": YESTERDAY}, {"id": TODAY}]},
    }
    if not variables["cycle_preflight"]["decision"]["take_image"]:
        for name in ("cycle_fetch", "cycle_refresh", "cycle_standby", "cycle_close"):
            variables[name] = {"skipped": True, "changed": False}
    return variables


def asked(world: World, **settings: Any) -> dict[str, Any]:
    """What the batched questions have registered."""

    def loop(answers: dict[str, dict[str, Any]], entry: str) -> dict[str, Any]:
        results = []
        for name, told in answers.items():
            result = {"item": {"machine": name}}
            if told["answered"]:
                result |= {entry: {"acme/erp": told}}
            else:
                result["msg"] = told["msg"]
            results.append(result)
        return {"results": results}

    hosts = loop(world.hosts, "domains")
    for result in hosts["results"]:
        if "domains" in result:
            result["states"] = {"acme/erp": world.hosts[result["item"]["machine"]]["state"]}
    return {
        "cycle_plan": {"plan": plan(now=world.now, **settings)},
        "cycle_hosts": hosts,
        "cycle_images": loop({"c": world.stored}, "images"),
        "cycle_standbys": loop({"b": world.held}, "standbys"),
    }


def test_a_good_run_is_told_in_five_lines() -> None:
    lines = recap({"erp": ran(World().holds(image(YESTERDAY), standby=YESTERDAY))}, ["erp"])
    assert lines == [
        "erp: ok",
        f"    image {TODAY} (file systems consistent) copied to c in 12 s: 4.0 MiB sent, 3.0 MiB changed",
        "    disk vda: changes by dirty bitmap",
        f"    standby b holds {TODAY} (0 min old), defined and ready to start, 3.0 MiB sent",
        "    erased 20260101T020000Z; 2 images kept",
        "1 of 1 VMs ok",
    ]


def test_how_changes_were_found_is_told_with_the_reason() -> None:
    variables = ran(World().holds(image(YESTERDAY), standby=YESTERDAY))
    variables["cycle_fetch"]["disks"] = [{**DISK, "found_by": "digests", "reason": "the disk grew"}]
    assert "    disk vda: changes by comparing digests (the disk grew)" in recap({"erp": variables}, ["erp"])


def test_a_run_with_nothing_to_do_says_why() -> None:
    variables = ran(World("2026-01-15T03:00:00Z").holds(image(TODAY), standby=TODAY))
    variables["cycle_prune"]["erased"] = []
    lines = recap({"erp": variables}, ["erp"])
    assert f"    no image taken: image {TODAY} is of today" in lines
    assert f"    newest image on c: {TODAY} (1 h 0 min old)" in lines
    assert "    nothing to erase, 2 images kept" in lines


def test_check_mode_says_what_would_be_done() -> None:
    variables = ran(World())
    variables["cycle_fetch"] = {"image_id": TODAY, "published": False, "changed": True}
    variables["cycle_refresh"] = variables["cycle_standby"] = {"skipped": True}
    lines = recap({"erp": variables}, ["erp"], True)
    assert "    would erase 20260101T020000Z; 2 images kept" in lines
    assert "    would take an image and copy it to c: there is no image yet" in lines
    assert "    standby b holds nothing yet" in lines


def test_failed_vms_are_named_with_their_reason_and_others_are_not() -> None:
    good = ran(World().holds(image(YESTERDAY), standby=YESTERDAY))
    broken = {"cycle_plan": {"failed": True}, "cycle_failures": ["resilient_vm_customer is not set\nand more"]}
    lines = recap({"erp": good, "crm": broken}, ["erp", "crm"])
    assert lines[-4:] == [
        "crm: FAILED",
        "    FAILED: resilient_vm_customer is not set",
        "    FAILED: and more",
        "1 of 2 VMs failed: crm",
    ]


def test_a_vm_that_was_dropped_on_the_way_appears_as_failed() -> None:
    assert failures({}) == ["its run was cut off before it began; see above"]
    assert failures({"cycle_plan": {"plan": plan()}}) == ["its run was cut off; see above"]
    assert recap({"erp": {}}, ["erp"])[-1] == "1 of 1 VMs failed: erp"


def test_a_run_without_a_standby_is_red_and_still_tells_of_its_image() -> None:
    world = World().holds(image(YESTERDAY)).gone("b")
    variables = ran(world)
    variables["cycle_refresh"] = variables["cycle_standby"] = {"skipped": True}
    assert failures(variables) == ["machine b can't be reached (timed out)"]
    assert any(TODAY in line and "copied to c" in line for line in recap({"erp": variables}, ["erp"]))


def test_a_bitmap_that_missed_blocks_turns_the_run_red() -> None:
    variables = ran(World().holds(image(YESTERDAY), standby=YESTERDAY))
    missed = [{"disk": "vda", "offset_bytes": block << 16} for block in range(100)]
    for count, places in ((2, "vda at byte 0, vda at byte 65536"), (700, "vda at byte 262144 and more")):
        variables["cycle_fetch"].update(bitmap_mismatches=count, missed=missed[:count])
        (said,) = failures(variables)
        assert f"the dirty bitmap had missed {count} changed blocks" in said
        assert f"{places})" in said


def test_a_comparison_with_the_open_snapshot_says_how_much_it_was() -> None:
    for source, found_by, size in ((True, "bitmap", "16.0 MiB"), (True, "digests", "64.0 MiB"), (False, "bitmap", "")):
        variables = ran(World().holds(image(YESTERDAY), standby=YESTERDAY), verify_source=source)
        disk = variables["cycle_fetch"]["disks"][0]
        disk.update(found_by=found_by, reread_bytes=16 << 20, bytes_read=64 << 20)
        said = [line for line in recap({"erp": variables}, ["erp"]) if "compared with the open snapshot" in line]
        assert len(said) == source
        assert not source or (size in said[0] and "none of them other than on c" in said[0])


@pytest.mark.parametrize(("hop", "keeper"), [("cycle_fetch", "backup storage"), ("cycle_refresh", "standby host")])
def test_damage_found_turns_the_run_red(hop: str, keeper: str) -> None:
    variables = ran(World().holds(image(YESTERDAY), standby=YESTERDAY))
    variables[hop]["damaged"] = [{"image": YESTERDAY, "disk": "vda", "offset_bytes": 65536}]
    said = failures(variables)
    assert len(said) == 1
    assert f"1 block of what the {keeper} held was damaged ({YESTERDAY} disk vda)" in said[0]


def test_status_tells_everything_of_a_vm() -> None:
    world = World("2026-01-15T05:30:00Z").holds(image("20260113T020000Z"), image(TODAY), standby=YESTERDAY)
    row = status({"erp": asked(world)}, ["erp"])[0]
    assert json.loads(json.dumps(row)) == row, "plain JSON"
    expected = {
        "vm": "erp",
        "active_host": "a",
        "standby_host": "b",
        "newest_image": TODAY,
        "newest_age_seconds": 3 * 3600 + 1800,
        "consistency": "filesystem",
        "images": 2,
        "oldest_image": "20260113T020000Z",
        "standby_generation": YESTERDAY,
        "standby_age_seconds": 27 * 3600 + 1800,
        "bytes_sent": 3 << 20,
        "next_erase": {"image": "20260113T020000Z", "day": "2026-01-27"},
        "alarm": "",
        "problems": [],
    }
    assert {name: row[name] for name in expected} == expected
    assert row["disks"][0]["found_by"] == "bitmap"
    assert row["disks"][0]["proven_share"] == 0.25


def test_status_alarms_when_the_newest_image_is_too_old() -> None:
    world = World("2026-01-16T05:00:00Z").holds(image(TODAY), standby=TODAY)
    assert status({"erp": asked(world, max_age_hours=27)}, ["erp"])[0]["alarm"] == ""
    said = status({"erp": asked(world)}, ["erp"])[0]["alarm"]
    assert said.startswith("the newest image of erp is 1 d 3 h old, more than resilient_vm_max_age_hours (26)")


def test_status_alarms_while_damage_stands() -> None:
    """On either machine, of a block or of a manifest; the age comes first."""
    now = "2026-01-15T05:30:00Z"
    marks = [{"disk": "vda", "offset_bytes": 65536, "found": "", "found_by": "verify"}]
    world = World(now).holds(image(YESTERDAY, complete=False, damaged=marks), image(TODAY), standby=TODAY)
    said = status({"erp": asked(world)}, ["erp"])[0]["alarm"]
    assert said.startswith(f"of what c keeps of erp, {YESTERDAY} is damaged; run the verify playbook")
    world = World(now).holds(image(TODAY), standby=TODAY)
    world.held["generations"] = [{"id": TODAY, "problem": "manifest.json is damaged"}]
    said = status({"erp": asked(world)}, ["erp"])[0]["alarm"]
    assert said.startswith(f"of what b keeps of erp, {TODAY} is damaged")


def test_status_alarms_when_the_newest_image_is_from_the_future() -> None:
    world = World("2026-01-14T05:00:00Z").holds(image(TODAY), standby=TODAY)
    assert "is from the future" in status({"erp": asked(world)}, ["erp"])[0]["alarm"]


def test_status_alarms_when_there_is_none_or_nobody_knows() -> None:
    assert "erp has no image on c" in status({"erp": asked(World())}, ["erp"])[0]["alarm"]
    said = status({"erp": asked(World().gone("c"))}, ["erp"])[0]["alarm"]
    assert said == "the age of the newest image of erp is unknown: machine c can't be reached (timed out)"
    broken = {"cycle_plan": {"failed": True}, "cycle_failures": ["resilient_vm_customer is not set"]}
    assert "resilient_vm_customer is not set" in status({"erp": broken}, ["erp"])[0]["alarm"]


def test_a_dead_production_host_is_told_and_no_alarm_of_its_own() -> None:
    row = status({"erp": asked(World().holds(image(TODAY), standby=TODAY).gone("a"))}, ["erp"])[0]
    assert row["alarm"] == ""
    assert row["problems"] == ["machine a can't be reached (timed out)"]


def test_a_dead_machine_is_told_once() -> None:
    variables = asked(World().holds(image(TODAY), standby=TODAY).gone("b"))
    variables["cycle_standbys"] = {"results": []}
    assert status({"erp": variables}, ["erp"])[0]["problems"] == ["machine b can't be reached (timed out)"]


def test_the_table_has_a_line_a_vm_and_remarks_below() -> None:
    world = World("2026-01-15T05:30:00Z").holds(image(TODAY, excluded=["vdc"]), standby=TODAY)
    lines = status_table({"erp": asked(world), "crm": {}}, ["erp", "crm"])
    assert lines[0].startswith("VM ")
    assert lines[1].startswith("erp  2026-01-15T02:00:00Z filesystem  3 h 30 min  1 ")
    assert "    excluded: vdc" in lines
    assert f"    disk vda: 25 % proven by re-reading since {TODAY}" in lines
    assert any(line.startswith("    ALARM: crm is not looked after") for line in lines)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1 << 20, "1.0 MiB"), (3 << 40, "3.0 TiB")]
)
def test_sizes_are_for_people_only_here(count: int, text: str) -> None:
    assert human_size(count) == text


BRIDGE = "bridge br0, to which the VM is attached, is not there; make it"
DRIFT = f"a takeover would not work: on b: {BRIDGE}"


def test_what_the_standby_lacks_turns_the_night_red_after_the_image_was_taken() -> None:
    world = World().holds(image(YESTERDAY), standby=YESTERDAY)
    good = ran(world)
    assert failures(good) == []
    good["cycle_standby"]["unfit"] = [BRIDGE]
    assert failures(good) == [DRIFT]
    assert f"    FAILED: {DRIFT}" in recap({"erp": good}, ["erp"])


def test_what_it_lacked_before_counts_only_when_it_was_brought_nothing_since() -> None:
    world = World().holds(image(YESTERDAY), standby=YESTERDAY)
    world.held["unfit"] = [BRIDGE]
    run = {**asked(world), **ran(world)}
    assert failures(run) == [DRIFT]
    run["cycle_standby"]["unfit"] = []
    assert failures(run) == []
    run["cycle_standby"] = {"failed": True, "msg": "b went away"}
    assert failures(run) == [DRIFT]


def test_status_tells_it_as_an_alarm() -> None:
    world = World().holds(image(YESTERDAY), standby=YESTERDAY)
    assert status({"erp": asked(world)}, ["erp"])[0]["lacks"] == []
    world.held["unfit"] = [BRIDGE, "there is no kvm here"]
    row = status({"erp": asked(world)}, ["erp"])[0]
    assert row["alarm"] == f"erp could not be taken over: on b: {BRIDGE}"
    lines = status_table({"erp": asked(world)}, ["erp"])
    assert f"    ALARM: {row['alarm']}" in lines
    assert "    a takeover would not work: on b: there is no kvm here" in lines
    assert not any(DRIFT in line for line in lines)


CROWD = "the 2 VMs that stand by here take 8.0 GiB of memory together, and 6.0 GiB is free"


def test_status_remarks_what_could_not_all_run_at_once_and_is_not_red_for_it() -> None:
    world = World().holds(image(YESTERDAY), standby=YESTERDAY)
    world.held["crowded"] = CROWD
    row = status({"erp": asked(world)}, ["erp"])[0]
    assert row["alarm"] == "" and f"    on b: {CROWD}" in status_table({"erp": asked(world)}, ["erp"])
