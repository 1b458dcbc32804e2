# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An open snapshot under every fault its host can have: the guest runs on, and no bad image passes for a good one."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from integration.world import ROOT, STORE, World

VM = "erp"
RUN = f"/run/resilient-vm/acme/{VM}"
SCRATCH = f"{STORE}/{VM}/scratch"
FROZEN = '{"execute": "guest-fsfreeze-status"}'
# Found before the real one by the units' PATH; acts once, while the guest is frozen.
FAULTY_VIRSH = """#!/bin/bash
if [ -e /run/fault ] && [[ " $* " == *" backup-begin "* ]]; then
  fault=$(cat /run/fault); rm /run/fault
  case $fault in
    begin) kill -9 $PPID ;;
    late) /usr/bin/virsh "$@"; kill -9 $PPID ;;
    libvirtd) kill -9 $(systemctl show --property=MainPID --value libvirtd) ;;
    both) kill -9 $(systemctl show --property=MainPID --value libvirtd) $PPID ;;
  esac
  sleep 1
fi
exec /usr/bin/virsh "$@"
"""


@dataclass
class Owner:
    """Opens and closes snapshots of the VM as the playbooks do."""

    world: World

    def call(
        self, module: str = "vm_snapshot", check: bool = False, host: str = "a", **arguments: Any
    ) -> dict[str, Any]:
        given = {"customer": "acme", "vm": VM, "domain": VM, **arguments}
        words = [str(Path(sys.executable).with_name("ansible")), host, "-i", "tests/lab/inventory/", "--become"]
        words += ["-m", f"edgecloud.resilient_vm.{module}", "-a", json.dumps(given), *(["--check"] if check else [])]
        done = subprocess.run(
            words,
            cwd=ROOT,
            env={**self.world.environment, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        result: dict[str, Any] = json.loads(done.stdout[done.stdout.index("=> {") + 3 :])
        assert (done.returncode == 0) != bool(result.get("msg")), done.stdout
        return result

    def open(self, vm: str = VM, **wish: Any) -> dict[str, Any]:
        return self.call(vm=vm, domain=vm, epoch=1, **{"scratch_floor_bytes": 1 << 20, **wish})

    def close(self, vm: str = VM, keep: str = "") -> dict[str, Any]:
        return self.call(vm=vm, domain=vm, state="absent", keep_checkpoint=keep)

    def verdict(self) -> dict[str, Any]:
        text = self.world.on("a", f"cat {RUN}/watch.json", check=False)
        return dict(json.loads(text)) if text else {}

    def over(self, reason: str, seconds: float = 20) -> None:
        """The watch ends the snapshot for this reason and leaves nothing but its word."""
        self.world.wait_until(lambda: self.verdict().get("valid") is False, seconds, f"snapshot over: {reason}")
        assert reason in self.verdict()["reason"]
        self.world.wait_until(lambda: self.world.on("a", f"ls {SCRATCH}") == "", 10, "scratch empty")
        assert self.world.on("a", f"ls {RUN}/qemu {RUN}/snapshot.json 2>/dev/null || true") == ""

    def state(self) -> str:
        return self.world.on("a", f"virsh domstate {VM}")

    def content(self, snapshot: dict[str, Any], target: str) -> str:
        """Digest of what the open snapshot shows of a disk, read by the account that will copy it."""
        disk = next(disk for disk in snapshot["disks"] if disk["target"] == target)
        address = f"nbd+unix:///{disk['export']}?socket={disk['socket']}"
        return self.world.on("a", f"su -s /bin/sh rvm-acme -c \"nbdcopy '{address}' -\" | sha256sum")

    def bitmaps(self, snapshot: dict[str, Any]) -> dict[str, bool]:
        return {disk["target"]: disk["bitmap"] is not None for disk in snapshot["disks"]}


def base(snapshot: dict[str, Any]) -> dict[str, Any]:
    """What the backup storage would say of the image of a snapshot."""
    disks = {
        disk["target"]: {"size_bytes": disk["size_bytes"], "checkpoint": disk["checkpoint"]}
        for disk in snapshot["disks"]
    }
    return {"image_id": snapshot["id"], "checkpoint": snapshot["checkpoint"], "disks": disks}


@pytest.fixture
def owner(world: World) -> Iterator[Owner]:
    owner = Owner(world)
    if owner.state() != "running":
        world.lab("guest", "start", VM)
    world.lab("guest", "wait", VM)
    owner.close()
    yield owner
    owner.close()
    world.nothing_open(VM)


def test_a_snapshot_shows_one_instant_however_much_the_guest_writes(owner: Owner) -> None:
    snapshot = owner.open()["snapshot"]
    assert snapshot["consistency"] == "filesystem"
    assert [disk["target"] for disk in snapshot["disks"]] == ["vda", "vdb"]
    for target in ("vda", "vdb"):
        first = owner.content(snapshot, target)
        owner.world.in_guest(VM, f"dd if=/dev/urandom of=/disk/{target}/after bs=1M count=4 conv=fsync 2>/dev/null")
        assert owner.content(snapshot, target) == first


@pytest.mark.soak
def test_what_the_next_image_must_read_is_told_by_bitmaps_of_the_one_before(owner: Owner) -> None:
    first = owner.open()["snapshot"]
    owner.close(keep=first["checkpoint"])
    opened = owner.open(base=base(first), newest_id=first["id"])
    assert owner.bitmaps(opened["snapshot"]) == {"vda": True, "vdb": True}
    assert 0 < opened["estimate_bytes"] < 128 << 20
    assert owner.close(keep=first["checkpoint"])["removed_checkpoints"] == [opened["snapshot"]["checkpoint"]]


def test_check_mode_opens_nothing_and_a_second_close_changes_nothing(owner: Owner) -> None:
    assert owner.call(check=True, epoch=1, scratch_floor_bytes=1 << 20)["changed"] is True
    owner.world.nothing_open(VM)
    assert owner.close()["changed"] is False


@pytest.mark.soak
def test_a_good_snapshot_is_adopted_and_any_other_replaced(owner: Owner) -> None:
    first = owner.open()["snapshot"]
    again = owner.open(adopt_id=first["id"])
    assert (again["changed"], again["adopted"], again["snapshot"]) == (False, True, first)
    other = owner.open(adopt_id="20200101T000000Z")
    assert (other["changed"], other["adopted"]) == (True, False)


@pytest.mark.parametrize(
    "fault", ["both", *(pytest.param(fault, marks=pytest.mark.soak) for fault in ("begin", "late", "libvirtd"))]
)
def test_a_guest_thaws_whatever_is_killed_while_it_is_frozen(owner: Owner, fault: str) -> None:
    world = owner.world
    world.lab("exec", "a", "sh", "-c", "cat > /usr/local/bin/virsh; chmod 755 /usr/local/bin/virsh", stdin=FAULTY_VIRSH)
    world.on("a", f"echo {fault} > /run/fault")
    try:
        opened = owner.open()
    finally:
        world.on("a", "rm -f /usr/local/bin/virsh /run/fault")
    assert (opened.get("msg") is None) == (fault == "libvirtd")
    assert "thawed" in world.on("a", f"virsh qemu-agent-command {VM} '{FROZEN}'")
    world.in_guest(VM, "touch /disk/vda/alive && sync")
    owner.close()
    world.nothing_open(VM)
    assert owner.open()["snapshot"]["consistency"] == "filesystem"


@pytest.mark.soak
def test_libvirtd_dying_harms_neither_the_snapshot_nor_its_watch(owner: Owner) -> None:
    snapshot = owner.open()["snapshot"]
    first = owner.content(snapshot, "vda")
    owner.world.on("a", f"kill -9 $(systemctl show --property=MainPID --value libvirtd resilient-vm-watch-acme.{VM})")
    before = owner.verdict()["checked"]
    owner.world.wait_until(lambda: owner.verdict()["checked"] > before + 2, 30, "the watch vouching again")
    assert owner.verdict()["valid"] is True
    assert owner.content(snapshot, "vda") == first


@pytest.mark.soak
def test_a_killed_qemu_ends_the_snapshot_and_its_bitmaps_are_not_believed(owner: Owner) -> None:
    first = owner.open()["snapshot"]
    owner.close(keep=first["checkpoint"])
    owner.open(base=base(first), newest_id=first["id"])
    owner.world.lab("guest", "kill", VM)
    owner.over("stopped or was started anew")
    off = owner.open(base=base(first), newest_id=first["id"])["snapshot"]
    assert (off["consistency"], off["checkpoint"]) == ("offline", None)
    assert all("was not saved" in disk["reason"] for disk in off["disks"])
    owner.close()
    owner.world.lab("guest", "start", VM)
    owner.world.lab("guest", "wait", VM)
    on = owner.open(base=base(first), newest_id=off["id"])["snapshot"]
    assert owner.bitmaps(on) == {"vda": False, "vdb": False}
    assert all(disk["reason"] and disk["checkpoint"] == on["checkpoint"] for disk in on["disks"])
    owner.close()
    assert owner.world.on("a", f"virsh checkpoint-list {VM} --name") == ""


@pytest.mark.soak
def test_of_a_stopped_machine_its_saved_bitmaps_are_read_and_its_owners_start_wins(owner: Owner) -> None:
    first = owner.open()["snapshot"]
    owner.close(keep=first["checkpoint"])
    owner.world.lab("guest", "stop", VM)
    off = owner.open(base=base(first), newest_id=first["id"])["snapshot"]
    assert (off["consistency"], off["checkpoint"]) == ("offline", first["checkpoint"])
    assert {disk["bitmap"] for disk in off["disks"]} == {first["checkpoint"]}
    source = owner.world.on("a", f"virsh domblklist {VM} | awk '$1 == \"vda\" {{print $2}}'")
    owner.world.on("a", f"qemu-img convert -U -f qcow2 -O raw {source} /var/lib/resilient-vm/raw")
    assert owner.content(off, "vda") == owner.world.on("a", "sha256sum < /var/lib/resilient-vm/raw")
    owner.world.on("a", "rm /var/lib/resilient-vm/raw")
    assert owner.verdict()["valid"] is True
    owner.world.on("a", f"virsh start {VM}")
    owner.over("its start wins")
    owner.world.lab("guest", "wait", VM)
    after = owner.open(base=base(off), newest_id=off["id"])["snapshot"]
    assert owner.bitmaps(after) == {"vda": True, "vdb": True}


@pytest.mark.soak
def test_a_stopped_machines_disk_that_somebody_writes_is_not_read(owner: Owner) -> None:
    owner.world.lab("guest", "stop", VM)
    source = owner.world.on("a", f"virsh domblklist {VM} | awk '$1 == \"vda\" {{print $2}}'")
    owner.open()
    owner.world.on("a", f"qemu-io -f qcow2 -c 'write -P 7 1M 64k' {source}")
    owner.over("was written while it was read")
    writer = "qemu-nbd --persistent --fork --socket=/run/writer.sock --pid-file=/run/writer.pid"
    owner.world.on("a", f"{writer} -f qcow2 {source}")
    try:
        assert "is being written although its domain is shut off" in owner.open()["msg"]
    finally:
        owner.world.on(
            "a", "writer=$(cat /run/writer.pid); kill $writer; while [ -d /proc/$writer ]; do sleep 0.1; done"
        )


@pytest.mark.soak
def test_a_snapshot_nobody_reads_ends_by_itself_and_a_heartbeat_keeps_it(owner: Owner) -> None:
    owner.open(expire_seconds=4)
    owner.world.on(
        "a", f"for beat in 1 2 3 4 5; do su -s /bin/sh rvm-acme -c 'touch {RUN}/reader/heartbeat'; sleep 1.5; done"
    )
    assert owner.verdict()["valid"] is True
    owner.over("nobody read the snapshot for 4 seconds")


@pytest.mark.soak
@pytest.mark.parametrize(("floor", "reason"), [(12 << 20, "less than the floor"), (0, "because a write failed")])
def test_when_scratch_space_runs_out_the_backup_ends_and_the_guest_runs_on(
    owner: Owner, floor: int, reason: str
) -> None:
    owner.world.in_guest(VM, "dd if=/dev/urandom of=/disk/vdb/big bs=1M count=30 conv=fsync 2>/dev/null")
    owner.world.on("a", f"mount -t tmpfs -o size=20M,mode=0711 scratch {SCRATCH}")
    try:
        owner.open(scratch_floor_bytes=floor)
        # Not waited for, and not at once: the agent of a machine that is halted for a moment does not answer.
        writing = "sleep 5; dd if=/dev/urandom of=/disk/vdb/big bs=1M count=30 conv=notrunc,fsync"
        owner.world.in_guest(VM, f"({writing}) >/dev/null 2>&1 &")
        owner.over(reason)
        owner.world.wait_until(lambda: owner.state() == "running", 10, "the guest running on")
        owner.world.in_guest(VM, "touch /disk/vdb/alive && sync && rm /disk/vdb/big")
    finally:
        owner.close()
        owner.world.on("a", f"umount {SCRATCH}")


@pytest.mark.soak
def test_somebody_elses_job_is_left_alone(owner: Owner) -> None:
    job = "<domainbackup mode='pull'><server transport='unix' socket='/run/theirs/nbd.sock'/></domainbackup>"
    owner.world.lab("exec", "a", "sh", "-c", "cat > /run/theirs.xml", stdin=job)
    owner.world.on("a", f"install -d -m 0777 /run/theirs && virsh backup-begin {VM} /run/theirs.xml")
    try:
        assert "somebody else's backup job is active" in owner.open()["msg"]
        assert owner.close()["changed"] is False
        assert "/run/theirs/" in owner.world.on("a", f"virsh backup-dumpxml {VM}")
    finally:
        owner.world.on("a", f"virsh domjobabort {VM}")


@pytest.fixture
def firmware(owner: Owner) -> Iterator[Owner]:
    """A machine with UEFI firmware and variables, known to site."""
    world = owner.world
    world.lab("guest", "create", "a", "fw", "--kind", "uefi", "--start")
    world.on("a", f"install -d -g rvm-acme -m 0711 {STORE}/fw && install -d -m 0711 {STORE}/fw/scratch")
    yield owner
    owner.close("fw")
    world.lab("guest", "remove", "fw", "--on", "a")
    world.on("a", f"rm -r {STORE}/fw")


@pytest.mark.soak
def test_the_firmwares_variables_go_with_the_machine_running_and_stopped(firmware: Owner) -> None:
    world = firmware.world
    nvram = world.nvram("a", "fw")
    for stop in (False, True):
        if stop:
            world.lab("guest", "stop", "fw")
        snapshot = firmware.open("fw")["snapshot"]
        assert {"name": "nvram.fd"} in snapshot["definition"]
        kept = world.on("a", "cat /run/resilient-vm/acme/fw/definition/nvram.fd | sha256sum")
        assert kept == world.on("a", f"sha256sum < {nvram}")
        assert kept.split()[0] != hashlib.sha256(b"").hexdigest()
        firmware.close("fw")
