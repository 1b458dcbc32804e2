# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy keeps to its limits, packs what is worth it, and can be watched and cancelled while it runs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from integration.world import STORE, World

VM = "line"
MIB = 1 << 20
RATE = 2_000_000
FORMATS = {"vda": "qcow2"}
# Found before the distribution's; what Ubuntu 22.04 has.
LIBNBD_1_10 = """exec(open("/usr/lib/python3/dist-packages/nbd.py").read())
Buffer.size = lambda self: len(self._o)
del Buffer.to_buffer, Buffer.from_buffer, Buffer.__len__, NBD.set_pread_initialize
"""

# Reads two disks, one after the other; prints how many buffers that took.
TWO_DISKS = """import sys
sys.path.insert(0, "/usr/local/lib/resilient-vm")
import nbd
from resilient_vm_mover._snapshot_disk import SnapshotDisk
made = []
class Counted(nbd.Buffer):
    def __init__(self, length):
        made.append(length)
        super().__init__(length)
nbd.Buffer = Counted
for target in ("vda", "vdb"):
    disk = SnapshotDisk({"target": target, "size_bytes": 32 << 20, "export": "", "socket": "/run/two.sock"})
    asked = [disk.ask(16 * number, number + 1) for number in range(16)]
    for blocks, one in enumerate(asked, 1):
        assert len(disk.answer(one)) == blocks << 16
        disk.done(one)
    disk.close()
print(len(made))
"""


@dataclass
class Line:
    world: World
    extra: Path

    def write(self, source: str, mebibytes: int = 24) -> None:
        self.world.in_guest(
            VM,
            f"{source} | dd of=/dev/vda bs=1M count={mebibytes} iflag=fullblock conv=notrunc,fsync 2>/dev/null",
        )

    def start(self, **settings: Any) -> subprocess.Popen[str]:
        return self.world.start_play("daily", "--limit", VM, inventory=[self.extra], force=True, **settings)

    def cycle(self, **settings: Any) -> str:
        return self.world.play("daily", "--limit", VM, inventory=[self.extra], force=True, **settings).output

    def status(self) -> str:
        return " ".join(self.world.play("status", "--limit", VM, inventory=[self.extra], expect=None).output.split())

    def document(self, kind: str, hop: str = "fetch") -> dict[str, Any]:
        text = self.world.on("c", f"cat {STORE}/{VM}/transfer/{hop}.{kind}.json 2>/dev/null || echo '{{}}'")
        document: dict[str, Any] = json.loads(text)
        return document


@pytest.fixture(scope="module")
def line(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    extra = world.inventory_file(tmp_path_factory.mktemp("inventory") / "line.json", {VM: {}})
    world.lab("guest", "create", "a", VM, "--kind", "blank", "--size", "128", "--start")
    world.protect(extra, VM)
    made = Line(world, extra)
    made.cycle()
    yield made
    world.lab("guest", "remove", VM, "--on", "a")


def test_a_copy_keeps_to_its_rate_and_shows_how_far_it_is(line: Line) -> None:
    line.write("cat /dev/urandom")
    play = line.start(transfer_bytes_per_second=RATE)
    output = play.communicate(timeout=300)[0]
    assert play.returncode == 0, output
    for hop in ("fetch", "refresh"):
        result = line.document("result", hop)
        assert result["limits"]["rate"] == RATE
        # One connection is enough for what it may bring.
        assert result["streams"] == 1
        assert result["bytes_sent"] >= 24 * MIB
        # What may be sent at once, and what was sent before it was limited, is a small part of the whole.
        assert result["bytes_sent"] / result["seconds"] < 1.05 * RATE
    assert f"{VM}: image" in output
    assert "to the backup storage, disk vda" in output
    line.world.check_newest(VM, FORMATS)


def test_what_shrinks_is_packed_on_a_slow_line(line: Line) -> None:
    line.write("yes all work and no play makes a dull disk")
    line.world.lab("shape", "c", "40mbit")
    try:
        line.cycle()
    finally:
        line.world.lab("shape", "c", "off")
    result = line.document("result")
    assert result["compression"] == "zstd auto"
    assert result["disks"][0]["changed_bytes"] == 24 * MIB
    assert result["bytes_sent"] < 18 * MIB
    line.world.check_newest(VM, FORMATS)


def test_a_copy_is_right_where_a_hosts_libnbd_is_older(line: Line) -> None:
    line.write("cat /dev/urandom", 8)
    place = line.world.on("a", "python3 -c 'import site; print(site.getsitepackages()[0])'")
    line.world.lab("exec", "a", "sh", "-c", f"mkdir -p {place} && cat > {place}/nbd.py", stdin=LIBNBD_1_10)
    try:
        assert line.world.on("a", "python3 -c 'import nbd; print(hasattr(nbd.Buffer, \"to_buffer\"))'") == "False"
        line.cycle()
    finally:
        line.world.on("a", f"rm {place}/nbd.py")
    assert line.document("result")["disks"][0]["changed_bytes"] == 8 * MIB
    line.world.check_newest(VM, FORMATS)


def test_a_vm_of_many_disks_takes_no_more_memory_than_one_disk(line: Line) -> None:
    """libnbd keeps what it once read into."""
    serve = "qemu-nbd --persistent --fork --socket=/run/two.sock --pid-file=/run/two.pid -f raw /run/two.raw"
    line.world.on("a", f"truncate -s 32M /run/two.raw && {serve}")
    try:
        assert line.world.lab("exec", "a", "python3", "-", stdin=TWO_DISKS) == "16\n"
    finally:
        line.world.on("a", "kill $(cat /run/two.pid); rm /run/two.raw")


@pytest.mark.soak
def test_a_copy_over_several_connections_is_right(line: Line) -> None:
    line.write("cat /dev/urandom", 48)
    # Time for the connections to come up; on a lab's bare line the copy would be over before.
    line.world.lab("shape", "c", "100mbit")
    try:
        output = line.cycle(streams=3)
    finally:
        line.world.lab("shape", "c", "off")
    for hop in ("fetch", "refresh"):
        result = line.document("result", hop)
        assert result["disks"][0]["changed_bytes"] == 48 * MIB, hop
        assert (result["streams"], result["streams_reason"]) == (3, ""), hop
    assert "connections: 3" in output
    line.world.check_newest(VM, FORMATS)


@pytest.mark.soak
def test_outside_its_window_a_copy_waits_and_can_be_cancelled(line: Line) -> None:
    images = line.world.images(VM)
    now = datetime.now(UTC)
    window = f"{now + timedelta(hours=3):%H:%M}-{now + timedelta(hours=4):%H:%M}"
    line.write("cat /dev/urandom")
    play = line.start(transfer_window=window, max_transfers=1)
    line.world.wait_until(lambda: "window" in line.document("progress").get("waiting", ""), 60, "the copy waiting")
    image_id = line.document("progress")["image_id"]
    said = f"running now: image {image_id} to the backup storage: waiting for its window, which opens at"
    assert said in line.status()
    # Meanwhile another copy may have its turn.
    line.world.on("c", "flock -n /run/resilient-vm/shared/slot.0 true")
    line.world.on("c", f"systemctl stop resilient-vm-fetch-acme.{VM}.service")
    output = play.communicate(timeout=300)[0]
    assert play.returncode != 0
    assert "was killed on the backup storage" in " ".join(output.split())
    assert line.world.images(VM) == images
    line.cycle()
    line.world.check_newest(VM, FORMATS)


@pytest.mark.soak
def test_a_copy_too_many_waits_for_its_turn(line: Line) -> None:
    line.write("cat /dev/urandom", 4)
    # Another copy of this machine, as far as anybody can tell.
    holder = line.world.lab_process("exec", "c", "flock", "/run/resilient-vm/shared/slot.0", "cat")
    with holder:
        play = line.start(max_transfers=1)
        line.world.wait_until(lambda: "another" in line.document("progress").get("waiting", ""), 60, "the copy waiting")
        holder.communicate("")
    output = play.communicate(timeout=300)[0]
    assert play.returncode == 0, output
    line.world.check_newest(VM, FORMATS)


@pytest.mark.soak
def test_a_first_copy_begins_with_what_was_brought(line: Line, tmp_path: Path) -> None:
    """A disk sent by post, a few blocks older than the live one: only those travel."""
    world, seeded = line.world, "post"
    extra = world.inventory_file(tmp_path / "post.json", {seeded: {}})
    world.lab("guest", "create", "a", seeded, "--kind", "blank", "--size", "64", "--start")
    try:
        world.protect(extra, seeded)
        world.in_guest(seeded, "dd if=/dev/urandom of=/dev/vda bs=1M count=32 conv=notrunc,fsync 2>/dev/null")
        source = world.on("a", f"virsh domblklist {seeded} | awk '$1 == \"vda\" {{print $2}}'")
        world.on("a", f"qemu-img convert -U -f qcow2 -O raw {source} /root/post.raw")
        for host in ("b", "c"):
            carried = world.lab("ssh", "a", "cat /root/post.raw | gzip -1 | base64")
            world.lab("exec", host, "sh", "-c", "base64 -d | gzip -d > /mnt/post.raw", stdin=carried)
        world.in_guest(seeded, "dd if=/dev/urandom of=/dev/vda bs=64k seek=7 count=2 conv=notrunc,fsync 2>/dev/null")
        seed = {"seed": {"vda": "/mnt/post.raw"}}
        for part in ("backup_storage", "standby"):
            world.play("seed", "--limit", seeded, inventory=[extra], seed_part=part, **seed)
        again = world.play("seed", "--limit", seeded, inventory=[extra], **seed)
        assert "changed=0" in again.output
        world.play("daily", "--limit", seeded, inventory=[extra])
        for hop in ("fetch", "refresh"):
            result = json.loads(world.on("c", f"cat {STORE}/{seeded}/transfer/{hop}.result.json"))
            assert result["disks"][0]["changed_bytes"] == 2 * 65536, hop
            assert result["bytes_sent"] < 2 * MIB, hop
        world.check_newest(seeded, FORMATS)
    finally:
        world.lab("guest", "remove", seeded, "--on", "a")


@pytest.mark.soak
def test_an_image_takes_as_much_room_as_was_changed(line: Line) -> None:
    """In scattered blocks, which XFS by itself gives twice the room they need."""
    line.write("cat /dev/urandom", 96)
    line.cycle()
    # B keeps its last generation beside the new one only until that is complete, so that C alone tells.
    before, blocks = line.world.used("c"), 150
    place = f"for n in $(seq 1 {blocks}); do dd if=/dev/urandom of=/dev/vda bs=64k count=1 seek=$((n * 10))"
    line.world.in_guest(VM, f"{place} conv=notrunc 2>/dev/null; done; sync")
    line.cycle()
    changed = blocks * (64 << 10)
    assert changed <= line.world.used("c") - before <= 1.2 * changed
