# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A libvirt domain as its XML tells it, and which of its devices an image takes, skips or refuses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from xml.etree import ElementTree

from ._errors import ResilientVmError

__all__ = ["STOPPED", "Device", "Disk", "Domain", "Selection", "parse", "refuse_saved", "resolve_volumes", "select"]

# What virsh calls a domain that is defined and doesn't run.
STOPPED = ("shut off", "crashed")
AGENT = "org.qemu.guest_agent.0"
_FORMATS = ("qcow2", "raw")
_NVRAM_FOLDER = "/var/lib/libvirt/qemu/nvram"
_MEDIA = {"cdrom": "CD-ROM", "floppy": "floppy disk"}
_SOURCES = {
    "dir": "a directory shown as a disk",
    "network": "a network disk",
    "nvme": "an NVMe device passed through",
    "vhostuser": "a vhost-user disk",
    "vhostvdpa": "a vhost-vdpa disk",
    "volume": "a volume of a storage pool that libvirt can't name a path of",
}


@dataclass(frozen=True)
class Disk:
    """One <disk>. ``chain`` is every file below ``source``, as far as the XML tells it."""

    target: str
    device: str = "disk"
    type: str = "file"
    format: str = "raw"
    source: str = ""
    chain: tuple[str, ...] = ()
    read_only: bool = False
    shareable: bool = False
    transient: bool = False
    encrypted: bool = False
    pool: str = ""
    volume: str = ""


@dataclass(frozen=True)
class Device:
    """A device that may hold data and is no <disk>, under the name an owner excludes it by."""

    name: str
    what: str


@dataclass(frozen=True)
class Domain:
    name: str
    uuid: str
    disks: tuple[Disk, ...] = ()
    devices: tuple[Device, ...] = ()
    agent: bool = False
    agent_connected: bool = False
    nvram: str = ""
    tpm: bool = False


@dataclass(frozen=True)
class Selection:
    """What happens to each device: every one is in exactly one of the four."""

    taken: tuple[Disk, ...]
    skipped: tuple[dict[str, str], ...]
    excluded: tuple[str, ...]
    refused: tuple[dict[str, str], ...]


def parse(xml: str) -> Domain:
    """Read what ``virsh dumpxml`` printed."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise ResilientVmError(
            f"libvirt's description of a domain is not XML ({error}); look at virsh dumpxml"
        ) from error
    channel = root.find(f"devices/channel/target[@name='{AGENT}']")
    return Domain(
        name=root.findtext("name", ""),
        uuid=root.findtext("uuid", ""),
        disks=tuple(_disk(node) for node in root.iterfind("devices/disk")),
        devices=tuple(_devices(root)),
        agent=channel is not None,
        agent_connected=channel is not None and channel.get("state") == "connected",
        nvram=_nvram(root),
        tpm=root.find("devices/tpm/backend[@type='emulator']") is not None,
    )


def _disk(node: ElementTree.Element) -> Disk:
    source = node.find("source")
    target = node.find("target")
    driver = node.find("driver")
    chain = []
    below = node.find("backingStore")
    while below is not None:
        path = _path(below.find("source"))
        if path:
            chain.append(path)
        below = below.find("backingStore")
    return Disk(
        target="" if target is None else target.get("dev", ""),
        device=node.get("device", "disk"),
        type=node.get("type", "file"),
        # Without a driver's type libvirt forbids QEMU to probe and takes the disk as raw.
        format="raw" if driver is None else driver.get("type", "raw"),
        source=_path(source),
        chain=tuple(chain),
        read_only=node.find("readonly") is not None,
        shareable=node.find("shareable") is not None,
        transient=node.find("transient") is not None,
        encrypted=node.find("encryption") is not None or node.find("source/encryption") is not None,
        pool="" if source is None else source.get("pool", ""),
        volume="" if source is None else source.get("volume", ""),
    )


def _path(source: ElementTree.Element | None) -> str:
    if source is None:
        return ""
    return source.get("file") or source.get("dev") or ""


def _nvram(root: ElementTree.Element) -> str:
    node = root.find("os/nvram")
    if node is None:
        loader = root.find("os/loader[@type='pflash']")
        if root.find("os[@firmware='efi']") is None and (loader is None or loader.get("stateless") == "yes"):
            return ""
        # Chosen by libvirt at the start, and told only while the machine runs (libvirt 9.0).
        return f"{_NVRAM_FOLDER}/{root.findtext('name', '')}_VARS.fd"
    # Both spellings: text (all versions), and a <source> of its own (libvirt 8.5 and newer).
    return _path(node.find("source")) or (node.text or "").strip()


def _devices(root: ElementTree.Element) -> Iterable[Device]:
    for node in root.iterfind("devices/filesystem"):
        target = node.find("target")
        driver = node.find("driver")
        kind = "virtiofs" if driver is not None and driver.get("type") == "virtiofs" else "9p"
        yield Device("" if target is None else target.get("dir", ""), f"a folder of the host shared by {kind}")
    for node in root.iterfind("devices/hostdev"):
        yield Device(_hostdev_name(node), "a device of the host passed through")
    for node in root.iterfind("devices/memory"):
        if node.get("model") in ("nvdimm", "virtio-pmem"):
            yield Device(f"{node.get('model')}:{node.findtext('source/path', '')}", "persistent memory")


def _hostdev_name(node: ElementTree.Element) -> str:
    """``hostdev:pci:0000:01:00.0`` and the like: what lspci, lsusb or the owner's XML call the device."""
    kind = node.get("type", "")
    address = node.find("source/address")
    if address is None:
        vendor, product = node.find("source/vendor"), node.find("source/product")
        if vendor is not None and product is not None:
            return f"hostdev:{kind}:{_hexadecimal(vendor, 'id', 4)}:{_hexadecimal(product, 'id', 4)}"
        source = node.find("source")
        return f"hostdev:{kind}:{'' if source is None else source.get('wwpn', '')}"
    if kind == "pci":
        place = ":".join(_hexadecimal(address, part, width) for part, width in (("domain", 4), ("bus", 2), ("slot", 2)))
        return f"hostdev:pci:{place}.{_hexadecimal(address, 'function', 1)}"
    if kind == "mdev":
        return f"hostdev:mdev:{address.get('uuid', '')}"
    if kind == "usb":
        return f"hostdev:usb:{address.get('bus', '')}:{address.get('device', '')}"
    adapter = node.find("source/adapter")
    parts = [address.get(part, "0") for part in ("bus", "target", "unit")]
    return ":".join(["hostdev", kind, "" if adapter is None else adapter.get("name", ""), *parts])


def _hexadecimal(node: ElementTree.Element, attribute: str, width: int) -> str:
    return f"{int(node.get(attribute, '0'), 16):0{width}x}"


def refuse_saved(name: str, uuid: str, reason: str) -> None:
    """Of a machine whose disks go on elsewhere. ``reason`` is libvirt's, for what state it is in."""
    if reason == "saved":
        raise ResilientVmError(
            f"{name} has a saved state on this host, which belongs to disks of before and would wake up on others; "
            f"throw it away with: virsh managedsave-remove {uuid}, and run this again"
        )


def resolve_volumes(domain: Domain, paths: Mapping[tuple[str, str], str]) -> Domain:
    """The domain with each storage pool's volume replaced by its path, where ``paths`` has one."""
    return replace(
        domain,
        disks=tuple(
            replace(disk, type="block" if path.startswith("/dev/") else "file", source=path)
            if disk.type == "volume" and (path := paths.get((disk.pool, disk.volume), ""))
            else disk
            for disk in domain.disks
        ),
    )


def select(domain: Domain, exclude: Iterable[str]) -> Selection:
    """Sort every device of a domain: taken, skipped (with a reason), excluded by its owner, or refused."""
    unwanted = set(exclude)
    taken: list[Disk] = []
    skipped: list[dict[str, str]] = []
    excluded: list[str] = []
    refused: list[dict[str, str]] = []
    for disk in domain.disks:
        if disk.device in _MEDIA:
            # First, so that a CD-ROM never shows as data its owner chose to lose.
            skipped.append({"target": disk.target, "reason": _MEDIA[disk.device]})
        elif disk.target in unwanted:
            excluded.append(disk.target)
        elif _empty(disk):
            skipped.append({"target": disk.target, "reason": "empty drive"})
        elif why := _refusal(disk):
            refused.append({"target": disk.target, "reason": why})
        else:
            taken.append(disk)
    for device in domain.devices:
        if device.name in unwanted:
            excluded.append(device.name)
        else:
            refused.append({"target": device.name, "reason": device.what})
    return Selection(tuple(taken), tuple(skipped), tuple(excluded), tuple(refused))


def _empty(disk: Disk) -> bool:
    return disk.type in ("file", "block") and not disk.source


def _refusal(disk: Disk) -> str:
    """Why a disk can't be copied as a plain file or block device, or ""."""
    if disk.type not in ("file", "block"):
        return _SOURCES.get(disk.type, f"a disk of type {disk.type}")
    if disk.device != "disk":
        return f"a disk passed through as {disk.device}"
    if disk.shareable:
        return "a shareable disk, which another machine may write"
    if disk.transient:
        return "a transient disk, whose changes QEMU throws away"
    if disk.encrypted:
        return "a disk encrypted with a libvirt secret"
    if disk.format not in _FORMATS:
        return f"a disk of format {disk.format}"
    return ""
