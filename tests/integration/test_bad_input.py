# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wrong input gets one clear sentence that names the thing and the remedy, and nothing is touched.

A VM that has one thing wrong is made for each case, so that one run tells of many.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from integration.world import STORE, Played, World

MIB = 1 << 20
# The running one; what is wrong with each of the others is in WRONG_VMS. They are stopped, which makes them quick.
DESK = "desk"
# Protected, and no image of it yet.
FRESH = "fresh"

# Of each VM one setting is wrong; the words that its one sentence must have.
WRONG_SETTINGS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "zero": ({"retention_days": 0}, ("resilient_vm_retention_days of zero is 0", "1 or more")),
    "minus": ({"retention_days": -3}, ("resilient_vm_retention_days of minus is -3", "1 or more")),
    "words": ({"retention_days": "two weeks"}, ("resilient_vm_retention_days of words is 'two weeks'", "whole number")),
    "zone": ({"timezone": "Europe/Atlantis"}, ("of zone is 'Europe/Atlantis', which is not", "use a name like UTC")),
    "nobody": ({"customer": None}, ("resilient_vm_customer is not set for nobody", "set it in the inventory")),
    "shouted": ({"customer": "Acme Inc."}, ("resilient_vm_customer of shouted is 'Acme Inc.'", "a-z")),
    "circle": ({"backup_storage_host": "a"}, ("backup storage of circle are both a", "correct the groups")),
    "alias": ({"backup_storage_host": "d"}, ("a and d, both have the address 10.77.0.11", "correct ansible_host")),
    "unsaid": ({"backup_storage_host": None}, ("several machines (c, a, d)", "set resilient_vm_backup_storage_host")),
    "lost": ({"standby_host": "nowhere"}, ("names nowhere", "not in group standby", "add it there")),
}

# What the machines must be asked for; the words that the one sentence of each VM must have.
WRONG_VMS = {
    "torn": ("manifest.json", "is damaged"),
    "newer": ("has schema 99 and this version reads up to 1", "run the site playbook of the collection version"),
    "stray": ("belongs to acme/other",),
    "twin": ("twin is running on b", "its standby host", "shut it down there"),
    "alien": ("domain alien on b has the UUID", "another machine than alien", "rename that one"),
    "gone": ("a has no libvirt domain gone", "correct resilient_vm_domain or resilient_vm_production_host"),
    DESK: ("a backup job that isn't ours is running on domain desk on a", "virsh domjobabort"),
}
MANIFESTS = {
    "torn": "head -c 100 {0} > {0}.torn; mv {0}.torn {0}",
    "newer": 'sed -i \'s/"schema": 1/"schema": 99/\' {0}',
    "stray": 'sed -i \'s/"vm": "stray"/"vm": "other"/\' {0}',
}

# All there is of ours and of libvirt's on a machine, but for locks, which name their last holder, and for what hosts
# touch every minute when they ask whether they still are the active ones.
_TREE = r"""
for path in /var/lib/resilient-vm /run/resilient-vm /etc/resilient-vm /etc/libvirt/qemu /etc/ssh /usr/local; do
  find $path ! -name lock ! -name asked -printf '%p %s %m %U %T@\n'
done
systemctl list-units --all --plain --no-legend 'resilient-vm-*acme*'
command -v virsh > /dev/null || exit 0
virsh list --all
for vm in $(virsh list --name); do
  virsh checkpoint-list $vm --name; virsh domjobinfo $vm | grep --invert-match elapsed
done
"""


@dataclass
class Desk:
    """The VMs of these tests."""

    world: World
    inventory: Path
    folder: Path

    def daily(
        self, *vms: str, expect: int | None = 1, machines: Mapping[str, Mapping[str, Any]] | None = None, **more: Any
    ) -> Played:
        """An image of each of these VMs is wanted, whatever there is."""
        inventory = [self.inventory]
        if machines:
            inventory.append(self.world.inventory_file(self.folder / "machines.json", machines=machines))
        return self.world.play(
            "daily", "--limit", ",".join(vms), inventory=inventory, expect=expect, force=True, **more
        )

    def tree(self) -> dict[str, str]:
        return {host: "\n".join(sorted(self.world.on(host, _TREE).splitlines())) for host in ("a", "b", "c")}

    def write(self, mib: int) -> None:
        self.world.in_guest(DESK, f"dd if=/dev/urandom of=/dev/vda bs=1M count={mib} conv=fsync 2>/dev/null")

    def free_bytes(self, host: str) -> int:
        return int(self.world.on(host, "df --output=avail -B1 /var/lib/resilient-vm | tail -n 1"))


@pytest.fixture(scope="module")
def desk(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("inventory")
    vms = {name: {} for name in (*WRONG_VMS, FRESH)}
    desk = Desk(world, world.inventory_file(folder / "vms.json", vms), folder)
    world.lab("guest", "create", "a", DESK, "--kind", "blank", "--start")
    for name in vms:
        if name != DESK:
            world.lab("guest", "create", "a", name, "--kind", "tiny")
    world.on("a", f"qemu-io -c 'write -P 7 0 32M' /var/lib/libvirt/images/{FRESH}-vda.qcow2")
    desk.write(4)
    world.play("site", inventory=[desk.inventory])
    desk.daily(*WRONG_VMS, expect=0)
    yield desk
    for name in vms:
        world.lab("guest", "remove", name, "--on", "a")


def refused(played: Played, vm: str, words: tuple[str, ...]) -> None:
    """There is one sentence about the VM, and it has these words."""
    sentences = played.refusals(vm)
    assert len(sentences) == 1
    for word in words:
        assert word in sentences[0]


@pytest.fixture
def inventory(world: World) -> dict[str, Any]:
    """The lab's inventory, to be spoilt."""
    document: dict[str, Any] = json.loads(world.lab_inventory())["all"]
    return document


def play_spoilt(world: World, inventory: Mapping[str, Any], path: Path) -> Played:
    (path / "hosts.json").write_text(json.dumps({"all": inventory}))
    return world.play_with(path / "hosts.json", "daily", expect=1)


def test_wrong_settings(world: World, inventory: dict[str, Any], tmp_path: Path) -> None:
    del inventory["vars"]["resilient_vm_customer"]
    machines = inventory["children"]["production"]["hosts"]
    storages = inventory["children"]["backup_storage"]["hosts"]
    storages.update({"a": {}, "d": dict(machines["a"])})
    right = {"customer": "acme", "backup_storage_host": "c"}
    inventory["children"]["protected_vms"]["hosts"] = {
        vm: {f"resilient_vm_{name}": value for name, value in {**right, **wrong}.items() if value is not None}
        for vm, (wrong, _words) in WRONG_SETTINGS.items()
    }
    played = play_spoilt(world, inventory, tmp_path)
    for vm, (_wrong, words) in WRONG_SETTINGS.items():
        refused(played, vm, words)
    assert played.changed == 0


def test_machines_that_the_inventory_has_lost(world: World, inventory: dict[str, Any], tmp_path: Path) -> None:
    groups = ("production", "standby", "backup_storage")
    for group in groups:
        inventory["children"][group]["hosts"] = {}
    played = play_spoilt(world, inventory, tmp_path)
    for vm in ("erp", "web"):
        for group, sentence in zip(groups, played.refusals(vm), strict=True):
            assert f"group {group} of this inventory has no machine, and {vm} needs one; add it there" in sentence


def test_a_limit_that_names_no_vm_or_leaves_out_its_machines(world: World) -> None:
    assert "nosuchvm" in world.play("daily", "--limit", "nosuchvm", expect=1).output
    said = " ".join(world.play("daily", "--limit", "a", expect=1).output.split())
    assert "no protected VM is named" in said
    assert "name it with --limit" in said
    said = " ".join(world.play("site", "--limit", "erp", expect=1).output.split())
    assert "--limit erp leaves out machines of erp; run site without --limit" in said


def test_a_vm_that_is_in_the_inventory_and_nowhere_else(desk: Desk) -> None:
    ghost = desk.world.inventory_file(desk.folder / "ghost.json", {"ghost": {}})
    before = desk.tree()
    played = desk.world.play("daily", "--limit", "ghost", inventory=[ghost], expect=1)
    unknown, absent = played.refusals("ghost")
    assert unknown == "ghost has no state document on a, b, c; run the site playbook"
    assert "a has no libvirt domain ghost" in absent
    assert desk.tree() == before


@pytest.fixture
def spoilt(desk: Desk) -> Iterator[Desk]:
    """Each of the VMs has what is wrong with it."""
    on = desk.world.on
    for vm, change in MANIFESTS.items():
        path = f"{STORE}/{vm}/images/{desk.world.images(vm)[-1]}/manifest.json"
        on("c", f"cp -p {path} /root/{vm}.json; echo {path} > /root/{vm}.path; {change.format(path)}")
    # Somebody started a copy of the VM on B by hand, past everything that keeps it from starting.
    running = f"{STORE}/twin/running"
    disk = on("b", "virsh domblklist twin | awk '$1 == \"vda\" {print $2}'")
    on("b", f"install -d -m 0711 {running}; qemu-img create -q -f qcow2 {disk} 64M")
    hook = "/etc/libvirt/hooks/qemu.d/50-resilient-vm"
    on("b", f"chmod 644 {hook}; virsh start twin; chmod 755 {hook}")
    on("b", "virsh dumpxml alien > /root/kept.xml; virsh undefine alien")
    on("b", "sed -e '/<uuid>/d' -e '/<mac /d' /root/kept.xml > /root/other.xml; virsh define /root/other.xml")
    on("a", "virsh dumpxml gone > /root/gone.xml; virsh undefine gone --checkpoints-metadata")
    job = (
        "<domainbackup mode='pull'><server transport='unix' socket='/var/lib/libvirt/qemu/theirs.sock'/>"
        "<disks><disk name='vda' type='file'><scratch file='/var/lib/libvirt/images/theirs.scratch'/></disk></disks>"
        "</domainbackup>"
    )
    on("a", f'echo "{job}" > /root/theirs.xml; virsh backup-begin {DESK} /root/theirs.xml')
    yield desk
    on("a", f"virsh domjobabort {DESK}; virsh define /root/gone.xml")
    on("b", f"virsh destroy twin; rm -r {running}; virsh undefine alien; virsh define /root/kept.xml")
    for vm in MANIFESTS:
        on("c", f"cp -p /root/{vm}.json $(cat /root/{vm}.path)")


def test_what_the_machines_hold_is_wrong(spoilt: Desk) -> None:
    before = spoilt.tree()
    played = spoilt.daily(*WRONG_VMS)
    for vm, words in WRONG_VMS.items():
        refused(played, vm, words)
    assert played.changed == 0
    assert spoilt.tree() == before
    assert "theirs.sock" in spoilt.world.on("a", f"virsh backup-dumpxml {DESK}")


def test_somebody_elses_checkpoint_is_told_and_left_alone(desk: Desk) -> None:
    desk.world.on("a", f"virsh checkpoint-create-as {DESK} theirs")
    try:
        told = desk.daily(DESK, expect=0).recap[DESK]
        assert "checkpoints that aren't ours are left alone: theirs" in told
        assert "theirs" in desk.world.on("a", f"virsh checkpoint-list {DESK} --name").split()
    finally:
        desk.world.on("a", f"virsh checkpoint-delete {DESK} theirs")


def needed_mib(played: Played, vm: str, host: str) -> float:
    """How much the one sentence about the VM says an image needs on a machine that hasn't so much."""
    refused(played, vm, (f"no space on {host}: ", "add space, keep fewer days, or lower resilient_vm_reserve_bytes"))
    return float(played.refusals(vm)[0].split()[4])


def test_no_room_for_the_estimate(desk: Desk) -> None:
    """An image may be of 16 MiB: too little for what a new VM has allocated, and for 24 MiB that a bitmap counts."""
    room = {host: {host: {"resilient_vm_reserve_bytes": desk.free_bytes(host) - 16 * MIB}} for host in ("b", "c")}
    taken = desk.world.images(DESK)
    played = desk.daily(DESK, FRESH, machines=room["c"])
    # Little has changed on the desk.
    assert played.refusals(DESK) == []
    assert len(desk.world.images(DESK)) == len(taken) + 1
    # A disk's own tables and what the filesystem allots ahead are counted with its data.
    assert 32 <= needed_mib(played, FRESH, "c") < 40
    desk.write(24)
    before = desk.tree()
    assert needed_mib(desk.daily(DESK, machines=room["c"]), DESK, "c") == 24
    played = desk.daily(DESK, FRESH, machines=room["b"])
    assert needed_mib(played, DESK, "b") == 24
    assert 32 <= needed_mib(played, FRESH, "b") < 40
    assert desk.tree() == before


def test_clocks_that_disagree(desk: Desk) -> None:
    before = desk.tree()
    played = desk.daily(DESK, machines={"c": {"resilient_vm_now": "2031-01-01T00:00:00Z"}})
    refused(played, DESK, ("clocks disagree by more than 300 seconds", "c ", "days ahead", "set the clocks"))
    assert desk.tree() == before


def test_roots_without_reflink_are_refused_before_anything_is_laid(desk: Desk) -> None:
    root = "/mnt/plain/rvm"
    for host in ("a", "b", "c"):
        desk.world.on(host, "mkdir /mnt/plain && mount -t tmpfs tmpfs /mnt/plain")
    before = desk.tree()
    roots = {host: {"resilient_vm_root": root} for host in ("a", "b", "c")}
    inventory = [desk.inventory, desk.world.inventory_file(desk.folder / "roots.json", machines=roots)]
    played = desk.world.play("site", inventory=inventory, expect=1)
    for host in ("a", "b", "c"):
        reason = f"resilient_vm_root {root} on {host} lies on a filesystem where files can't share blocks"
        remedy = (
            "put it on XFS (made with reflink=1) or Btrfs, or allow full copies with resilient_vm_allow_full_copies"
        )
        assert f"{reason}; {remedy}" in played.output
        desk.world.on(host, f"test ! -e {root} && umount /mnt/plain && rmdir /mnt/plain")
    assert played.changed == 0
    assert desk.tree() == before


@pytest.mark.soak
def test_a_standby_that_does_not_answer_costs_no_image_and_is_named(desk: Desk) -> None:
    """Long, because ssh waits for a machine that has become silent."""
    before = desk.world.images(DESK)
    desk.world.lab("cut", "b")
    try:
        played = desk.daily(DESK)
    finally:
        desk.world.lab("heal", "b")
    refused(played, DESK, ("machine b can't be reached", "bring it back, or correct its address"))
    assert len(desk.world.images(DESK)) == len(before) + 1
    desk.world.play("daily", "--limit", DESK, inventory=[desk.inventory])
    assert desk.world.current(DESK) == desk.world.images(DESK)[-1]
