# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of a lab, and that the inventory speaks of the same lab as the program."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from lab.rvmlab.config import CHECKOUT, CONTROL, MACHINES, Lab

INVENTORY = CHECKOUT / "tests/lab/inventory"


def inventory_value(name: str) -> str:
    """What the inventory makes of one of its variables."""
    text = (INVENTORY / "group_vars/lab_machines.yml").read_text()
    loader = DataLoader()
    try:
        from ansible.template import trust_as_template
    except ImportError:  # ansible-core before 2.19 trusts every text
        variables = yaml.safe_load(text)
    else:
        variables = {
            key: trust_as_template(value) if isinstance(value, str) else value
            for key, value in yaml.safe_load(text).items()
        }
    variables["inventory_dir"] = str(INVENTORY)
    return str(Templar(loader=loader, variables=variables).template(variables[name]))


def test_state_lies_in_the_checkout_and_cache_on_the_box_by_default() -> None:
    lab = Lab.from_environment({})
    assert lab.state == CHECKOUT / ".dev/lab"
    assert lab.cache == Path("/var/cache/resilient-vm-lab")


def test_environment_moves_state_and_cache(tmp_path: Path) -> None:
    lab = Lab.from_environment({"RVM_LAB_STATE": str(tmp_path / "s"), "RVM_LAB_CACHE": str(tmp_path / "c")})
    assert (lab.state, lab.cache) == (tmp_path / "s", tmp_path / "c")


def test_labs_of_two_checkouts_share_no_name(tmp_path: Path) -> None:
    one, other = (Lab(state=tmp_path / name, cache=tmp_path) for name in "xy")
    assert one.id != other.id
    assert one.netns("a") != other.netns("a")
    assert one.container("a") != other.container("a")
    assert one.control_paths != other.control_paths


def test_names_fit_where_the_kernel_wants_short_ones(tmp_path: Path) -> None:
    lab = Lab(state=tmp_path, cache=tmp_path)
    longest = lab.control_paths / f"{max((m.address for m in MACHINES.values()), key=len)}-22-root.0123456789abcdef"
    assert len(str(longest)) < 100  # a socket's path holds 107 characters
    assert len(lab.container("a")) < 64


@pytest.mark.parametrize("elsewhere", [False, True])
def test_inventory_finds_the_lab_that_the_program_runs(
    elsewhere: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RVM_LAB_STATE", raising=False)
    if elsewhere:
        monkeypatch.setenv("RVM_LAB_STATE", str(tmp_path / "lab"))
    lab = Lab.from_environment()
    assert inventory_value("lab_state") == str(lab.state)
    assert inventory_value("ansible_control_path_dir") == str(lab.control_paths)
    assert inventory_value("ansible_ssh_common_args") == f"-F {lab.state}/ssh_config"


def test_inventory_has_the_machines_at_their_addresses() -> None:
    groups = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["all"]["children"]["lab_machines"]["children"]
    hosts = {name: facts["ansible_host"] for group in groups.values() for name, facts in group["hosts"].items()}
    assert hosts == {name: machine.address for name, machine in MACHINES.items()}


def test_every_address_is_used_once() -> None:
    addresses = [CONTROL.address, *(machine.address for machine in MACHINES.values())]
    assert len(set(addresses)) == len(addresses)
