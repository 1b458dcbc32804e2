# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about whether a host could start a machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.libvirt_fakes import World, domain, refused, said
from unit.standby_fakes import CAPABILITIES

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _abilities, _fit
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._fit import Abilities, Needs, findings
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout

GIB = 1 << 30
NEEDS = Needs(
    virt_type="kvm",
    arch="x86_64",
    machine="pc-q35-7.2",
    vcpus=4,
    memory_bytes=2 * GIB,
    huge_pages=False,
    cpu="",
    networks=(("network", "default"), ("bridge", "br0")),
    files=(),
)
HOST = Abilities(
    guests=_fit.guests_of(CAPABILITIES),
    networks=frozenset(["default"]),
    devices=frozenset(["lo", "br0"]),
    memory_bytes=4 * GIB,
    huge_pages_bytes=GIB,
)


@pytest.mark.parametrize(
    ("needs", "host", "why"),
    [
        ({}, {}, ""),
        ({"memory_bytes": 4 * GIB}, {}, ""),
        ({"machine": "q35"}, {}, ""),
        ({"virt_type": "qemu"}, {}, ""),
        ({"networks": ()}, {"networks": frozenset()}, ""),
        ({"huge_pages": True, "memory_bytes": GIB}, {"memory_bytes": 0}, ""),
        ({"arch": "aarch64"}, {}, "QEMU can't run aarch64 machines here"),
        ({"virt_type": "xen"}, {}, "there is no xen for x86_64 machines here"),
        ({"machine": "pc-q35-9.2"}, {}, "QEMU here does not know machine type pc-q35-9.2"),
        ({"machine": "isapc"}, {}, "machine type isapc has at most 1 processors here, and the VM has 4"),
        ({}, {"cpu_refused": "missing features: avx512f"}, "asks for (missing features: avx512f); give the VM a <cpu>"),
        ({"memory_bytes": 4 * GIB + 1}, {}, "the VM takes 4.0 GiB of memory, and 4.0 GiB is free here"),
        ({"huge_pages": True}, {}, "the VM takes 2.0 GiB of memory, and 1.0 GiB in huge pages is free here"),
        ({}, {"networks": frozenset()}, "network default, to which the VM is attached, is not there, or not active"),
        ({}, {"devices": frozenset(["lo"])}, "bridge br0, to which the VM is attached, is not there; make it"),
        ({"networks": (("device", "eno1"),)}, {}, "device eno1, to which the VM is attached, is not there"),
        # A libvirt network is no bridge of the same name.
        ({"networks": (("bridge", "default"),)}, {}, "bridge default, to which the VM is attached, is not there"),
        ({}, {"missing": ("/usr/share/OVMF/OVMF_CODE_4M.fd",)}, "OVMF_CODE_4M.fd, which the VM needs to start, is not"),
        ({}, {"missing": ("swtpm",)}, "is not there; install the package swtpm"),
    ],
)
def test_each_thing_it_needs(needs: dict[str, object], host: dict[str, object], why: str) -> None:
    told = findings(replace(NEEDS, **needs), replace(HOST, **host))  # type: ignore[arg-type]
    assert len(told) == bool(why), told
    assert why in "".join(told) and "\n" not in "".join(told)


def test_everything_that_lacks_is_told_at_once() -> None:
    nothing = replace(HOST, networks=frozenset(), devices=frozenset(), memory_bytes=0, cpu_refused="x", missing=("/f",))
    assert len(findings(replace(NEEDS, machine="new", virt_type="xen"), nothing)) == 7


@given(st.integers(0, 8 * GIB), st.integers(0, 8 * GIB), st.booleans())
def test_more_memory_is_never_worse(free: int, more: int, huge: bool) -> None:
    needs = replace(NEEDS, huge_pages=huge)
    less, rich = (
        findings(needs, replace(HOST, memory_bytes=size, huge_pages_bytes=size)) for size in (free, free + more)
    )
    assert len(rich) <= len(less)
    assert bool(less) == (free < needs.memory_bytes)


@given(
    sizes=st.lists(st.integers(1, 64 << 30), max_size=5),
    huge=st.lists(st.integers(1, 64 << 30), max_size=5),
    free=st.integers(0, 128 << 30),
)
def test_several_are_crowded_when_they_need_more_together_than_is_free(
    sizes: list[int], huge: list[int], free: int
) -> None:
    needs = [replace(NEEDS, memory_bytes=size, huge_pages=False) for size in sizes]
    needs += [replace(NEEDS, memory_bytes=size, huge_pages=True) for size in huge]
    told = _fit.crowded(needs, replace(HOST, memory_bytes=free, huge_pages_bytes=free))
    assert bool(told) == any(len(each) > 1 and sum(each) > free for each in (sizes, huge))


def test_it_says_how_much_and_that_one_alone_is_no_crowd() -> None:
    host, each = replace(HOST, memory_bytes=6 << 30), replace(NEEDS, memory_bytes=4 << 30, huge_pages=False)
    told = _fit.crowded([each, each], host)
    assert told.startswith(
        "the 2 VMs that stand by here take 8.0 GiB of memory together, and 6.0 GiB is free: they could"
    )
    assert _fit.crowded([replace(each, memory_bytes=8 << 30)], host) == ""


SYSTEM = "<type arch='x86_64' machine='pc-q35-7.2'>hvm</type>"
XML = domain(
    "<interface type='network'><source network='default' bridge='virbr0'/></interface>",
    "<interface type='network'><source network='default'/></interface>",
    "<interface type='bridge'><source bridge='br0'/></interface>",
    "<interface type='direct'><source dev='eno1' mode='bridge'/></interface>",
    "<interface type='user'/>",
    "<tpm model='tpm-crb'><backend type='emulator'/></tpm>",
    system=SYSTEM + "<loader type='pflash'>/fw/CODE.fd</loader>",
).replace("</os>", "</os><vcpu current='2'>4</vcpu><memory unit='GiB'>2</memory>{}")


def test_what_a_definition_needs_is_read_out_of_it() -> None:
    needs = _fit.needs_of(XML)
    assert (needs.virt_type, needs.arch, needs.machine) == ("kvm", "x86_64", "pc-q35-7.2")
    assert (needs.vcpus, needs.memory_bytes, needs.huge_pages, needs.cpu) == (4, 2 * GIB, False, "")
    assert needs.networks == (("network", "default"), ("bridge", "br0"), ("device", "eno1"))
    assert needs.files == ("/fw/CODE.fd", "swtpm")


@pytest.mark.parametrize(
    ("memory", "size"),
    [
        ("<memory>2097152</memory>", 2 * GIB),
        ("<memory unit='KiB'>2097152</memory>", 2 * GIB),
        ("<memory unit='b'>4096</memory>", 4096),
        ("<memory unit='MB'>1</memory>", 10**6),
        ("", 0),
    ],
)
def test_memory_is_counted_in_its_unit(memory: str, size: int) -> None:
    assert _fit.needs_of(domain().replace("<os>", memory + "<os>")).memory_bytes == size


@pytest.mark.parametrize(
    ("cpu", "compared"),
    [
        ("<cpu mode='custom' match='exact'><model>Skylake-Server</model></cpu>", True),
        ("<cpu><model>qemu64</model></cpu>", True),
        ("<cpu mode='custom' check='none'><model>qemu64</model></cpu>", False),
        ("<cpu mode='host-passthrough' check='none'/>", False),
        ("<cpu mode='host-model'/>", False),
        ("<cpu><topology sockets='1' cores='4' threads='1'/></cpu>", False),
    ],
)
def test_only_a_processor_that_is_named_is_compared(tmp_path: Path, cpu: str, compared: bool) -> None:
    world = World({"virsh hypervisor-cpu-compare": refused("error: the CPU is incompatible: missing features: avx")})
    (tmp_path / "net").mkdir()
    (tmp_path / "meminfo").write_text("MemAvailable: 4194304 kB\nHugePages_Free: 3\nHugepagesize: 2048 kB\n")
    world.answers["virsh dumpxml"] = said(XML.replace("{}", cpu))
    world.answers["virsh capabilities"] = said(CAPABILITIES)
    world.answers["virsh net-list --name"] = said("default\n")
    host = _abilities.Host(world, str(tmp_path / "meminfo"), str(tmp_path / "net"))
    layout = Layout("acme", "erp", root=str(tmp_path / "root"))
    told = host.unfit(layout, "uuid")
    assert any("missing features: avx" in text for text in told) == compared
    asked = [call for call in world.calls if call.startswith("virsh hypervisor-cpu-compare")]
    assert [call.split("--")[1] for call in asked] == ["virttype kvm "] * compared
    assert ["bridge br0, to" in text for text in told].count(True) == 1
    assert host.crowded() == ""
    # What is the same for all of a host's machines is asked for once.
    host.unfit(layout, "other")
    host.unfit(layout, "third")
    assert host.crowded().startswith(
        "the 3 VMs that stand by here take 6.0 GiB of memory together, and 4.0 GiB is free"
    )
    assert world.asked("virsh capabilities", "virsh net-list") == ["virsh capabilities", "virsh net-list"]
