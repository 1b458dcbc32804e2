# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A standby host for tests: two generations of one VM, and a libvirt that remembers what was defined."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from unit import fakes_cycle
from unit.libvirt_fakes import UUID, Host, disk, domain, make_host, said

OLD, NEW, NEWEST = "20260112T020000Z", "20260113T020000Z", "20260114T020000Z"
CAPABILITIES = """<capabilities><guest><os_type>hvm</os_type><arch name='x86_64'><wordsize>64</wordsize>
<machine canonical='pc-q35-7.2' maxCpus='288'>q35</machine><machine maxCpus='288'>pc-q35-7.2</machine>
<machine maxCpus='1'>isapc</machine><domain type='qemu'/><domain type='kvm'/></arch></guest>
<guest><os_type>xen</os_type><arch name='i686'/></guest></capabilities>"""
STATE = {**fakes_cycle.STATE, "changed": "2026-01-14T02:00:00Z", "why": "site"}


def make_standby(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Host b, where the site playbook has been; nothing is current yet."""
    made = make_host(tmp_path, monkeypatch)
    Path(made.layout.state).write_text(json.dumps(STATE))
    (tmp_path / "version.json").write_text(json.dumps({"host": "b"}))
    made.world.answers.update(
        {
            "virsh list --all --uuid --name": said(""),
            "virsh list --all --autostart --uuid": said(""),
            "virsh define": lambda _words: defined(made),
            "virsh undefine": lambda _words: defined(made, there=False),
            "virsh autostart": said(),
            "virsh domstate": said("shut off (unknown)"),
            "virsh capabilities": said(CAPABILITIES),
            "virsh net-list --name": said("default\n\n"),
        }
    )
    for image_id in (OLD, NEW):
        generation(made, image_id)
    return made


def defined(host: Host, there: bool = True, name: str = "erp", uuid: str = UUID) -> Any:
    host.world.answers["virsh list --all --uuid --name"] = said(f"{uuid} {name}\n" if there else "")
    system = "<type arch='x86_64' machine='pc-q35-7.2'>hvm</type>"
    host.world.answers["virsh dumpxml"] = said(domain(disk(), "<input type='added-by-libvirt'/>", system=system))
    return said()


def generation(host: Host, image_id: str, xml: str = domain(disk()), **changed: Any) -> Path:
    folder = Path(host.layout.generations, image_id)
    folder.mkdir()
    (folder / "domain.xml").write_text(xml)
    (folder / "vda.raw").write_bytes(b"0" * 512)
    (folder / "vda.digests").write_bytes(b"")
    manifest = {
        "schema": 1,
        "id": image_id,
        "instant": "2026-01-14T02:00:00Z",
        "customer": "acme",
        "vm": "erp",
        "domain": "erp",
        "uuid": UUID,
        "epoch": 1,
        "consistency": "filesystem",
        "source_host": "a",
        "disks": [{"target": "vda", "size_bytes": 512, "root_digest": "0" * 64, "found_by": "bitmap"}],
        "definition": [
            {"name": "domain.xml", "size_bytes": len(xml), "sha256": hashlib.sha256(xml.encode()).hexdigest()}
        ],
        **changed,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
