# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The definition of a machine, mapped from the host it ran on to the host that stands by for it. Pure."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from xml.etree import ElementTree

from ._errors import ResilientVmError

__all__ = ["mapped", "readable", "text"]

# So that what libvirt and virt tools put into <metadata> and <qemu:commandline> keeps its usual prefix.
_NAMESPACES = {
    "qemu": "http://libvirt.org/schemas/domain/qemu/1.0",
    "libosinfo": "http://libosinfo.org/xmlns/libvirt/domain/1.0",
}
# What of a disk belongs to where it lay before.
_OLD_PLACE = ("source", "backingStore", "mirror", "encryption", "auth")
_ATTACHED_BY = {"network": "network", "bridge": "bridge", "direct": "dev"}


def mapped(
    xml: str,
    running: str,
    targets: Collection[str],
    networks: Mapping[str, str],
    uuid: str | None = None,
    name: str | None = None,
    exists: Callable[[str], bool] = os.path.exists,
) -> str:
    """The XML to define on the standby host: the same machine, its disks under ``running``.

    ``targets`` are the disks of the image; other disks were left out of it by their owner and have nothing here.
    ``networks`` renames networks, bridges and devices that interfaces are attached to. ``uuid``: the one it has to
    have, since libvirt would take it for another machine else, which may be another customer's. ``name``: the one it
    gets, which it need not have had when the image was taken.
    """
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise ResilientVmError(f"the image's domain.xml is not XML ({error}); erase this generation") from error
    if uuid is not None and root.findtext("uuid") != uuid:
        raise ResilientVmError(
            f"the image's domain.xml is of machine {root.findtext('uuid')}, not of {uuid}; erase this generation"
        )
    for node in root.findall("name") if name is not None else ():
        node.text = name
    root.attrib.pop("id", None)
    for label in root.findall("seclabel"):
        # Made for the other host; libvirt generates its own.
        root.remove(label)
    _map_firmware(root, running)
    several = root.findall("devices")
    if len(several) != 1:
        # libvirt would read them all, and what is left out below could be in another one.
        raise ResilientVmError(f"the image's domain.xml has {len(several)} lists of devices; erase this generation")
    devices = several[0]
    emulator = devices.find("emulator")
    if emulator is not None and not exists(emulator.text or ""):
        # Distributions install QEMU in different places; left out, libvirt finds its own.
        devices.remove(emulator)
    for node in list(devices):
        if node.tag == "disk":
            _map_disk(devices, node, running, targets)
        elif _left_out(node):
            devices.remove(node)
        elif node.tag == "interface":
            _map_interface(node, networks)
    return text(root)


def _map_firmware(root: ElementTree.Element, running: str) -> None:
    """NVRAM under ``running``, which exists only after a promotion put the image's there.

    Loader, template and format stay: they say which firmware wrote the variables.
    """
    system = root.find("os")
    if system is None:
        return
    loader = system.find("loader")
    flash = loader is not None and loader.get("type") == "pflash" and loader.get("stateless") != "yes"
    nvram = system.find("nvram")
    if nvram is None and not flash and system.get("firmware") != "efi":
        return
    if nvram is None:
        # Left out, libvirt would make fresh variables at the first start, and the machine forget how it boots.
        nvram = ElementTree.SubElement(system, "nvram")
    path = os.path.join(running, "nvram.fd")
    source = nvram.find("source")
    if source is None:
        nvram.text = path
    else:
        nvram.set("type", "file")
        source.attrib.clear()
        source.set("file", path)


def _map_disk(devices: ElementTree.Element, node: ElementTree.Element, running: str, targets: Collection[str]) -> None:
    device = node.get("device", "disk")
    target = node.find("target")
    name = "" if target is None else target.get("dev", "")
    if device in ("disk", "lun") and name not in targets:
        devices.remove(node)
        return
    for tag in _OLD_PLACE:
        for old in node.findall(tag):
            node.remove(old)
    node.set("type", "file")
    if device not in ("disk", "lun"):
        return  # CD-ROM or floppy: an empty drive
    node.set("device", "disk")
    driver = node.find("driver")
    if driver is None:
        driver = ElementTree.Element("driver")
        node.insert(0, driver)
    driver.set("name", "qemu")
    # A promoted machine runs on an overlay over its generation, whatever its disk was before.
    driver.set("type", "qcow2")
    ElementTree.SubElement(node, "source", file=os.path.join(running, f"{name}.qcow2"))


def _left_out(node: ElementTree.Element) -> bool:
    """Devices with data of the other host, which its owner left out of the image by name."""
    if node.tag in ("filesystem", "hostdev"):
        return True
    return node.tag == "memory" and node.get("model") in ("nvdimm", "virtio-pmem")


def _map_interface(node: ElementTree.Element, networks: Mapping[str, str]) -> None:
    source = node.find("source")
    attribute = _ATTACHED_BY.get(node.get("type", ""))
    if source is None or attribute is None:
        return
    name = source.get(attribute, "")
    source.set(attribute, networks.get(name, name))
    for live in ("portid", "portgroup") if name in networks else ("portid",):
        source.attrib.pop(live, None)


def readable(xml: str) -> str:
    """An XML for a person to compare: laid out evenly, without passwords."""
    if not xml:
        return ""
    root = ElementTree.fromstring(xml)
    for node in root.iterfind("devices/graphics[@passwd]"):
        node.set("passwd", "********")
    return text(root)


def text(root: ElementTree.Element) -> str:
    """A definition laid out evenly, with the prefixes people know."""
    for prefix, address in _NAMESPACES.items():
        ElementTree.register_namespace(prefix, address)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
