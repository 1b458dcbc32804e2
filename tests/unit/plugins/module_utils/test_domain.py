# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about which devices of a machine an image takes, skips, leaves out and refuses."""

from __future__ import annotations

import pytest
from unit.libvirt_fakes import disk, domain

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _domain
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError

RAW = "<driver name='qemu' type='raw'/>"


def select(*devices: str, exclude: tuple[str, ...] = ()) -> _domain.Selection:
    return _domain.select(_domain.parse(domain(*devices)), exclude)


@pytest.mark.parametrize(
    "device",
    [
        disk(),
        disk(inside=RAW),
        disk(inside="<driver name='qemu'/>"),
        disk(source="<source dev='/dev/vg/erp'/>", attributes="type='block' device='disk'", inside=RAW),
        disk(inside="<driver name='qemu' type='qcow2'/><readonly/>"),
    ],
)
def test_plain_disks_are_taken(device: str) -> None:
    selection = select(device)
    assert [taken.target for taken in selection.taken] == ["vda"]
    assert not (selection.skipped or selection.excluded or selection.refused)


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        (disk("sda", attributes="type='file' device='cdrom'"), "CD-ROM"),
        (disk("fda", attributes="type='file' device='floppy'"), "floppy disk"),
        (disk("sdb", source="<driver name='qemu'/>"), "empty drive"),
        (disk("sda", attributes="type='network' device='cdrom'"), "CD-ROM"),
    ],
)
def test_drives_without_data_of_the_machine_are_skipped_with_a_reason(device: str, reason: str) -> None:
    selection = select(disk(), device)
    assert [item["reason"] for item in selection.skipped] == [reason]
    assert not selection.refused


REFUSED = [
    (disk(attributes="type='network' device='disk'", source="<source protocol='rbd' name='p/i'/>"), "vda", "network"),
    (disk(attributes="type='nvme' device='disk'", source="<source type='pci'/>"), "vda", "NVMe"),
    (disk(attributes="type='vhostuser' device='disk'", source="<source type='unix'/>"), "vda", "vhost-user"),
    (disk(attributes="type='dir' device='disk'", source="<source dir='/x'/>"), "vda", "directory"),
    (disk(attributes="type='volume' device='disk'", source="<source pool='p' volume='v'/>"), "vda", "volume"),
    (disk(attributes="type='block' device='lun'", source="<source dev='/dev/sdb'/>"), "vda", "lun"),
    (disk(attributes="type='quantum' device='disk'"), "vda", "quantum"),
    (disk(inside="<driver type='qcow2'/><shareable/>"), "vda", "shareable"),
    (disk(inside="<driver type='qcow2'/><transient/>"), "vda", "transient"),
    (disk(inside="<driver type='qcow2'/><encryption format='luks'/>"), "vda", "encrypted"),
    (disk(source="<source file='/i'><encryption format='luks'/></source>"), "vda", "encrypted"),
    (disk(inside="<driver type='vmdk'/>"), "vda", "vmdk"),
    ("<filesystem><driver type='virtiofs'/><target dir='share'/></filesystem>", "share", "virtiofs"),
    ("<filesystem type='mount'><target dir='share'/></filesystem>", "share", "9p"),
    (
        "<hostdev type='pci'><source><address domain='0x0' bus='0x3b' slot='0x00' function='0x1'/></source></hostdev>",
        "hostdev:pci:0000:3b:00.1",
        "passed through",
    ),
    ("<hostdev type='mdev'><source><address uuid='a-b'/></source></hostdev>", "hostdev:mdev:a-b", "passed through"),
    (
        "<hostdev type='usb'><source><vendor id='0x1d6b'/><product id='0x2'/></source></hostdev>",
        "hostdev:usb:1d6b:0002",
        "passed through",
    ),
    (
        "<hostdev type='scsi'><source><adapter name='scsi_host0'/><address bus='0' target='1' unit='2'/></source>"
        "</hostdev>",
        "hostdev:scsi:scsi_host0:0:1:2",
        "passed through",
    ),
    ("<memory model='nvdimm'><source><path>/n</path></source></memory>", "nvdimm:/n", "persistent memory"),
]


@pytest.mark.parametrize(("device", "name", "reason"), REFUSED)
def test_what_is_no_plain_disk_is_refused_by_name_and_reason(device: str, name: str, reason: str) -> None:
    selection = select(disk("vdz"), device)
    assert [item["target"] for item in selection.refused] == [name]
    assert reason in selection.refused[0]["reason"]


@pytest.mark.parametrize(("device", "name", "_reason"), REFUSED)
def test_the_name_in_a_refusal_excludes_the_device(device: str, name: str, _reason: str) -> None:
    selection = select(disk("vdz"), device, exclude=(name,))
    assert selection.excluded == (name,)
    assert not selection.refused


def test_a_plain_disk_can_be_excluded_and_a_name_that_is_not_there_excludes_nothing() -> None:
    selection = select(disk("vda"), disk("vdb"), exclude=("vdb", "vdx"))
    assert [taken.target for taken in selection.taken] == ["vda"]
    assert selection.excluded == ("vdb",)


def test_a_volume_that_libvirt_can_name_a_path_of_is_a_plain_disk() -> None:
    volume = disk(attributes="type='volume' device='disk'", source="<source pool='p' volume='v'/>")
    parsed = _domain.resolve_volumes(_domain.parse(domain(volume)), {("p", "v"): "/dev/vg/v"})
    taken = _domain.select(parsed, ()).taken
    assert [(found.type, found.source) for found in taken] == [("block", "/dev/vg/v")]


def test_the_files_below_a_disk_are_known() -> None:
    below = (
        "<backingStore type='file'><source file='/b'/><backingStore type='file'><source file='/c'/><backingStore/>"
        "</backingStore></backingStore>"
    )
    assert _domain.parse(domain(disk(inside="<driver type='qcow2'/>" + below))).disks[0].chain == ("/b", "/c")


@pytest.mark.parametrize(
    ("system", "path"),
    [
        ("<type>hvm</type>", ""),
        ("<loader type='rom'>/bios</loader>", ""),
        ("<loader type='pflash' stateless='yes'>/code</loader>", ""),
        ("<loader type='pflash'>/code</loader><nvram template='/t'>/n/erp.fd</nvram>", "/n/erp.fd"),
        ("<nvram type='file'><source file='/n/erp.qcow2'/></nvram>", "/n/erp.qcow2"),
        ("<loader type='pflash'>/code</loader>", "/var/lib/libvirt/qemu/nvram/erp_VARS.fd"),
    ],
)
def test_the_firmwares_variables_are_found(system: str, path: str) -> None:
    assert _domain.parse(domain(system=system)).nvram == path


def test_firmware_that_libvirt_chooses_has_its_variables_where_libvirt_puts_them() -> None:
    xml = domain().replace("<os>", "<os firmware='efi'>")
    assert _domain.parse(xml).nvram == "/var/lib/libvirt/qemu/nvram/erp_VARS.fd"


def test_an_agent_that_is_not_connected_is_no_agent_to_freeze_by() -> None:
    connected = _domain.parse(domain())
    absent = _domain.parse(domain().replace("state='connected'", "state='disconnected'"))
    assert (connected.agent, connected.agent_connected) == (True, True)
    assert (absent.agent, absent.agent_connected) == (True, False)
    assert not _domain.parse(domain(agent=False)).agent


def test_what_is_not_xml_is_one_sentence() -> None:
    with pytest.raises(ResilientVmError, match="not XML"):
        _domain.parse("error: no domain")
