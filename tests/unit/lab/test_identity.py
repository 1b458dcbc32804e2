# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What machines and the box know of each other."""

from __future__ import annotations

from pathlib import Path

from lab.rvmlab.config import MACHINES, Lab
from lab.rvmlab.identity import data_binds, hosts_text, known_hosts_text, ssh_config_text


def stanzas(text: str) -> dict[str, dict[str, str]]:
    """The options of every Host line."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        key, _space, value = line.strip().partition(" ")
        if key == "Host":
            found[value] = {}
        else:
            found[next(reversed(found))][key] = value
    return found


def test_ssh_never_trusts_a_key_it_does_not_know(tmp_path: Path) -> None:
    lab = Lab(state=tmp_path / "with blank", cache=tmp_path)
    common = next(iter(stanzas(ssh_config_text(lab)).values()))
    assert common["StrictHostKeyChecking"] == "yes"
    assert common["UserKnownHostsFile"] == f'"{lab.known_hosts}"'
    assert common["GlobalKnownHostsFile"] == "/dev/null"
    assert common["IdentitiesOnly"] == "yes"


def test_ssh_gives_up_on_a_machine_that_lost_power(tmp_path: Path) -> None:
    common = next(iter(stanzas(ssh_config_text(Lab(state=tmp_path, cache=tmp_path))).values()))
    assert int(common["ConnectTimeout"]) > 0
    assert int(common["ServerAliveInterval"]) * int(common["ServerAliveCountMax"]) <= 60


def test_ssh_reaches_machines_by_name_and_by_address(tmp_path: Path) -> None:
    found = stanzas(ssh_config_text(Lab(state=tmp_path, cache=tmp_path)))
    for machine in MACHINES.values():
        assert found[machine.name]["HostName"] == machine.address
        assert any({machine.name, machine.address} <= set(names.split()) for names in found)


def test_known_hosts_pins_the_machines_made_so_far(tmp_path: Path) -> None:
    lab = Lab(state=tmp_path, cache=tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/ssh_host_ed25519_key.pub").write_text("ssh-ed25519 AAAAkey b\n")
    assert known_hosts_text(lab) == "b,10.77.0.12 ssh-ed25519 AAAAkey\n"


def test_every_machine_knows_every_name() -> None:
    for machine in MACHINES.values():
        names = {name for line in hosts_text(machine).splitlines() for name in line.split()[1:]}
        assert {"a", "b", "c", "ctl", "localhost"} <= names


def test_images_of_guests_lie_on_the_data_disk_where_there_is_libvirt() -> None:
    for machine in MACHINES.values():
        assert ("/var/lib/libvirt/images" in data_binds(machine).values()) == machine.libvirt
        assert "/var/lib/resilient-vm" in data_binds(machine).values()
