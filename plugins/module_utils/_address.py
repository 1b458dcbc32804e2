# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether somebody uses a guest's address already, asked on the networks of this host that the guest is attached to.

Duplicate address detection by ARP (RFC 5227), so for IPv4 only: a probe claims no address, and changes nobody's tables.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from ipaddress import AddressValueError, IPv4Address
from typing import Any
from xml.etree import ElementTree

from ._errors import ResilientVmError
from ._process import Runner
from ._virsh import Virsh

__all__ = ["Sighting", "devices_of", "host_and_port", "look", "objection", "remark", "sighting"]

_ARP = 0x0806
_HEADER, _BODY = struct.Struct("!6s6sH"), struct.Struct("!HHBBH6s4s6s4s")
_ETHERNET, _IPV4, _REQUEST = 1, 0x0800, 1
_NOBODY, _EVERYBODY = bytes(6), b"\xff" * 6
# A neighbour answers within milliseconds; a probe may be lost.
_PROBES, _PAUSE_SECONDS = 3, 0.25


@dataclass(frozen=True)
class Sighting:
    """What was heard. ``unchecked`` says why nothing was asked; ``mac`` is whoever answered, "" for nobody."""

    address: str
    devices: tuple[str, ...] = ()
    mac: str = ""
    device: str = ""
    # Whether that is the guest's own address card, which only it has.
    own: bool = False
    unchecked: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "devices": list(self.devices)}


def host_and_port(guest_address: str) -> tuple[str, int]:
    """Of an address like 192.0.2.80:443 or [2001:db8::80]:443."""
    host, _colon, port = guest_address.rpartition(":")
    return host.strip("[]"), int(port)


def sighting(guest_address: str, domain: str, run: Runner) -> dict[str, Any]:
    """Who uses the guest's address, from here; ``domain`` is its machine as this host's libvirt knows it."""
    virsh = Virsh(run)
    try:
        seen = look(guest_address, virsh.domains().get(domain), virsh)
    except ResilientVmError as error:
        seen = Sighting(host_and_port(guest_address)[0], unchecked=str(error))
    return seen.as_dict()


def look(guest_address: str, uuid: str | None, virsh: Virsh) -> Sighting:
    """Ask on every network that the machine, as it is defined here, is attached to."""
    host = host_and_port(guest_address)[0]
    try:
        address = IPv4Address(host)
    except AddressValueError:
        return Sighting(host, unchecked=f"{host} is no IPv4 address")
    if not uuid:
        return Sighting(host, unchecked="its machine is not defined here")
    root = ElementTree.fromstring(virsh.inactive_xml(uuid))
    devices = tuple(devices_of(root, virsh))
    if not devices:
        return Sighting(host, unchecked="it is attached to no network of this host that can be asked")
    try:
        seen = replace(_ask(address, devices), devices=devices)
    except OSError as error:
        return Sighting(host, devices, unchecked=f"{' and '.join(devices)} can't be asked: {error.strerror or error}")
    own = {node.get("address", "").lower() for node in root.iterfind("devices/interface/mac")}
    return replace(seen, own=seen.mac in own)


def devices_of(root: ElementTree.Element, virsh: Virsh) -> Iterator[str]:
    """The network devices of this host behind a machine's interfaces, each once."""
    known = set()
    for node in root.iterfind("devices/interface"):
        source, kind = node.find("source"), node.get("type")
        name = ""
        if source is not None and kind == "network":
            name = virsh.bridge_of(source.get("network", ""))
        elif source is not None:
            name = source.get({"bridge": "bridge", "direct": "dev"}.get(kind or "", ""), "")
        if name and name not in known:
            known.add(name)
            yield name


def objection(vm: str, taker: str, seen: Mapping[str, Any], despite: bool) -> str:
    """Why the machine is not to be started there, or ""."""
    if not seen.get("mac"):
        return ""
    said = f"{seen['mac']} answers at {seen['address']} on {seen['device']} of {taker}"
    if seen["own"]:
        return f"{said}, which is {vm}'s own MAC address: it runs somewhere; shut it down there first"
    if despite:
        return ""
    return (
        f"{said}, and two would have the address of {vm}; take it away from that machine, or run it again with "
        "-e resilient_vm_despite_findings=true"
    )


def remark(seen: Mapping[str, Any] | None) -> str:
    """What a report says of it."""
    if not seen:
        return "not checked: resilient_vm_guest_address is not set"
    if seen["unchecked"]:
        return f"not checked: {seen['unchecked']}"
    where = f"at {seen['address']} on {' and '.join(seen['devices'])}"
    return f"{seen['mac']} answers {where}, and it was started all the same" if seen["mac"] else f"nobody else {where}"


def probe(mac: bytes, address: IPv4Address) -> bytes:
    """A question who has the address, of a machine that has none itself."""
    body = _BODY.pack(_ETHERNET, _IPV4, 6, 4, _REQUEST, mac, bytes(4), _NOBODY, address.packed)
    return _HEADER.pack(_EVERYBODY, mac, _ARP) + body


def claimed(frame: bytes, mac: bytes, address: IPv4Address) -> str:
    """The MAC address of another machine that uses the address by this frame, a question or an answer; else ""."""
    if len(frame) < _HEADER.size + _BODY.size or _HEADER.unpack_from(frame)[2] != _ARP:
        return ""
    _hardware, protocol, _length, _size, _operation, sender, said, _to, _whom = _BODY.unpack_from(frame, _HEADER.size)
    return sender.hex(":") if protocol == _IPV4 and said == address.packed and sender != mac else ""


def _ask(address: IPv4Address, devices: Sequence[str]) -> Sighting:
    with ExitStack() as stack:
        sockets: dict[socket.socket, str] = {}
        for device in devices:
            # Only of this kind from the first moment: nothing else is worth a look.
            opened = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP)))
            opened.bind((device, _ARP))
            sockets[opened] = device
        for _each in range(_PROBES):
            for opened in sockets:
                opened.send(probe(opened.getsockname()[4], address))
            until = time.monotonic() + _PAUSE_SECONDS
            while (left := until - time.monotonic()) > 0:
                for heard in select.select(list(sockets), [], [], left)[0]:
                    mac = claimed(heard.recv(2048), heard.getsockname()[4], address)
                    if mac:
                        return Sighting(str(address), mac=mac, device=sockets[heard])
    return Sighting(str(address))
