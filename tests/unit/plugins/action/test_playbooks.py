# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the playbooks and action plugins as Ansible runs them, without any machine: nothing answers here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[4]
# Port 1 refuses at once; three ports make three machines of one address.
MACHINES = {
    name: {"hosts": {host: {"ansible_host": "127.0.0.1", "ansible_port": port}}}
    for name, host, port in (("production", "a", 1), ("standby", "b", 2), ("backup_storage", "c", 3))
}
CUSTOMER = {"resilient_vm_customer": "acme"}
PROBE = """
- hosts: protected_vms
  gather_facts: false
  tasks:
    - edgecloud.resilient_vm.vm_plan:
      register: planned
    - ansible.builtin.copy:
        content: "{{ planned.plan | to_json }}"
        dest: "{{ into }}"
      delegate_to: localhost
      vars:
        ansible_connection: local
        ansible_python_interpreter: "{{ ansible_playbook_python }}"
"""
# The first task is there before anything of the collection was run.
BEGUN = """
- hosts: protected_vms
  gather_facts: false
  tasks:
    - ansible.builtin.set_fact:
        first: "{{ now(utc=true).timestamp() }}"
    - edgecloud.resilient_vm.vm_plan:
      register: planned
    - ansible.builtin.debug:
        msg: "began {{ planned.begun }}, first task {{ first }}."
"""


class Ansible:
    """ansible-playbook on an inventory given as a dictionary."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def inventory(self, vms: dict[str, Any], variables: dict[str, Any] | None = None, **groups: Any) -> Ansible:
        children = {**MACHINES, **groups, "protected_vms": {"hosts": vms}}
        document = {"all": {"vars": CUSTOMER if variables is None else variables, "children": children}}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(document))
        return self

    def play(self, playbook: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
        if isinstance(playbook, str):
            (self.folder / "play.yml").write_text(playbook)
            playbook = self.folder / "play.yml"
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        }
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "ansible",
                "playbook",
                "-i",
                str(self.folder / "hosts.yml"),
                str(playbook),
                *arguments,
            ],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


@pytest.fixture
def ansible(tmp_path: Path) -> Ansible:
    return Ansible(tmp_path)


def test_the_plan_sees_what_the_play_the_inventory_and_the_command_line_say(ansible: Ansible) -> None:
    vms = {"erp": {"resilient_vm_retention_days": "{{ 10 + 4 + 7 }}", "resilient_vm_retention_day": 5}}
    into = ansible.folder / "plan.json"
    ran = ansible.inventory(vms).play(PROBE, "-e", f"into={into}", "-e", "resilient_vm_force=yes", "--limit", "erp")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    plan = json.loads(into.read_text())
    assert (plan["retention_days"], plan["force"], plan["customer"]) == (21, True, "acme")
    assert plan["addresses"]["c"] == {"address": "127.0.0.1", "port": 3}
    said = " ".join((ran.stdout + ran.stderr).split())
    assert "resilient_vm_retention_day is no setting of this collection; resilient_vm_retention_days is" in said


def test_a_run_began_when_its_command_was_typed(ansible: Ansible) -> None:
    typed = time.time()
    ran = ansible.inventory({"erp": {}}).play(BEGUN)
    found = re.search(r"began ([0-9.]+), first task ([0-9.]+)\.", ran.stdout)
    assert found, ran.stdout + ran.stderr
    began, first = map(float, found.groups())
    # A clock tick is a hundredth of a second.
    assert typed - 0.02 <= began < first


def test_a_daily_run_without_any_machine_ends_red_and_names_machine_and_vms(ansible: Ansible) -> None:
    vms = {"erp": {}, "pos": {"resilient_vm_retention_days": "two weeks"}}
    ran = ansible.inventory(vms).play(ROOT / "playbooks/daily.yml")
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "erp: FAILED" in ran.stdout
    assert "FAILED: machine c can't be reached (" in ran.stdout
    assert "FAILED: resilient_vm_retention_days of pos is 'two weeks'" in ran.stdout
    assert "2 of 2 VMs failed: erp, pos" in ran.stdout
    assert "unreachable=1" not in ran.stdout
    assert "undefined" not in ran.stdout + ran.stderr


def test_a_machine_out_of_reach_does_not_need_the_machine_in_the_limit(ansible: Ansible) -> None:
    ran = ansible.inventory({"erp": {}, "web": {}}).play(ROOT / "playbooks/daily.yml", "--limit", "web", "--check")
    assert ran.returncode == 2
    assert "1 of 1 VMs failed: web" in ran.stdout
    assert "erp" not in ran.stdout


def test_a_sliced_inventory_stops_before_anything_is_asked(ansible: Ansible) -> None:
    ran = ansible.inventory({"erp": {}}, backup_storage={}).play(ROOT / "playbooks/daily.yml")
    assert ran.returncode == 2
    assert "group backup_storage of this inventory has no machine, and erp needs one" in ran.stdout
    assert "can't be reached" not in ran.stdout
    # Nor does Ansible complain of tasks that have nothing to do.
    assert "undefined" not in ran.stdout + ran.stderr


def test_a_run_that_names_no_vm_is_red(ansible: Ansible) -> None:
    for ran in (
        ansible.inventory({"erp": {}}).play(ROOT / "playbooks/daily.yml", "--limit", "a"),
        ansible.inventory({}).play(ROOT / "playbooks/status.yml"),
    ):
        assert ran.returncode != 0
        assert "no protected VM is named" in ran.stdout


def test_status_says_that_the_age_is_unknown_and_ends_red(ansible: Ansible) -> None:
    ran = ansible.inventory({"erp": {}}).play(ROOT / "playbooks/status.yml")
    assert ran.returncode == 2
    assert "ALARM: the age of the newest image of erp is unknown: machine c can't be reached" in ran.stdout


def test_status_as_json_can_be_read_by_a_program(ansible: Ansible) -> None:
    ran = ansible.inventory({"erp": {}}).play(ROOT / "playbooks/status.yml", "-e", "resilient_vm_status_json=true")
    shown = ran.stdout.split("Say how each VM is protected")[1]
    text = shown[shown.index("[\n") : shown.index("\nTASK")]
    assert json.loads(text)[0]["vm"] == "erp"


def test_the_example_inventory_makes_plans(ansible: Ansible) -> None:
    into = ansible.folder / "plan.json"
    ran = ansible.inventory({}).play(
        PROBE,
        "-i",
        str(ROOT / "inventory.example"),
        "-e",
        f"into={into}",
        "--limit",
        "erp",
        "-e",
        "ansible_become=false",
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    plan = json.loads(into.read_text())
    assert (plan["retention_days"], plan["domain"], plan["timezone"]) == (31, "erp-prod", "Europe/Amsterdam")
    assert plan["machines"] == ["a", "b", "c"]


def test_a_restore_that_names_no_vm_or_reaches_no_backup_storage_is_red(ansible: Ansible) -> None:
    wish = ("-e", "resilient_vm_restore_point=-8d", "-e", "resilient_vm_restore_to=files")
    play, place = ROOT / "playbooks/restore.yml", ("-e", "resilient_vm_restore_path=/srv/x")
    for options, words in (
        ((*wish, *place), "restore is for the VM that --limit names, and none was named"),
        (("--limit", "erp", *wish), "resilient_vm_restore_path is not set for erp"),
        (("--limit", "erp", *wish, *place), "bring it back, or correct its address"),
    ):
        ran = ansible.inventory({"erp": {}}).play(play, *options)
        assert ran.returncode != 0
        assert words in " ".join(ran.stdout.split())
