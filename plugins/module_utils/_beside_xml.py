# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The definition of an image's machine, made that of another machine that can run beside the first one. Pure."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from xml.etree import ElementTree

from . import _standby_xml
from ._errors import ResilientVmError

__all__ = ["beside", "borrowing", "settled"]

_ATTACHED_BY = {"network": "network", "bridge": "bridge", "direct": "dev"}
# What ties an interface to the network it was attached to.
_TIES = ("source", "target", "script", "virtualport", "filterref", "vlan", "bandwidth", "portForwards", "ip", "link")
# What a machine does when a disk can't be read or written.
_POLICIES = ("error_policy", "rerror_policy")
_CONSOLES = ("serial", "parallel", "console")


def beside(
    xml: str,
    name: str,
    uuid: str,
    folder: str,
    disks: Mapping[str, str],
    image_format: str,
    networks: Mapping[str, str],
    mac: Callable[[], str],
    exists: Callable[[str], bool] = os.path.exists,
) -> str:
    """The XML to define: new name, UUID and MAC addresses, the disks (file by target) in ``folder``.

    An interface whose network is not named in ``networks`` keeps its place in the machine and is attached to nothing.
    """
    root = ElementTree.fromstring(_standby_xml.mapped(xml, folder, list(disks), {}, exists=exists))
    _named(root, name, uuid)
    devices = root.find("devices")
    if devices is None:
        raise ResilientVmError("the image's domain.xml has no devices; name another restore point")
    for node in devices:
        if node.tag == "disk" and node.get("device") == "disk":
            _disk(node, folder, disks, image_format)
        elif node.tag == "interface":
            _interface(node, networks, mac())
        elif node.tag in _CONSOLES or node.tag == "channel":
            _character_device(node)
        elif node.tag == "graphics":
            _graphics(node)
        elif node.tag == "vsock":
            for cid in node.findall("cid"):
                node.remove(cid)
            ElementTree.SubElement(node, "cid", auto="yes")
    return _standby_xml.text(root)


def borrowing(xml: str, sockets: Mapping[str, str]) -> str:
    """A machine whose disks (``sockets`` by target) lack what they find on a socket, where somebody lends it.

    When that is gone QEMU stops the machine, and tries the same again when it is resumed: its guest never hears of it.
    (QEMU could also wait by itself, but libvirt 9.0 has no way to have it do so.)
    """
    root = ElementTree.fromstring(xml)
    for target, path in sockets.items():
        node = _disk_of(root, target)
        driver = node.find("driver")
        if driver is not None:
            for attribute in _POLICIES:
                driver.set(attribute, "stop")
        below = ElementTree.SubElement(node, "backingStore", type="network")
        ElementTree.SubElement(below, "format", type="raw")
        source = ElementTree.SubElement(below, "source", protocol="nbd", name=target)
        ElementTree.SubElement(source, "host", transport="unix", socket=path)
        ElementTree.SubElement(below, "backingStore")
    return _standby_xml.text(root)


def settled(xml: str, image_xml: str, targets: Collection[str]) -> str:
    """The same machine when its disks lack nothing: what ``borrowing`` gave them goes, the rest stays its owner's."""
    root, first = ElementTree.fromstring(xml), ElementTree.fromstring(image_xml)
    for target in targets:
        node = _disk_of(root, target)
        for below in node.findall("backingStore"):
            node.remove(below)
        driver, before = node.find("driver"), _disk_of(first, target).find("driver")
        if driver is None:
            continue
        for attribute in _POLICIES:
            driver.attrib.pop(attribute, None)
            if before is not None and before.get(attribute) is not None:
                driver.set(attribute, before.get(attribute, ""))
    return _standby_xml.text(root)


def _disk_of(root: ElementTree.Element, target: str) -> ElementTree.Element:
    for node in root.iterfind("devices/disk"):
        found = node.find("target")
        if found is not None and found.get("dev") == target:
            return node
    raise ResilientVmError(f"the machine has no disk {target} any more; look at it with virsh dumpxml")


def _named(root: ElementTree.Element, name: str, uuid: str) -> None:
    for tag, text in (("name", name), ("uuid", uuid)):
        node = root.find(tag)
        if node is None:
            node = ElementTree.SubElement(root, tag)
        node.text = text
    for entry in root.iterfind("sysinfo/system/entry[@name='uuid']"):
        # libvirt refuses a machine whose firmware tables name another UUID.
        entry.text = uuid
    for genid in root.findall("genid"):
        # Left empty, libvirt makes one: the guest must notice that it is a copy.
        genid.text = None


def _disk(node: ElementTree.Element, folder: str, disks: Mapping[str, str], image_format: str) -> None:
    target, source, driver = node.find("target"), node.find("source"), node.find("driver")
    if target is None or source is None or driver is None:
        raise ResilientVmError("the image's domain.xml has a disk without a target; name another restore point")
    driver.set("type", image_format)
    source.set("file", os.path.join(folder, disks[target.get("dev", "")]))


def _interface(node: ElementTree.Element, networks: Mapping[str, str], mac: str) -> None:
    address = node.find("mac")
    if address is None:
        address = ElementTree.SubElement(node, "mac")
    address.attrib.clear()
    address.set("address", mac)
    source, attribute = node.find("source"), _ATTACHED_BY.get(node.get("type", ""))
    now = source.get(attribute) if source is not None and attribute is not None else None
    if source is not None and attribute is not None and now in networks:
        source.attrib.clear()
        source.set(attribute, networks[str(now)])
        _drop(node, ("target", "link"))
        return
    _drop(node, _TIES)
    # A tap device that leads nowhere.
    node.set("type", "ethernet")
    node.attrib.pop("trustGuestRxFilters", None)
    ElementTree.SubElement(node, "link", state="down")


def _character_device(node: ElementTree.Element) -> None:
    """Files, sockets and ports belong to the first machine, which may be using them."""
    _drop(node, ("log",))
    if node.tag in _CONSOLES:
        _drop(node, ("source", "protocol"))
        node.set("type", "pty")
    elif node.get("type") == "unix":
        _drop(node, ("source",))


def _graphics(node: ElementTree.Element) -> None:
    for attribute in ("port", "tlsPort", "websocket", "socket"):
        node.attrib.pop(attribute, None)
    for listen in node.findall("listen[@type='socket']"):
        node.remove(listen)
    if node.get("type") in ("vnc", "spice", "rdp"):
        node.set("autoport", "yes")


def _drop(node: ElementTree.Element, tags: Collection[str]) -> None:
    for child in list(node):
        if child.tag in tags:
            node.remove(child)
