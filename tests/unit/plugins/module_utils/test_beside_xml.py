# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the definition of a machine restored beside another: nothing of it is the first one's any more."""

from __future__ import annotations

from itertools import count
from xml.etree import ElementTree

import pytest
from unit.libvirt_fakes import UUID, disk, domain

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._beside_xml import (
    beside,
    borrowing,
    settled,
)
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError

NEW = "7a1c1f0e-9e3b-4d55-9f0d-0a8d3a8f6b1c"
MAC = "52:54:00:00:00:01"
NIC = (
    f"<interface type='bridge'><mac address='{MAC}'/><source bridge='br0'/><target dev='vnet7'/>"
    "<model type='virtio'/><vlan><tag id='7'/></vlan><address type='pci' slot='0x03'/></interface>"
)


def made(
    *devices: str, system: str = "<type>hvm</type>", networks: dict[str, str] | None = None
) -> ElementTree.Element:
    numbers = count(2)
    return ElementTree.fromstring(
        beside(
            domain(*devices, system=system),
            "tuesday",
            NEW,
            "/r/tuesday",
            {"vda": "vda.raw"},
            "raw",
            networks or {},
            lambda: f"52:54:00:00:00:{next(numbers):02x}",
            exists=lambda _path: True,
        )
    )


def test_it_is_another_machine_on_its_own_disks() -> None:
    root = made(disk(), disk("vdc"))
    assert (root.findtext("name"), root.findtext("uuid")) == ("tuesday", NEW)
    assert UUID not in ElementTree.tostring(root, encoding="unicode")
    (node,) = root.findall("devices/disk")
    source, driver = node.find("source"), node.find("driver")
    assert source is not None and source.attrib == {"file": "/r/tuesday/vda.raw"}
    assert driver is not None and driver.get("type") == "raw"


def test_an_interface_keeps_its_place_and_is_attached_to_nothing() -> None:
    first, second = made(disk(), NIC, NIC.replace(MAC, "52:54:00:aa:aa:aa")).findall("devices/interface")
    for node, address in ((first, "52:54:00:00:00:02"), (second, "52:54:00:00:00:03")):
        assert node.get("type") == "ethernet"
        assert {child.tag: child.attrib for child in node} == {
            "mac": {"address": address},
            "model": {"type": "virtio"},
            "address": {"type": "pci", "slot": "0x03"},
            "link": {"state": "down"},
        }


def test_a_network_that_is_named_is_given() -> None:
    node = made(disk(), NIC, networks={"br0": "br-test"}).find("devices/interface")
    assert node is not None and node.get("type") == "bridge"
    source = node.find("source")
    assert source is not None and source.attrib == {"bridge": "br-test"}
    assert node.find("link") is None and node.find("target") is None


@pytest.mark.parametrize("kind", ["file", "unix", "tcp", "pty"])
def test_consoles_are_its_own(kind: str) -> None:
    log = "<log file='/var/log/erp.log'/>"
    node = made(
        disk(), f"<serial type='{kind}'><source path='/x'/><protocol type='raw'/>{log}<target port='0'/></serial>"
    ).find("devices/serial")
    assert node is not None
    assert (node.get("type"), [child.tag for child in node]) == ("pty", ["target"])


def test_ports_and_sockets_and_firmware_tables_are_its_own() -> None:
    root = made(
        disk(),
        "<graphics type='vnc' port='5907' autoport='no' passwd='secret'/>",
        "<channel type='unix'><source mode='bind' path='/x'/><target type='virtio' name='y'/></channel>",
        "<vsock><cid auto='no' address='3'/></vsock>",
    )
    graphics, channel, cid = (root.find(f"devices/{tag}") for tag in ("graphics", "channel", "vsock/cid"))
    assert graphics is not None and graphics.attrib == {"type": "vnc", "autoport": "yes", "passwd": "secret"}
    assert channel is not None and channel.find("source") is None
    assert cid is not None and cid.attrib == {"auto": "yes"}
    xml = domain(disk()).replace(
        "<devices>",
        f"<genid>{UUID}</genid><sysinfo><system><entry name='uuid'>{UUID}</entry></system></sysinfo><devices>",
    )
    text = beside(xml, "t", NEW, "/r", {"vda": "vda.raw"}, "raw", {}, lambda: MAC, exists=lambda _path: True)
    root = ElementTree.fromstring(text)
    assert root.findtext("sysinfo/system/entry") == NEW
    assert root.findtext("genid") == ""


def test_nvram_is_the_copy() -> None:
    root = made(disk(), system="<type>hvm</type><loader type='pflash'>/c</loader><nvram template='/t'>/old.fd</nvram>")
    assert root.findtext("os/nvram") == "/r/tuesday/nvram.fd"


def test_what_is_no_definition_is_told() -> None:
    with pytest.raises(ResilientVmError, match="is not XML"):
        beside("<domain", "t", NEW, "/r", {}, "raw", {}, lambda: MAC)


def test_a_machine_that_borrows_waits_for_its_lender_and_then_forgets_it() -> None:
    image = domain(disk("vda", inside="<driver name='qemu' type='raw' error_policy='enospace'/>"), disk("vdb"))
    plain = ElementTree.tostring(made(disk("vda"), disk("vdb")), encoding="unicode").replace("vda.raw", "vda.qcow2")
    text = borrowing(plain, {"vda": "/run/x/vda.sock"})
    node = ElementTree.fromstring(text).find("devices/disk")
    assert node is not None
    driver, below = node.find("driver"), node.find("backingStore")
    assert driver is not None and below is not None
    assert (driver.get("error_policy"), driver.get("rerror_policy")) == ("stop", "stop")
    source = below.find("source")
    assert source is not None and source.attrib == {"protocol": "nbd", "name": "vda"}
    assert {child.tag: child.attrib for child in source} == {
        "host": {"transport": "unix", "socket": "/run/x/vda.sock"},
    }
    # The chain ends there: libvirt needs not ask the lender.
    assert below.find("backingStore") is not None
    over = settled(text, image, ["vda"])
    assert (
        "backingStore" not in over
        and "rerror_policy" not in over
        and "error_policy='enospace'".replace("'", '"') in over
    )
    with pytest.raises(ResilientVmError, match="no disk vdz any more"):
        settled(text, image, ["vdz"])
