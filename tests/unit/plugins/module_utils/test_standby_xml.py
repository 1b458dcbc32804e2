# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the definition a standby host gets."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from unit.libvirt_fakes import UUID, disk, domain

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _standby_xml
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError

NIC = "<interface type='{}'><mac address='52:54:00:00:00:01'/><source {}/></interface>"


def mapped(
    *devices: str, system: str = "<type machine='pc-q35-7.2'>hvm</type>", **changed: object
) -> ElementTree.Element:
    arguments = {"targets": ["vda", "vdb"], "networks": {}, "exists": lambda _path: True, **changed}
    return ElementTree.fromstring(_standby_xml.mapped(domain(*devices, system=system), "/r/running", **arguments))  # type: ignore[arg-type]


def test_it_is_the_same_machine() -> None:
    root = mapped(disk(), NIC.format("bridge", "bridge='br0'"))
    assert (root.findtext("name"), root.findtext("uuid")) == ("erp", UUID)
    mac, kind = root.find("devices/interface/mac"), root.find("os/type")
    assert mac is not None and mac.get("address") == "52:54:00:00:00:01"
    assert kind is not None and kind.get("machine") == "pc-q35-7.2"
    assert root.get("type") == "kvm"


@pytest.mark.parametrize(
    "device",
    [
        disk(),
        disk(
            source="<source dev='/dev/vg/erp'/>", attributes="type='block' device='disk'", inside="<driver type='raw'/>"
        ),
        disk(attributes="type='volume' device='disk'", source="<source pool='p' volume='v'/>"),
        disk(inside="<driver type='qcow2'/><backingStore type='file'><source file='/b'/></backingStore>"),
        disk(inside="<serial>x</serial>"),
    ],
)
def test_every_disk_of_the_image_is_an_overlay_that_a_promotion_makes(device: str) -> None:
    node = mapped(device).find("devices/disk")
    assert node is not None
    source, driver = node.find("source"), node.find("driver")
    assert (node.get("type"), node.get("device")) == ("file", "disk")
    assert source is not None and source.attrib == {"file": "/r/running/vda.qcow2"}
    assert driver is not None and driver.get("type") == "qcow2"
    assert node.find("backingStore") is None


def test_how_a_disk_is_driven_stays() -> None:
    node = mapped(disk(inside="<driver name='qemu' type='raw' cache='none' discard='unmap'/>")).find(
        "devices/disk/driver"
    )
    assert node is not None
    assert node.attrib == {"name": "qemu", "type": "qcow2", "cache": "none", "discard": "unmap"}


def test_drives_are_empty() -> None:
    root = mapped(disk(), disk("sda", attributes="type='file' device='cdrom'"))
    drive = root.find("devices/disk[@device='cdrom']")
    assert drive is not None and drive.find("source") is None


def test_what_the_image_does_not_hold_is_not_in_the_machine() -> None:
    root = mapped(
        disk(),
        disk("vdx"),
        "<filesystem><target dir='s'/></filesystem>",
        "<hostdev type='pci'/>",
        "<memory model='nvdimm'/>",
        "<memory model='dimm'/>",
    )
    targets = [node.get("dev") for node in root.iterfind("devices/disk/target")]
    assert targets == ["vda"]
    assert root.find("devices/filesystem") is None and root.find("devices/hostdev") is None
    assert [node.get("model") for node in root.iterfind("devices/memory")] == ["dimm"]


@pytest.mark.parametrize(("kind", "attribute"), [("network", "network"), ("bridge", "bridge"), ("direct", "dev")])
def test_networks_are_renamed_as_told_and_else_stay(kind: str, attribute: str) -> None:
    devices = [NIC.format(kind, f"{attribute}='office'"), NIC.format(kind, f"{attribute}='plant'")]
    root = mapped(*devices, networks={"office": "standby"})
    assert [node.get(attribute) for node in root.iterfind("devices/interface/source")] == ["standby", "plant"]


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("<loader type='pflash'>/c</loader><nvram template='/t'>/old/erp.fd</nvram>", "/r/running/nvram.fd"),
        ("<loader type='pflash'>/c</loader>", "/r/running/nvram.fd"),
        ("<loader type='pflash' stateless='yes'>/c</loader>", None),
        ("<loader type='rom'>/bios</loader>", None),
        ("<type>hvm</type>", None),
    ],
)
def test_firmware_variables_come_from_the_image_and_are_never_made_anew(system: str, expected: str | None) -> None:
    assert mapped(disk(), system=system).findtext("os/nvram") == expected


def test_the_firmware_that_wrote_the_variables_stays_named() -> None:
    root = mapped(disk(), system="<loader type='pflash'>/c</loader><nvram template='/t' format='qcow2'>/old</nvram>")
    nvram = root.find("os/nvram")
    assert nvram is not None and nvram.attrib == {"template": "/t", "format": "qcow2"}
    assert root.findtext("os/loader") == "/c"


def test_variables_named_by_a_source_are_mapped_there() -> None:
    system = "<nvram type='block'><source dev='/dev/vg/nvram'/></nvram>"
    nvram = mapped(disk(), system=system).find("os/nvram")
    assert nvram is not None and nvram.get("type") == "file"
    source = nvram.find("source")
    assert source is not None and source.attrib == {"file": "/r/running/nvram.fd"}


def test_labels_and_numbers_of_the_other_host_stay_there() -> None:
    text = domain(disk()).replace("<os>", "<seclabel type='static' model='selinux'/><os>")
    root = ElementTree.fromstring(_standby_xml.mapped(text, "/r", ["vda"], {}))
    assert root.find("seclabel") is None
    assert root.get("id") is None


@pytest.mark.parametrize("there", [True, False])
def test_a_qemu_that_is_elsewhere_on_this_host_is_left_to_libvirt(there: bool) -> None:
    root = mapped(disk(), "<emulator>/usr/libexec/qemu-kvm</emulator>", exists=lambda _path: there)
    assert (root.find("devices/emulator") is not None) is there


def test_a_mapped_definition_is_mapped_to_itself() -> None:
    once = _standby_xml.mapped(domain(disk()), "/r", ["vda"], {})
    assert _standby_xml.mapped(once, "/r", ["vda"], {}) == once


def test_passwords_are_defined_and_never_shown() -> None:
    text = _standby_xml.mapped(domain(disk(), "<graphics type='vnc' passwd='secret'/>"), "/r", ["vda"], {})
    assert "secret" in text
    assert "secret" not in _standby_xml.readable(text)
    assert _standby_xml.readable("") == ""


@pytest.mark.parametrize("text", ["no xml", "<domain><name>erp</name></domain>"])
def test_what_is_no_definition_is_one_sentence(text: str) -> None:
    with pytest.raises(ResilientVmError, match="erase this generation"):
        _standby_xml.mapped(text, "/r", ["vda"], {})


def test_a_definition_of_another_machine_is_not_taken() -> None:
    """By its UUID libvirt would change that one, which may be another customer's."""
    assert _standby_xml.mapped(domain(disk()), "/r", ["vda"], {}, UUID)
    with pytest.raises(ResilientVmError, match="erase this generation"):
        _standby_xml.mapped(domain(disk()), "/r", ["vda"], {}, UUID.replace("3", "4"))


def test_it_has_the_name_it_has_now() -> None:
    """One that was renamed since its image was taken is started all the same; nor does any other name get there."""
    root = ElementTree.fromstring(_standby_xml.mapped(domain(disk()), "/r", ["vda"], {}, UUID, "renamed"))
    assert [node.text for node in root.findall("name")] == ["renamed"]


def test_a_second_list_of_devices_hides_nothing() -> None:
    text = domain(disk()).replace("</domain>", "<devices><hostdev mode='subsystem' type='usb'/></devices></domain>")
    with pytest.raises(ResilientVmError, match="has 2 lists of devices; erase this generation"):
        _standby_xml.mapped(text, "/r", ["vda"], {})
