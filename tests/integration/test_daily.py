# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The daily cycle of VMs that write while they are copied."""

from __future__ import annotations

import re

import pytest
from integration.world import ROOT, STORE, World

VMS = ("erp", "web")


def newest(world: World, vm: str) -> str:
    return world.images(vm)[-1]


def counters(world: World, vm: str, image_id: str) -> list[int]:
    folder = f"{STORE}/{vm}/images/{image_id}"
    disks = world.on("c", f"ls {folder}/*.raw").split()
    return [int(line) for line in world.lab("guest", "counters", "--on", "c", *disks).split()]


def fsck(world: World, path: str) -> None:
    """e2fsck on a throwaway clone: the journal is replayed, then nothing may be wrong."""
    clone = f"{path}.clone"
    world.on(
        "c",
        f"cp --reflink=always {path} {clone}; e2fsck -p {clone}; e2fsck -fn {clone}; code=$?; rm {clone}; exit $code",
    )


@pytest.fixture(scope="module")
def first_day(world: World) -> World:
    """The machines after their first cycle, during which both guests wrote."""
    played = world.play("daily")
    for vm in VMS:
        assert re.search(rf"\b{vm}\b", played.output)
    return world


def test_images_hold_what_their_digests_say_on_storage_and_standby(first_day: World) -> None:
    for vm in VMS:
        image_id = newest(first_day, vm)
        assert first_day.generations(vm) == [image_id]
        assert first_day.current(vm) == image_id
        assert first_day.check_image(vm, image_id) == first_day.check_image(vm, image_id, "b")
        first_day.nothing_open(vm)


def test_two_disks_are_from_one_instant(first_day: World) -> None:
    first, second = counters(first_day, "erp", newest(first_day, "erp"))
    assert first > 0
    assert first - second in (0, 1)


def test_file_systems_are_clean(first_day: World) -> None:
    for vm, disks in (("erp", ("vda", "vdb")), ("web", ("vda",))):
        image_id = newest(first_day, vm)
        assert first_day.manifest(vm, image_id)["consistency"] == "filesystem"
        for disk in disks:
            fsck(first_day, f"{STORE}/{vm}/images/{image_id}/{disk}.raw")


def test_standby_is_defined_but_cannot_start_by_accident(first_day: World) -> None:
    for vm in VMS:
        assert first_day.on("b", f"virsh domuuid {vm}") == first_day.on("a", f"virsh domuuid {vm}")
        assert first_day.on("b", f"virsh domstate {vm}") == "shut off"
        assert "disable" in first_day.on("b", f"virsh dominfo {vm} | grep Autostart")
        mac = "virsh domiflist {} | awk 'NF == 5 && $5 ~ /:/ {{print $5}}'".format
        assert first_day.on("b", mac(vm)) == first_day.on("a", mac(vm))
        assert first_day.on("b", f"virsh start {vm} 2>&1; virsh domstate {vm}").endswith("shut off")


def test_a_host_asks_each_machine_once_about_all_its_vms(first_day: World) -> None:
    """Every minute, so that a hundred VMs may not cost a hundred connections."""
    on, timer = first_day.on, "resilient-vm-superseded.timer"
    on("a", f"systemctl stop {timer}; while systemctl is-active --quiet resilient-vm-superseded; do sleep 0.1; done")
    try:
        since = on("a", "sleep 1.1; date +%s; systemctl start resilient-vm-superseded.service")
    finally:
        on("a", f"systemctl start {timer}")
    for host in ("c", "b"):
        entered = on(host, f"journalctl --since @{since} --output cat | grep '^Accepted publickey for rvm-acme from '")
        assert len(entered.splitlines()) == 1, entered
        for vm in VMS:
            assert int(on(host, f"stat -c %Y {STORE}/{vm}/asked")) >= int(since)


def test_second_run_of_the_day_changes_nothing(first_day: World) -> None:
    before = {vm: first_day.images(vm) for vm in VMS}
    assert first_day.play("daily").changed == 0
    assert {vm: first_day.images(vm) for vm in VMS} == before


def tree(world: World, host: str) -> str:
    """Everything of ours and of libvirt's definitions on a machine, by name, time and content of small files."""
    return world.on(
        host,
        # But for when the active host last asked whether it still is, as it does every minute.
        "find /var/lib/resilient-vm /etc/libvirt/qemu /etc/resilient-vm /usr/local/lib/resilient-vm"
        " -printf '%p %y %s %m %U %T@\\n' 2>/dev/null | grep -v -e /lock -e /asked | sort;"
        " virsh list --all 2>/dev/null;"
        " for vm in erp web; do virsh checkpoint-list $vm 2>/dev/null; done; true",
    )


def test_check_mode_changes_nothing_anywhere(first_day: World) -> None:
    before = {host: tree(first_day, host) for host in ("a", "b", "c")}
    played = first_day.play("daily", "--check", "--diff", force=True)
    assert played.changed > 0
    assert {host: tree(first_day, host) for host in ("a", "b", "c")} == before


def test_image_is_what_the_open_snapshot_showed(first_day: World) -> None:
    """The snapshot is read a second time by nbdcopy while it is open, and its digest computed by another program."""
    opened = first_day.play_module(
        "a", "vm_snapshot", {"state": "present", "customer": "acme", "vm": "erp", "domain": "erp", "epoch": 1}
    )["snapshot"]
    assert isinstance(opened, dict)
    roots = {}
    checker = (ROOT / "tests/integration/check_image.py").read_text()
    for disk in opened["disks"]:
        target, size = disk["target"], disk["size_bytes"]
        copy = f"/var/lib/resilient-vm/second-reading/{target}"
        first_day.on(
            "a", f"mkdir -p {copy}; nbdcopy 'nbd+unix:///{target}?socket={disk['socket']}' {copy}/{target}.raw"
        )
        roots[target] = first_day.lab(
            "exec", "a", "python3", "-", copy, f"{target}.raw", str(size), stdin=checker
        ).strip()
    first_day.on("a", "rm -r /var/lib/resilient-vm/second-reading")
    peer = {"name": "a", "address": "10.77.0.11"}
    fetched = first_day.play_module(
        "c", "image_transfer", {"hop": "fetch", "customer": "acme", "vm": "erp", "image_id": opened["id"], "peer": peer}
    )
    first_day.play_module(
        "a",
        "vm_snapshot",
        {"state": "absent", "customer": "acme", "vm": "erp", "domain": "erp", "keep_checkpoint": opened["checkpoint"]},
    )
    assert {disk["target"]: disk["root_digest"] for disk in fetched["disks"]} == roots  # type: ignore[attr-defined]
    assert first_day.check_image("erp", str(opened["id"])) == roots
    first_day.play("daily")
    assert first_day.check_image("erp", str(opened["id"]), "b") == roots


def test_status_tells_age_and_where(first_day: World) -> None:
    printed = first_day.play("status").output
    for vm in VMS:
        assert newest(first_day, vm)[:8] in printed.replace("-", "")
    shown = first_day.play("status", status_json=True).output
    for vm in VMS:
        assert newest(first_day, vm) in shown


def test_status_fails_when_an_image_is_too_old(first_day: World) -> None:
    later = first_day.on("c", "date -u -d '+3 days' +%Y-%m-%dT%H:%M:%SZ")
    assert "erp" in first_day.play("status", expect=1, now=later).output
