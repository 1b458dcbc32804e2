# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions of guests."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from lab.rvmlab.domain import KINDS, Guest, domain_xml


def parsed(guest: Guest) -> ET.Element:
    return ET.fromstring(domain_xml(guest, "console=ttyS0"))


def text(root: ET.Element, path: str) -> str:
    found = root.find(path)
    assert found is not None and found.text
    return found.text


def test_identity_follows_from_the_name() -> None:
    one, again, other = Guest.of_kind("erp", "two-disk"), Guest.of_kind("erp", "raw"), Guest.of_kind("web", "raw")
    assert (one.uuid, one.mac, one.address) == (again.uuid, again.mac, again.address)
    assert len({one.uuid, other.uuid}) == len({one.mac, other.mac}) == len({one.address, other.address}) == 2
    assert one.uuid == text(parsed(one), "uuid")


def test_twenty_guests_have_twenty_addresses() -> None:
    guests = [Guest.of_kind(f"vm{number:02}", "tiny") for number in range(20)]
    assert len({guest.address for guest in guests}) == len({guest.mac for guest in guests}) == 20
    assert all(not guest.address.startswith("10.77.0.") for guest in guests)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_disks_an_agent_and_the_lan(kind: str) -> None:
    root = parsed(Guest.of_kind("x", kind))
    assert root.get("type") == "qemu"
    found = [
        (disk.find("target").get("dev"), disk.find("driver").get("type"))  # type: ignore[union-attr]
        for disk in root.iterfind("devices/disk")
    ]
    assert found == [(disk.target, disk.format) for disk in KINDS[kind].disks]
    assert root.find("devices/channel/target[@name='org.qemu.guest_agent.0']") is not None
    assert root.find("devices/interface/source[@bridge='vmbr0']") is not None
    assert (root.find("os/kernel") is not None) == (KINDS[kind].firmware == "direct")
    assert (root.find("os/nvram") is not None) == (KINDS[kind].firmware == "uefi")


def test_guest_without_agent_has_no_channel() -> None:
    assert parsed(replace(Guest.of_kind("x", "raw"), agent=False)).find("devices/channel") is None


def test_guest_has_a_tpm_only_when_asked_for() -> None:
    assert parsed(Guest.of_kind("x", "raw")).find("devices/tpm") is None
    assert (
        parsed(replace(Guest.of_kind("x", "raw"), tpm=True)).find("devices/tpm/backend[@type='emulator']") is not None
    )


def test_domain_type_can_be_chosen() -> None:
    root = parsed(replace(Guest.of_kind("x", "raw"), domain_type="kvm"))
    assert root.get("type") == "kvm"
    assert root.find("features/tcg") is None


def test_disks_can_be_changed_one_by_one() -> None:
    guest = Guest.of_kind("x", "two-disk").with_disk("vdb", size_mib=512, image_format="raw")
    first, second = guest.disks
    assert (first.format, second.format, second.size_mib) == ("qcow2", "raw", 512)
    assert second.path("x").endswith("/x-vdb.raw")


def test_guest_with_a_given_kernel_is_told_its_settings_on_the_command_line() -> None:
    guest = replace(Guest.of_kind("x", "blank"), writer=False)
    words = text(parsed(guest), "os/cmdline").split()
    assert {"console=ttyS0", "lab.name=x", f"lab.address={guest.address}/16", "lab.writer=off", "lab.mount=on"} <= set(
        words
    )
