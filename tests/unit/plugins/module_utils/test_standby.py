# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the standby host: the current generation, the defined machine, what is erased and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.libvirt_fakes import UUID, Host, disk, domain, refused, said
from unit.standby_fakes import NEW, NEWEST, OLD, STATE, defined, generation, make_standby

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _held, _standby
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import read_json


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return make_standby(tmp_path, monkeypatch)


def plan(host: Host, image_id: str = NEW, **wish: Any) -> _standby.Plan:
    given = _standby.Wish(**{"domain": "erp", "uuid": UUID, "image_id": image_id, "epoch": 1, **wish})
    return _standby.plan_present(host.layout, host.world, given, str(host.path / "version.json"))


def do(host: Host, planned: _standby.Plan) -> None:
    _standby.apply(host.layout, host.world, planned)


TOUCHING = ("virsh define", "virsh undefine", "virsh autostart")


def test_a_generation_becomes_current_its_machine_defined_and_the_one_before_erased(host: Host) -> None:
    planned = plan(host)
    assert planned.changes and not host.world.asked(*TOUCHING)
    do(host, planned)
    assert os.readlink(host.layout.current) == f"generations/{NEW}"
    assert os.listdir(host.layout.generations) == [NEW]
    assert host.world.asked(*TOUCHING) == ["virsh define"]


def test_the_same_again_changes_nothing_although_libvirt_adds_to_what_was_defined(host: Host) -> None:
    do(host, plan(host))
    again = plan(host)
    assert not again.changes
    assert again.before == again.after


@pytest.mark.parametrize("why", ["changed by hand", "another definition", "other networks"])
def test_a_definition_that_differs_is_defined_anew(host: Host, why: str) -> None:
    wish: dict[str, Any] = {}
    nic = "<interface type='bridge'><source bridge='br0'/></interface>"
    generation(host, NEWEST, domain(disk(), nic))
    do(host, plan(host, NEWEST))
    if why == "changed by hand":
        host.world.answers["virsh dumpxml"] = said(domain(disk(), "<input type='by-hand'/>"))
    elif why == "another definition":
        generation(host, "20260115T020000Z", domain(disk("vda"), "<input type='new'/>"))
        wish["image_id"] = "20260115T020000Z"
    else:
        wish["networks"] = {"br0": "br1"}
    assert plan(host, **{"image_id": NEWEST, **wish}).define is not None


def test_the_previous_generation_is_whole_until_the_new_one_is_current_and_defined(host: Host) -> None:
    do(host, plan(host, OLD))
    host.world.answers["virsh define"] = refused("error: unsupported machine type")
    generation(host, NEWEST, domain(disk(), "<input/>"))
    with pytest.raises(ResilientVmError, match="unsupported machine type"):
        do(host, plan(host, NEWEST))
    assert {OLD, NEWEST} <= set(os.listdir(host.layout.generations))


@pytest.mark.parametrize(("keep", "left"), [(1, [NEWEST]), (2, [NEW, NEWEST]), (9, [OLD, NEW, NEWEST]), (0, [NEWEST])])
def test_so_many_of_the_newest_generations_stay(host: Host, keep: int, left: list[str]) -> None:
    generation(host, NEWEST)
    do(host, plan(host, NEWEST, keep_generations=keep))
    assert sorted(os.listdir(host.layout.generations)) == left


def test_a_newer_generation_is_never_erased_and_one_without_a_manifest_is_left_for_a_person(host: Host) -> None:
    generation(host, NEWEST)
    generation(host, "20260115T020000Z")
    Path(host.layout.generations, OLD, "manifest.json").write_text("{")
    assert plan(host, NEW).erase == ()


def test_a_generation_that_is_read_stays_until_that_is_over(host: Host) -> None:
    os.makedirs(host.layout.pins)
    pin = {"image": OLD, "purpose": "restore", "until": None, "reading": True}
    Path(host.layout.pins, "pin.json").write_text(json.dumps(pin))
    assert plan(host, NEW).erase == ()


def test_a_machine_that_starts_with_the_host_no_longer_does(host: Host) -> None:
    do(host, plan(host))
    host.world.answers["virsh list --all --autostart --uuid"] = said(UUID)
    planned = plan(host)
    assert planned.changes
    do(host, planned)
    assert f"virsh autostart {UUID} --disable" in host.world.calls


def test_a_machine_that_got_another_name_is_not_there_twice(host: Host) -> None:
    defined(host, name="old-name")
    do(host, plan(host))
    assert host.world.asked(*TOUCHING) == ["virsh undefine", "virsh define"]


def _damaged(host: Host) -> None:
    Path(host.layout.generations, NEW, "domain.xml").write_text("<domain>tampered</domain>")


def _missing(host: Host) -> None:
    os.unlink(Path(host.layout.generations, NEW, "vda.raw"))


def _active(host: Host) -> None:
    Path(host.layout.state).write_text(json.dumps({**STATE, "active": "b", "standby": "a"}))


def _unknown(host: Host) -> None:
    os.unlink(host.layout.state)


def _runs(host: Host) -> None:
    defined(host)
    host.world.answers["virsh domstate"] = said("running (booted)")


def _saved(host: Host) -> None:
    defined(host)
    host.world.answers["virsh domstate"] = said("shut off (saved)")


def _other(host: Host) -> None:
    defined(host, uuid=UUID.replace("3", "4"))


def _bad_block(host: Host) -> None:
    Path(host.layout.generations, NEW, "damaged.json").write_text(
        '[{"disk": "vda", "offset_bytes": 0, "found_by": "verify", "found": "2026-01-14T02:00:00Z"}]'
    )


@pytest.mark.parametrize(
    ("spoil", "wish", "sentence"),
    [
        (None, {"image_id": NEWEST}, r"generation 20260114T020000Z of acme/erp is not on this host"),
        (None, {"epoch": 2}, r"is of UUID .*, epoch 1, not of"),
        (None, {"uuid": "other"}, r"is of UUID"),
        (_damaged, {}, r"domain.xml is not what its manifest names"),
        (_missing, {}, r"vda.raw is missing"),
        (_bad_block, {}, r"is damaged; copy it anew"),
        (_active, {}, r"b is the active host of acme/erp"),
        (_unknown, {}, r"knows nothing of acme/erp; run the site playbook"),
        (_runs, {}, r"is running on this host, which only stands by"),
        (_saved, {}, r"has a saved state on this host, .* virsh managedsave-remove"),
        (_other, {}, r"another machine than acme/erp"),
    ],
)
def test_bad_input_is_one_sentence_before_anything_is_touched(
    host: Host, spoil: Callable[[Host], None] | None, wish: dict[str, Any], sentence: str
) -> None:
    if spoil:
        spoil(host)
    with pytest.raises(ResilientVmError, match=sentence):
        plan(host, **wish)
    assert not host.world.asked(*TOUCHING)
    assert not os.path.lexists(host.layout.current)


def absent(host: Host, uuid: str | None = None) -> _standby.Plan:
    return _standby.plan_absent(host.layout, host.world, "erp", uuid, str(host.path / "version.json"))


def test_a_machine_no_longer_stood_by_for_leaves_nothing(host: Host) -> None:
    do(host, plan(host))
    planned = absent(host)
    assert planned.changes
    do(host, planned)
    assert os.listdir(host.layout.generations) == []
    assert not os.path.lexists(host.layout.current)
    assert host.world.asked("virsh undefine") == ["virsh undefine"]
    assert not absent(host).changes


def test_a_machine_of_that_name_that_we_never_defined_stays(host: Host) -> None:
    defined(host, uuid=UUID.replace("3", "4"))
    assert absent(host).undefine == ()


@pytest.mark.parametrize("spoil", [_active, _runs])
def test_a_machine_that_runs_here_is_not_taken_away(host: Host, spoil: Callable[[Host], None]) -> None:
    spoil(host)
    with pytest.raises(ResilientVmError):
        absent(host, UUID)


def test_what_is_held_is_told_with_its_problems(host: Host) -> None:
    do(host, plan(host, NEW, keep_generations=5))
    Path(host.layout.generations, OLD, "manifest.json").write_text("{")
    told = _held.information(host.layout, host.world, "erp")
    assert told["current"]["id"] == NEW
    assert [found["id"] for found in told["generations"]] == [OLD, NEW]
    assert (told["defined"], told["uuid"], told["state"]) == (True, UUID, "shut off")
    assert len(told["problems"]) == 1 and OLD in told["problems"][0]


@pytest.mark.parametrize(("phase", "former"), [("protected", False), ("failed_over", True), ("reprotecting", True)])
def test_a_host_says_that_it_has_the_machine_as_it_ran_there(host: Host, phase: str, former: bool) -> None:
    state = Path(host.layout.state)
    state.write_text(json.dumps({**json.loads(state.read_text()), "phase": phase}))
    defined(host)
    assert _held.information(host.layout, host.world, "erp")["former"] is former


def test_a_current_generation_that_is_gone_is_a_problem(host: Host) -> None:
    os.symlink(f"generations/{NEWEST}", host.layout.current)
    told = _held.information(host.layout, host.world, "erp")
    assert told["current"] is None
    assert NEWEST in told["problems"][0]


def test_what_was_defined_is_noted_without_the_definition_itself(host: Host) -> None:
    do(host, plan(host))
    assert set(read_json(os.path.join(host.layout.directory, "standby.json"))) == {"uuid", "wanted", "defined"}
