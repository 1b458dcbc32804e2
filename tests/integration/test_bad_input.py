# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wrong input gets one clear sentence that names the thing and the remedy, and nothing is touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from integration.world import STORE, World

# Seen green case by case; not in the short run before the whole has been seen so on an idle machine.
pytestmark = pytest.mark.soak

VM = "desk"


@dataclass
class Desk:
    world: World
    extra: Path
    scratch: Path

    def play(self, *options: str, name: str = "daily", vm: dict[str, Any] | None = None, **more: Any) -> str:
        """Run a playbook that must fail; its output."""
        machines = more.pop("machines", None)
        changed = self.world.inventory_file(self.scratch / "wrong.json", {VM: vm or {}}, machines)
        limit = () if "--limit" in options else ("--limit", VM)
        played = self.world.play(name, *limit, *options, inventory=[self.extra, changed], expect=1, force=True, **more)
        return " ".join(played.output.split())

    def untouched(self) -> list[str]:
        return self.world.images(VM) + self.world.generations(VM)


@pytest.fixture(scope="module")
def desk(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("inventory")
    extra = world.inventory_file(folder / "desk.json", {VM: {}})
    world.lab("guest", "create", "a", VM, "--kind", "blank", "--size", "64", "--start")
    world.in_guest(VM, "dd if=/dev/urandom of=/dev/vda bs=1M count=4 conv=fsync 2>/dev/null")
    world.play("site", inventory=[extra])
    world.play("daily", "--limit", VM, inventory=[extra])
    yield Desk(world, extra, folder)
    world.lab("guest", "remove", VM, "--on", "a")


@pytest.fixture(autouse=True)
def nothing_touched(desk: Desk) -> Iterator[None]:
    before = desk.untouched()
    yield
    assert desk.untouched() == before
    desk.world.nothing_open(VM)


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("retention_days", 0, "retention_days"),
        ("retention_days", -3, "retention_days"),
        ("retention_days", "two weeks", "two weeks"),
        ("timezone", "Europe/Atlantis", "Europe/Atlantis"),
        ("customer", "Acme Inc.", "Acme Inc."),
        ("domain", "nosuch", "nosuch"),
        ("backup_storage_host", "a", "differ"),
        ("standby_host", "nowhere", "nowhere"),
        ("exclude_disks", ["vda"], "exclude_disks"),
    ],
)
def test_a_wrong_setting(desk: Desk, setting: str, value: object, sentence: str) -> None:
    assert sentence in desk.play(vm={f"resilient_vm_{setting}": value})


def test_an_unknown_vm(desk: Desk) -> None:
    """A VM that is in the inventory and nowhere else."""
    ghost = desk.world.inventory_file(desk.scratch / "ghost.json", {"ghost": {}})
    played = desk.world.play("daily", "--limit", "ghost", inventory=[ghost], expect=1)
    assert "ghost" in played.output


def test_a_limit_that_names_no_vm(desk: Desk) -> None:
    assert "nosuchvm" in desk.play("--limit", "nosuchvm")
    assert "protected_vms" in desk.play("--limit", "a")


def test_a_missing_customer(desk: Desk, tmp_path: Path) -> None:
    inventory = json.loads(desk.world.lab_inventory())
    del inventory["all"]["vars"]["resilient_vm_customer"]
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    played = desk.world.play_with(tmp_path / "hosts.json", "daily", expect=1)
    assert "resilient_vm_customer" in played.output


@pytest.mark.parametrize("group", ["production", "standby", "backup_storage"])
def test_a_missing_machine(desk: Desk, tmp_path: Path, group: str) -> None:
    inventory = json.loads(desk.world.lab_inventory())
    inventory["all"]["children"][group]["hosts"] = {}
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    played = desk.world.play_with(tmp_path / "hosts.json", "daily", expect=1)
    assert group in played.output


def test_storage_without_space_for_the_estimate(desk: Desk) -> None:
    output = desk.play(machines={"c": {"resilient_vm_reserve_bytes": 1 << 50}})
    assert "no space on c" in output
    output = desk.play(machines={"b": {"resilient_vm_reserve_bytes": 1 << 50}})
    assert "no space on b" in output


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("head -c 100 {0} > {0}.new && mv {0}.new {0}", "is damaged"),
        ('sed -i \'s/"schema": 1/"schema": 99/\' {0}', "schema 99"),
        ('sed -i \'s/"vm": "desk"/"vm": "other"/\' {0}', "belongs to acme/other"),
    ],
)
def test_a_manifest_that_cannot_be_used(desk: Desk, change: str, sentence: str) -> None:
    path = f"{STORE}/{VM}/images/{desk.world.images(VM)[-1]}/manifest.json"
    desk.world.on("c", f"cp -p {path} /root/manifest.kept; " + change.format(path))
    try:
        assert sentence in desk.play()
    finally:
        desk.world.on("c", f"cp -p /root/manifest.kept {path}")


def test_the_standby_vm_running(desk: Desk) -> None:
    """Somebody started a copy of the VM on B by hand, past everything that keeps it from starting."""
    folder = f"{STORE}/{VM}/running"
    on_b = desk.world.on
    disk = on_b("b", f"virsh domblklist {VM} | awk '$1 == \"vda\" {{print $2}}'")
    on_b("b", f"install -d -m 0711 {folder} && qemu-img create -q -f qcow2 {disk} 64M && virsh start {VM}")
    try:
        assert "running" in desk.play()
    finally:
        on_b("b", f"virsh destroy {VM}; rm -r {folder}")


def test_another_machine_of_that_name_on_the_standby(desk: Desk) -> None:
    on_b = desk.world.on
    on_b("b", f"virsh dumpxml {VM} > /root/kept.xml; virsh undefine {VM} --keep-nvram")
    on_b("b", "sed -e '/<uuid>/d' -e '/<mac /d' /root/kept.xml > /root/other.xml; virsh define /root/other.xml")
    try:
        assert "UUID" in desk.play()
    finally:
        on_b("b", f"virsh undefine {VM} --keep-nvram; virsh define /root/kept.xml")


def test_somebody_elses_backup_job(desk: Desk) -> None:
    on_a = desk.world.on
    xml = (
        "<domainbackup mode='pull'><server transport='unix' socket='/var/lib/libvirt/qemu/theirs.sock'/>"
        "<disks><disk name='vda' type='file'><scratch file='/var/lib/libvirt/images/theirs.scratch'/></disk></disks>"
        "</domainbackup>"
    )
    on_a("a", f'echo "{xml}" > /root/theirs.xml && virsh backup-begin {VM} /root/theirs.xml')
    try:
        assert "backup job" in desk.play()
        assert "theirs.sock" in on_a("a", f"virsh backup-dumpxml {VM}")
    finally:
        on_a("a", f"virsh domjobabort {VM}")


def test_clocks_that_disagree(desk: Desk) -> None:
    assert "clock" in desk.play(machines={"c": {"resilient_vm_now": "2031-01-01T00:00:00Z"}})


def test_a_machine_that_does_not_answer(desk: Desk) -> None:
    desk.world.lab("cut", "b")
    try:
        assert "b can't be reached" in desk.play()
    finally:
        desk.world.lab("heal", "b")


def test_a_root_without_reflink(desk: Desk) -> None:
    """site refuses a root folder on a filesystem whose files can't share blocks."""
    desk.world.on("c", "mkdir -p /mnt/plain && mountpoint -q /mnt/plain || mount -t tmpfs tmpfs /mnt/plain")
    try:
        output = desk.play(name="site", machines={"c": {"resilient_vm_root": "/mnt/plain/rvm"}}, vm={})
        assert "reflink" in output
    finally:
        desk.world.on("c", "umount /mnt/plain")
