# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about who is heard at a guest's address; the lab asks real networks."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any
from xml.etree import ElementTree

import pytest
from unit.libvirt_fakes import UUID, World, refused, said

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _address
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._virsh import Virsh

OURS, THEIRS = bytes.fromhex("525400000001"), bytes.fromhex("525400000002")
GUEST = IPv4Address("192.0.2.80")
MACHINE = """<domain><devices>
<interface type='bridge'><source bridge='vmbr0'/></interface>
<interface type='network'><source network='lan'/></interface>
<interface type='direct'><source dev='eno2' mode='bridge'/></interface>
<interface type='bridge'><source bridge='vmbr0'/></interface>
<interface type='user'/>
</devices></domain>"""
NOBODY: dict[str, Any] = _address.Sighting("192.0.2.80", ("vmbr0",)).as_dict()
SEEN = {**NOBODY, "mac": "52:54:00:00:00:02", "device": "vmbr0"}


def frame(sender: bytes, address: IPv4Address, operation: int) -> bytes:
    """A question or an answer of somebody who has an address."""
    asked = bytearray(_address.probe(sender, GUEST))
    asked[20:22] = operation.to_bytes(2, "big")
    asked[28:32] = address.packed
    return bytes(asked)


@pytest.mark.parametrize("operation", [1, 2])
def test_whoever_speaks_from_the_address_has_it(operation: int) -> None:
    assert _address.claimed(frame(THEIRS, GUEST, operation), OURS, GUEST) == "52:54:00:00:00:02"
    assert _address.claimed(frame(OURS, GUEST, operation), OURS, GUEST) == "", "an echo of our own"
    assert _address.claimed(frame(THEIRS, IPv4Address("192.0.2.81"), operation), OURS, GUEST) == ""


def test_a_probe_claims_no_address_and_is_of_the_right_form() -> None:
    asked = _address.probe(OURS, GUEST)
    assert (
        asked.hex()
        == "ffffffffffff"
        + "525400000001"
        + "0806"
        + "0001080006040001"
        + "525400000001"
        + "00000000"
        + ("000000000000" + "c0000250")
    )
    assert _address.claimed(asked, THEIRS, GUEST) == "", "nor does that of another who only asks"
    assert _address.claimed(asked[:30], THEIRS, GUEST) == ""
    assert _address.claimed(asked[:12] + b"\x08\x00" + asked[14:], THEIRS, GUEST) == ""


def test_every_network_of_the_machine_is_asked_once() -> None:
    world = World({"virsh net-dumpxml": said("<network><name>lan</name><bridge name='virbr1'/></network>")})
    assert list(_address.devices_of(ElementTree.fromstring(MACHINE), Virsh(world))) == ["vmbr0", "virbr1", "eno2"]
    gone = World({"virsh net-dumpxml": refused("error: Network not found")})
    assert list(_address.devices_of(ElementTree.fromstring(MACHINE), Virsh(gone))) == ["vmbr0", "eno2"]


@pytest.mark.parametrize(
    ("address", "uuid", "xml", "why"),
    [
        ("[2001:db8::80]:443", UUID, MACHINE, "2001:db8::80 is no IPv4 address"),
        ("erp.acme.example:443", UUID, MACHINE, "erp.acme.example is no IPv4 address"),
        ("192.0.2.80:443", None, MACHINE, "its machine is not defined here"),
        ("192.0.2.80:443", UUID, "<domain><devices/></domain>", "it is attached to no network"),
        (
            "192.0.2.80:443",
            UUID,
            "<domain><devices><interface type='bridge'><source bridge='rvm-no-such'/></interface></devices></domain>",
            "rvm-no-such can't be asked",
        ),
    ],
)
def test_what_can_not_be_asked_is_said(address: str, uuid: str | None, xml: str, why: str) -> None:
    seen = _address.look(address, uuid, Virsh(World({"virsh dumpxml": said(xml)})))
    assert why in seen.unchecked and not seen.mac
    assert _address.remark(seen.as_dict()).startswith("not checked: ")


def test_the_objection_names_who_answers() -> None:
    assert _address.objection("erp", "b", {}, False) == _address.objection("erp", "b", NOBODY, False) == ""
    told = _address.objection("erp", "b", SEEN, False)
    assert told.startswith(
        "52:54:00:00:00:02 answers at 192.0.2.80 on vmbr0 of b, and two would have the address of erp"
    )
    assert _address.objection("erp", "b", SEEN, True) == ""
    for despite in (False, True):
        assert "erp's own MAC address: it runs somewhere" in _address.objection(
            "erp", "b", {**SEEN, "own": True}, despite
        )
    assert _address.remark(NOBODY) == "nobody else at 192.0.2.80 on vmbr0"
    assert "resilient_vm_guest_address is not set" in _address.remark(None)
