# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about asking each machine once, and about finding a VM in the answers."""

from __future__ import annotations

from typing import Any

from unit.fakes_cycle import STATE, plan

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._questions import (
    gate_problems,
    part_of,
    plans_of,
    questions,
    told_of,
)

ERP = plan()
CRM = {**plan(), "vm": "crm", "domain": "crm2"}
ASKED = {"asked": "2026-01-15T02:00:00Z", "answered": "2026-01-15T02:00:01Z"}


def answer(machine: str, **members: Any) -> dict[str, Any]:
    return {"ansible_loop_var": "cycle_question", "cycle_question": {"machine": machine}, **members}


def test_a_vm_without_a_plan_is_asked_about_nowhere() -> None:
    hostvars: dict[str, dict[str, Any]] = {"erp": {"p": {"plan": ERP}}, "crm": {"p": {"failed": True}}, "new": {}}
    assert plans_of(hostvars, ["erp", "crm", "new"], "p") == [ERP]
    assert plans_of(hostvars, ["erp", "crm"], "p", "c") == [ERP]
    assert plans_of(hostvars, ["erp", "crm"], "p", "elsewhere") == []


def test_each_machine_is_asked_once_about_all_its_vms() -> None:
    asked = questions([ERP, CRM], "all")
    assert [question["machine"] for question in asked] == ["a", "b", "c"]
    vms = [{"customer": "acme", "vm": "erp", "domain": "erp"}, {"customer": "acme", "vm": "crm", "domain": "crm2"}]
    assert all(question["vms"] == vms for question in asked)
    assert [question["libvirt"] for question in asked] == [True, True, False]
    stored = questions([ERP, CRM], "backup_storage")
    assert [(question["machine"], question["vms"][1]) for question in stored] == [
        ("c", {"customer": "acme", "vm": "crm"})
    ]


def test_the_hosts_are_asked_for_generations_and_the_backup_storage_for_images() -> None:
    assert [question["parts"] for question in questions([ERP], "all")] == [["standbys"], ["standbys"], ["images"]]


def test_the_taker_is_the_host_that_is_not_active() -> None:
    assert [question["machine"] for question in questions([ERP], "taker", {"results": []})] == ["b"]
    states = {"acme/erp": {**STATE, "active": "b", "standby": "a", "epoch": 2}}
    answers = {"results": [answer("c", domains={}, states=states)]}
    assert [question["machine"] for question in questions([ERP, CRM], "taker", answers)] == ["a", "b"]


def test_a_part_is_told_as_if_it_had_been_asked_for_alone() -> None:
    images = {"acme/erp": {"newest": None}}
    told = {"domains": {}, "states": {}, "reachable": True, **ASKED}
    answers = {
        "results": [
            answer("a", msg="can't be reached", reachable=False),
            answer("b", parts={"standbys": {"msg": "b is confused"}}, **told),
            answer("c", parts={"images": {"images": images}}, **told),
        ]
    }
    assert part_of(answers, "images") == {"results": [answer("c", images=images, reachable=True, **ASKED)]}
    assert told_of(part_of(answers, "images"), ERP)["c"]["newest"] is None
    standbys = told_of(part_of(answers, "standbys"), ERP)
    assert standbys == {
        "b": {"answered": False, "reachable": True, "msg": "b is confused", "between": list(ASKED.values())}
    }


def test_of_an_answer_only_what_concerns_the_vm_is_kept() -> None:
    domains = {"acme/erp": {"exists": True}, "acme/crm": {"exists": False}}
    told = told_of(
        {"results": [answer("a", domains=domains, states={"acme/erp": STATE}, clock="T", version="1", **ASKED)]}, ERP
    )
    assert told == {
        "a": {
            "answered": True,
            "between": [ASKED["asked"], ASKED["answered"]],
            "clock": "T",
            "version": "1",
            "domain": {"exists": True},
            "state": STATE,
        }
    }


def test_images_and_generations_are_the_entry_itself() -> None:
    told = told_of({"results": [answer("c", images={"acme/erp": {"newest": None, "laid_out": True}}, **ASKED)]}, ERP)
    assert told["c"] == {"answered": True, "between": list(ASKED.values()), "newest": None, "laid_out": True}


def test_a_machine_without_an_answer_says_why() -> None:
    told = told_of({"results": [answer("b", msg="machine b can't be reached (timed out)", reachable=False)]}, ERP)
    assert told == {"b": {"answered": False, "reachable": False, "msg": "machine b can't be reached (timed out)"}}


def test_other_customers_machines_are_left_out() -> None:
    assert told_of({"results": [answer("z", domains={}, states={})]}, ERP) == {}
    assert told_of({"skipped": True}, ERP) == {}


def test_a_machine_that_did_not_answer_is_not_asked_again() -> None:
    silent = {"results": [answer("c", msg="can't be reached", reachable=False), answer("b", domains={}, states={})]}
    assert questions([ERP], "backup_storage", silent) == []
    assert [question["machine"] for question in questions([ERP], "taker", silent)] == ["b"]


def test_what_is_wrong_with_a_gate_is_one_sentence_a_host() -> None:
    plan = {"customer": "acme", "vm": "erp", "machines": ["a", "b", "c"]}
    fine = {"problems": {}, "unregistered": [], "reachable": True}
    answers = {
        "results": [
            answer("a", problems={"acme/erp": "nobody answers"}, unregistered=[], reachable=True),
            answer("b", failed=True, msg="libvirt starts what it must not", reachable=True),
            answer("other", failed=True, msg="not this VM's", reachable=True),
        ]
    }
    assert gate_problems(answers, plan) == [
        "erp could not be started on a: nobody answers",
        "on b: libvirt starts what it must not",
    ]
    unknown = {"results": [answer("a", **{**fine, "unregistered": ["acme/erp"]}), answer("b", **fine)]}
    assert gate_problems(unknown, plan) == ["the gate of a does not know erp; run the site playbook"]


def test_a_host_that_would_not_start_it_after_a_boot_is_told_of_while_both_are_there() -> None:
    plan = {"customer": "acme", "vm": "erp", "machines": ["a", "b", "c"]}
    fine = {"problems": {}, "unregistered": [], "reachable": True}
    alone = answer("a", **{**fine, "after_a_boot": {"acme/erp": "b has to say"}})
    told = gate_problems({"results": [alone, answer("b", **fine)]}, plan)
    assert told == ["if a booted now, erp would stay down: b has to say"]
    assert gate_problems({"results": [alone]}, plan) == []
    assert gate_problems({"results": [alone, answer("b", msg="no", reachable=False)]}, plan) == ["on b: no"]


def test_a_host_that_went_while_the_vms_had_their_turn_makes_no_green_run() -> None:
    plan = {"customer": "acme", "vm": "erp", "machines": ["a", "b", "c"]}
    answers = {
        "results": [
            answer("a", failed=True, msg="can't be reached", reachable=False),
            answer("b", failed=True, msg="libvirt does not answer", reachable=True, libvirt=False),
        ]
    }
    assert gate_problems(answers, plan) == ["on a: can't be reached", "on b: libvirt does not answer"]
    assert gate_problems(answers, {}) == []
