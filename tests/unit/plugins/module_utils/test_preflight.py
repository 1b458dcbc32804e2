# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about when an image is taken, and about what keeps one from being taken."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from unit.fakes_cycle import UUID, VERSION, World, image, plan

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _clock
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._due import image_due
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._preflight import (
    Decision,
    Facts,
    examine,
)

YESTERDAY, TODAY = "20260114T020000Z", "20260115T013000Z"


def decide(world: World, **settings: Any) -> Decision:
    facts = Facts(world.hosts, {"c": world.stored}, {"b": world.held}, _clock.parse(world.now), VERSION)
    return examine(plan(**settings), facts)


def problem(world: World, **settings: Any) -> str:
    with pytest.raises(ResilientVmError) as failure:
        decide(world, **settings)
    problems = failure.value.facts["problems"]
    assert len(problems) == 1, problems
    return problems[0]


# When an image is taken


def test_the_first_image_is_taken_and_goes_to_both() -> None:
    decision = decide(World())
    assert (decision.take_image, decision.why) == (True, "there is no image yet")
    assert (decision.base, decision.newest_id, decision.adopt_id) == (None, None, None)
    assert (decision.refresh_standby, decision.prune) == (True, True)
    assert [place["name"] for place in decision.destinations] == ["c", "b"]
    assert (decision.active, decision.standby, decision.epoch, decision.uuid) == ("a", "b", 1, UUID)


def test_a_history_that_begins_anew_is_told() -> None:
    decision = decide(World().holds(standby=YESTERDAY))
    assert decision.take_image
    assert decision.notes == [f"c has lost its images, of which {YESTERDAY} is on b"]
    assert decide(World()).notes == []
    assert decide(World().holds(image(YESTERDAY), standby=YESTERDAY)).notes == []


def test_the_next_days_image_counts_from_the_newest() -> None:
    decision = decide(World().holds(image(YESTERDAY), standby=YESTERDAY))
    assert (decision.take_image, decision.why) == (True, "the newest image is of 2026-01-14")
    assert decision.base == {
        "image_id": YESTERDAY,
        "checkpoint": f"resilient-vm-{YESTERDAY}",
        "disks": {"vda": {"size_bytes": 1 << 28, "checkpoint": f"resilient-vm-{YESTERDAY}"}},
    }
    assert decision.newest_id == YESTERDAY
    assert decision.standby_generation == YESTERDAY
    assert decision.keep_checkpoint == f"resilient-vm-{YESTERDAY}"


def test_a_second_run_of_the_day_has_nothing_to_do() -> None:
    decision = decide(World().holds(image(TODAY), standby=TODAY))
    assert not decision.take_image
    assert not decision.refresh_standby
    assert not decision.close_leftovers
    assert decision.later == []
    assert decision.why == f"image {TODAY} is of today"


def test_a_second_run_of_the_day_takes_one_when_forced() -> None:
    decision = decide(World().holds(image(TODAY), standby=TODAY), force=True)
    assert (decision.take_image, decision.refresh_standby) == (True, True)


def test_a_run_late_past_midnight_does_not_cost_the_next_evenings_image() -> None:
    settings = plan()
    taken: list[str] = []
    for run in ("2026-01-14T23:30:00Z", "2026-01-16T00:05:00Z", "2026-01-16T23:30:00Z"):
        due, _why = image_due(taken[-1] if taken else None, _clock.parse(run), settings)
        assert due, run
        taken.append(_clock.image_id(_clock.parse(run)))
    assert len(taken) == 3


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(timezone.utc)),
    st.integers(0, 72 * 60),
    st.sampled_from(["UTC", "Europe/Amsterdam", "Pacific/Kiritimati", "America/St_Johns"]),
    st.integers(0, 30),
)
def test_an_image_is_due_unless_the_newest_is_both_of_today_and_young(
    taken: datetime, minutes: int, zone: str, hours: int
) -> None:
    taken = taken.replace(microsecond=0)
    now = taken + timedelta(minutes=minutes)
    due, why = image_due(_clock.image_id(taken), now, plan(timezone=zone, min_interval_hours=hours))
    same_day = _clock.calendar_day(taken, _clock.zone(zone)) == _clock.calendar_day(now, _clock.zone(zone))
    assert due == (not same_day or minutes >= hours * 60)
    assert why


@given(st.lists(st.integers(-60, 60), min_size=2, max_size=20), st.sampled_from(["UTC", "Asia/Kolkata"]))
def test_nightly_runs_that_slip_by_an_hour_each_take_an_image(slips: list[int], zone: str) -> None:
    """Around midnight, where a rule of days alone or of hours alone would lose a night."""
    settings = plan(timezone=zone)
    midnight = datetime(2026, 3, 1, tzinfo=_clock.zone(zone)).astimezone(timezone.utc)
    newest = None
    for night, slip in enumerate(slips):
        now = midnight + timedelta(days=night, minutes=slip)
        due, _why = image_due(newest, now, settings)
        assert due
        newest = _clock.image_id(now)


@given(st.integers(0, 17 * 60 + 59), st.integers(0, 23))
def test_repeating_a_run_within_the_day_takes_nothing(minutes: int, hour: int) -> None:
    first = datetime(2026, 1, 14, hour, tzinfo=timezone.utc)
    again = first + timedelta(minutes=minutes)
    assume(again.day == first.day)
    assert not image_due(_clock.image_id(first), again, plan())[0]


# What an earlier run left


def test_an_open_snapshot_of_a_killed_run_is_gone_on_with() -> None:
    world = World().holds(image(YESTERDAY), standby=YESTERDAY)
    world.hosts["a"]["domain"]["open_snapshot"] = {"id": "20260115T010000Z", "valid": True}
    decision = decide(world)
    assert decision.adopt_id == "20260115T010000Z"
    assert decision.take_image


def test_an_open_snapshot_whose_image_is_published_is_closed() -> None:
    world = World().holds(image(TODAY), standby=TODAY)
    world.hosts["a"]["domain"]["open_snapshot"] = {"id": TODAY, "valid": True}
    decision = decide(world)
    assert (decision.adopt_id, decision.take_image, decision.close_leftovers) == (None, False, True)


def test_a_dead_snapshot_is_replaced() -> None:
    world = World().holds(image(YESTERDAY), standby=YESTERDAY)
    world.hosts["a"]["domain"]["open_snapshot"] = {"id": TODAY, "valid": False}
    decision = decide(world)
    assert (decision.adopt_id, decision.take_image) == (None, True)


def test_superseded_checkpoints_are_cleared_away() -> None:
    world = World().holds(image(TODAY), standby=TODAY)
    world.hosts["a"]["domain"]["own_checkpoints"] = [f"resilient-vm-{YESTERDAY}", f"resilient-vm-{TODAY}"]
    assert decide(world).close_leftovers
    world.hosts["a"]["domain"]["own_checkpoints"] = [f"resilient-vm-{TODAY}"]
    assert not decide(world).close_leftovers


@pytest.mark.parametrize("held", [None, YESTERDAY])
def test_a_standby_left_behind_is_brought_up_without_a_new_image(held: str | None) -> None:
    decision = decide(World().holds(image(YESTERDAY), image(TODAY), standby=held))
    assert (decision.take_image, decision.refresh_standby, decision.newest_complete_id) == (False, True, TODAY)


def test_a_generation_that_was_never_defined_is_finished() -> None:
    world = World().holds(image(TODAY), standby=TODAY)
    world.held["defined"] = False
    assert decide(world).refresh_standby


def test_a_standby_is_never_taken_back_to_an_older_image() -> None:
    assert not decide(World("2026-01-15T05:00:00Z").holds(image(TODAY), standby="20260115T040000Z")).refresh_standby


def test_a_damaged_newest_image_is_no_base_and_is_told() -> None:
    marks = [{"disk": "vda", "offset_bytes": 0, "found": "2026-01-15T00:00:00Z"}]
    decision = decide(World().holds(image("20260113T020000Z"), image(YESTERDAY, complete=False, damaged=marks)))
    assert decision.base is None
    assert (decision.newest_id, decision.newest_complete_id) == (YESTERDAY, "20260113T020000Z")
    assert any("damaged" in note for note in decision.notes)


def test_an_image_of_an_older_epoch_is_no_base() -> None:
    world = World().holds(image(YESTERDAY), standby=YESTERDAY)
    for name in "abc":
        world.hosts[name]["state"]["epoch"] = 2
    assert decide(world).base is None


# A machine that doesn't answer


def test_without_the_backup_storage_nothing_is_done() -> None:
    assert problem(World().gone("c")) == "machine c can't be reached (timed out)"


def test_without_the_standby_the_image_is_taken_and_the_run_red() -> None:
    world = World().holds(image(YESTERDAY)).gone("b")
    world.stored["last_transfers"]["refresh"] = {"image_id": YESTERDAY, "published": True}
    decision = decide(world)
    assert (decision.take_image, decision.refresh_standby) == (True, False)
    assert decision.later == ["machine b can't be reached (timed out)"]
    assert decision.standby_generation == YESTERDAY
    assert [place["name"] for place in decision.destinations] == ["c"]


def test_without_the_active_host_the_standby_still_gets_what_there_is_and_nothing_is_erased() -> None:
    decision = decide(World().holds(image("20260113T020000Z"), image(YESTERDAY), standby="20260113T020000Z").gone("a"))
    assert (decision.take_image, decision.refresh_standby, decision.prune) == (False, True, False)
    assert decision.later == ["machine a can't be reached (timed out)"]
    assert decision.why == "one is due (the newest image is of 2026-01-14), but a is out of reach"


def test_a_machine_nobody_asked_is_named() -> None:
    world = World()
    del world.hosts["c"]
    assert problem(world).startswith("machine c was not asked about erp")


# What keeps everything from being done


@pytest.mark.parametrize(("machine", "said"), [("a", "a 365 days ahead"), ("c", "c 365 days ahead")])
def test_a_machine_a_year_ahead_stops_all(machine: str, said: str) -> None:
    world = World().holds(image(YESTERDAY), standby=YESTERDAY)
    world.hosts[machine]["clock"] = "2027-01-15T02:00:00Z"
    assert said in problem(world)


def test_a_control_node_a_year_ahead_stops_all() -> None:
    world = World().holds(image(YESTERDAY), standby=YESTERDAY)
    assert "a 365 days behind" in problem(world, now="2027-01-15T02:00:00Z")


def test_clocks_of_the_active_host_and_the_backup_storage_are_also_compared_with_each_other() -> None:
    world = World()
    world.hosts["a"]["clock"] = "2026-01-15T02:04:00Z"
    world.hosts["c"]["clock"] = "2026-01-15T01:56:00Z"
    assert "clocks disagree by more than 300 seconds" in problem(world)


def test_the_standbys_clock_decides_nothing() -> None:
    world = World()
    world.hosts["b"]["clock"] = "2027-01-15T02:00:00Z"
    assert decide(world).take_image


def test_a_slow_answer_is_no_wrong_clock() -> None:
    world = World()
    world.hosts["a"]["between"] = ["2026-01-15T01:50:00Z", "2026-01-15T02:10:00Z"]
    assert decide(world).take_image


def test_all_clocks_set_to_one_time_agree() -> None:
    world = World("2026-01-15T02:00:00Z")
    for fact in world.hosts.values():
        fact["between"] = ["2026-06-01T00:00:00Z", "2026-06-01T00:00:05Z"]
    assert decide(world, now="2026-01-15T02:00:00Z").take_image


def test_an_image_from_the_future_is_said() -> None:
    assert "is from the future" in problem(World().holds(image("20270115T020000Z")))


def test_the_vm_must_be_on_its_active_host() -> None:
    world = World()
    world.hosts["a"]["domain"] = {"exists": False}
    assert problem(world).startswith("a has no libvirt domain erp, which erp is said to be")


def test_another_machine_under_the_vms_name_on_the_active_host() -> None:
    world = World()
    world.hosts["a"]["domain"]["uuid"] = "00000000-0000-4000-8000-000000000000"
    assert f"but erp is protected as {UUID}" in problem(world)


def test_another_machine_under_the_vms_name_on_the_standby() -> None:
    world = World()
    world.hosts["b"]["domain"]["uuid"] = "00000000-0000-4000-8000-000000000000"
    assert "another machine than erp" in problem(world)


@pytest.mark.parametrize("state", ["running", "paused", "in shutdown", "pmsuspended"])
def test_a_vm_that_runs_on_its_standby(state: str) -> None:
    world = World()
    world.hosts["b"]["domain"]["state"] = state
    assert problem(world).startswith(f"erp is {state} on b, its standby host")


def test_somebody_elses_backup_job_is_left_alone() -> None:
    world = World()
    world.hosts["a"]["domain"]["backup_job"] = "foreign"
    assert "a backup job that isn't ours" in problem(world)


def test_somebody_elses_checkpoint_is_told_and_no_obstacle() -> None:
    world = World()
    world.hosts["a"]["domain"]["foreign_checkpoints"] = ["theirs"]
    assert "checkpoints that aren't ours are left alone: theirs" in decide(world).notes


def test_a_disk_that_can_not_be_imaged_is_named_unless_it_is_excluded() -> None:
    world = World()
    world.hosts["a"]["domain"]["refused"] = [{"target": "vdc", "reason": "a network disk (rbd)"}]
    assert "disk vdc of erp can't be imaged (a network disk (rbd))" in problem(world)
    decision = decide(world, exclude_disks=["vdc"])
    assert decision.take_image
    assert "excluded disks: vdc" in decision.notes


@pytest.mark.parametrize("machine", ["a", "b", "c"])
@pytest.mark.parametrize(
    ("member", "value", "said"),
    [
        ("version", None, "the mover is not installed on {}; run the site playbook"),
        ("version", "0.0.9+ffffffffffff", "the mover on {} is 0.0.9+ffffffffffff and this collection's is"),
        ("account_missing", ["acme"], "account rvm-acme is not there on {}; run the site playbook"),
        ("state", None, "erp has no state document on {}; run the site playbook"),
    ],
)
def test_a_machine_that_site_has_not_finished(machine: str, member: str, value: Any, said: str) -> None:
    world = World()
    world.hosts[machine][member] = value
    assert problem(world).startswith(said.format(machine))


def test_a_root_that_is_not_there_or_cannot_share_blocks() -> None:
    world = World()
    world.hosts["c"]["root"].update(exists=False)
    assert problem(world) == "/var/lib/resilient-vm is not there on c; run the site playbook"
    world.hosts["c"]["root"].update(exists=True, reflink=False, filesystem="ext4")
    assert "on c is on ext4, where files can't share blocks" in problem(world)


def test_an_unreadable_manifest_stops_all() -> None:
    said = "/x/manifest.json is not a whole manifest (not a JSON object); restore the file or erase the image"
    assert problem(World().holds(image(YESTERDAY, complete=False, problem=said))) == f"on c: {said}"


def test_a_wrong_generation_on_the_standby_stops_all() -> None:
    world = World()
    world.held["problems"] = ["/x/manifest.json belongs to acme/crm"]
    assert problem(world) == "on b: /x/manifest.json belongs to acme/crm"


def test_state_documents_that_disagree() -> None:
    world = World()
    world.hosts["b"]["state"].update(epoch=2, active="b")
    said = "\n".join(_problems(world))
    assert "the state documents of erp disagree (a: epoch 1 on a, b: epoch 2 on b, c: epoch 1 on a)" in said


def _problems(world: World) -> list[str]:
    with pytest.raises(ResilientVmError) as failure:
        decide(world)
    return list(failure.value.facts["problems"])


@pytest.mark.parametrize("phase", ["restoring", "split_brain", "maintenance"])
def test_no_image_in_the_middle_of_something_else(phase: str) -> None:
    world = World()
    world.hosts["c"]["state"]["phase"] = phase
    assert problem(world).startswith(f"erp is in phase {phase}")
