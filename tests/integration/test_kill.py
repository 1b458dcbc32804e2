# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any process may die at any byte: images stay whole, the standby stays bootable, a rerun converges."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from integration.world import STORE, World

# Seen green case by case; not in the short run before the whole has been seen so on an idle machine.
pytestmark = pytest.mark.soak

VM = "vault"
MIB = 1 << 20
# Slow enough that there is time to hit a copy in its middle.
RATE = "40mbit"


@dataclass
class Vault:
    """A VM with enough to copy that a fault can come in between."""

    world: World
    extra: Path
    day: int = 0

    @property
    def now(self) -> str:
        return f"2026-{(self.day - 1) // 28 + 1:02d}-{(self.day - 1) % 28 + 1:02d}T02:00:00Z"

    def start(self) -> subprocess.Popen[str]:
        return self.world.start_play("daily", "--limit", VM, inventory=[self.extra], now=self.now)

    def cycle(self, expect: int = 0) -> str:
        return self.world.play("daily", "--limit", VM, inventory=[self.extra], now=self.now, expect=expect).output

    def write(self, mebibytes: int, at: int = 0) -> None:
        self.world.in_guest(
            VM, f"dd if=/dev/urandom of=/dev/vda bs=1M seek={at} count={mebibytes} conv=notrunc,fsync 2>/dev/null"
        )

    def next_day(self, mebibytes: int = 24) -> None:
        self.day += 1
        self.write(mebibytes, at=(self.day * 24) % 100)

    def arriving(self, host: str) -> Callable[[], bool]:
        """Whether some MiB of an image have arrived on a machine and more are on their way."""

        def seen() -> bool:
            script = f"cat /proc/$(pgrep -f 'resilient-vm (fetch|forced).*{VM}' | tail -1)/io 2>/dev/null | grep ^wchar"
            folder = self.world.on(host, f"ls {STORE}/{VM}/incoming", check=False)
            written = self.world.on(host, script, check=False)
            return bool(folder) and bool(written) and int(written.split()[1]) > 4 * MIB

        return seen

    def healthy(self, images: list[str], generation: str) -> None:
        """What was there before the fault is intact, and the standby has a whole generation."""
        for image_id in images:
            self.world.check_image(VM, image_id)
        assert set(images) <= set(self.world.images(VM))
        assert self.world.current(VM) in (generation, self.world.images(VM)[-1])
        self.world.check_image(VM, self.world.current(VM), "b")

    def converges(self) -> None:
        """The next run succeeds, its image is the disk of the (quiet) VM, and nothing is left over."""
        self.cycle()
        self.world.check_newest(VM, {"vda": "qcow2"})


@pytest.fixture(scope="module")
def vault(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    extra = world.inventory_file(tmp_path_factory.mktemp("inventory") / "vault.json", {VM: {}})
    world.lab("guest", "create", "a", VM, "--kind", "blank", "--size", "128", "--start")
    world.play("site", inventory=[extra])
    vault = Vault(world, extra)
    vault.next_day()
    vault.cycle()
    yield vault
    world.lab("guest", "remove", VM, "--on", "a")


def kill(host: str, pattern: str) -> Callable[[World], None]:
    return lambda world: world.on(host, f"pkill -9 -f '{pattern}'") and None


def crash(host: str) -> Callable[[World], None]:
    def fault(world: World) -> None:
        world.lab("crash", host)
        world.lab("up", host)
        if host == "a":
            world.lab("guest", "start", VM, "--on", "a")
            world.lab("guest", "wait", VM, "--on", "a")

    return fault


FETCH = {
    "the receiver dies": kill("c", f"resilient-vm fetch .*{VM}"),
    "the sender dies": kill("a", f"resilient-vm forced .*{VM}"),
    "libvirtd dies": kill("a", "/usr/sbin/libvirtd"),
    "the active host crashes": crash("a"),
    "the backup storage crashes": crash("c"),
}
REFRESH = {
    "the receiver dies": kill("b", f"resilient-vm forced .*{VM}"),
    "the sender dies": kill("c", f"resilient-vm refresh .*{VM}"),
    "the standby host crashes": crash("b"),
    "the backup storage crashes": crash("c"),
}
# The others take longer, since a machine that is gone says nothing; they run with the long campaigns.
SHORT = {"the receiver dies", "the sender dies", "libvirtd dies", "the standby host crashes"}


def cases(faults: dict[str, Callable[[World], None]]) -> list[object]:
    return [pytest.param(name, id=name, marks=[] if name in SHORT else [pytest.mark.soak]) for name in faults]


def survives(vault: Vault, receiver: str, fault: Callable[[World], None]) -> None:
    """Something breaks while an image is arriving at a machine."""
    world = vault.world
    images, generation = world.images(VM), world.current(VM)
    vault.next_day()
    world.lab("shape", receiver, RATE)
    play = vault.start()
    try:
        world.wait_until(vault.arriving(receiver), 60, f"an image arriving at {receiver}")
        fault(world)
    finally:
        world.lab("shape", receiver, "off")
    play.communicate(timeout=300)
    vault.healthy(images, generation)
    vault.converges()


@pytest.mark.parametrize("fault", cases(FETCH))
def test_fault_while_the_image_travels_to_the_storage(vault: Vault, fault: str) -> None:
    survives(vault, "c", FETCH[fault])


@pytest.mark.parametrize("fault", cases(REFRESH))
def test_fault_while_the_image_travels_to_the_standby(vault: Vault, fault: str) -> None:
    survives(vault, "b", REFRESH[fault])


def test_a_killed_playbook_does_not_stop_the_copy_and_the_next_run_attaches(vault: Vault) -> None:
    world = vault.world
    images, generation = world.images(VM), world.current(VM)
    vault.next_day()
    world.lab("shape", "c", RATE)
    play = vault.start()
    world.wait_until(vault.arriving("c"), 60, "an image arriving at c")
    os.kill(play.pid, signal.SIGKILL)
    play.communicate(timeout=60)
    world.lab("shape", "c", "off")
    world.wait_until(lambda: len(world.images(VM)) == len(images) + 1, 60, "the image published without a playbook")
    vault.healthy(images, generation)
    vault.converges()


def test_a_guest_frozen_by_a_killed_run_thaws_by_itself(world: World) -> None:
    """The unit that froze it dies by SIGKILL between freeze and thaw; what is frozen thaws within seconds."""
    hook = "/etc/systemd/system/resilient-vm-begin-acme.erp.service.d"
    frozen = 'virsh qemu-agent-command erp \'{"execute": "guest-fsfreeze-status"}\''
    process = world.start_play("daily", "--limit", "erp", force=True)
    try:
        world.wait_until(lambda: "frozen" in world.on("a", frozen, check=False), 60, "erp frozen")
        world.on("a", "systemctl kill -s KILL --kill-whom=main resilient-vm-begin-acme.erp.service || true")
        os.kill(process.pid, signal.SIGKILL)
        world.wait_until(lambda: "thawed" in world.on("a", frozen, check=False), 10, "erp thawed again")
    finally:
        process.communicate(timeout=60)
        world.on("a", f"rm -rf {hook}")
    world.play("daily", "--limit", "erp", force=True)
    world.nothing_open("erp")


def fill(world: World, host: str, leave_mib: int) -> None:
    world.on(
        host,
        "free=$(df -k --output=avail /var/lib/resilient-vm | tail -1);"
        f" fallocate -l $((free - {leave_mib * 1024}))K /var/lib/resilient-vm/filler",
    )


@pytest.mark.parametrize(("host", "rate"), [("c", "c"), ("b", "b")])
def test_a_disk_that_fills_up_in_the_middle(vault: Vault, host: str, rate: str) -> None:
    world = vault.world
    images, generation = world.images(VM), world.current(VM)
    vault.next_day(40)
    world.lab("shape", rate, RATE)
    play = vault.start()
    try:
        world.wait_until(vault.arriving(host), 60, f"an image arriving at {host}")
        fill(world, host, leave_mib=2)
        output = play.communicate(timeout=300)[0]
    finally:
        world.on(host, "rm -f /var/lib/resilient-vm/filler")
        world.lab("shape", rate, "off")
    assert play.returncode != 0
    assert "No space left" in output or "no space" in output
    vault.healthy(images, generation)
    vault.converges()


def test_scratch_space_that_runs_out_ends_the_backup_and_not_the_guest(vault: Vault) -> None:
    world = vault.world
    images, generation = world.images(VM), world.current(VM)
    vault.next_day()
    world.lab("shape", "c", RATE)
    play = vault.start()
    try:
        world.wait_until(vault.arriving("c"), 60, "an image arriving at c")
        fill(world, "a", leave_mib=600)
        output = play.communicate(timeout=300)[0]
        assert world.on("a", f"virsh domstate {VM}") == "running"
        vault.write(8, at=110)
    finally:
        world.on("a", "rm -f /var/lib/resilient-vm/filler")
        world.lab("shape", "c", "off")
    assert play.returncode != 0
    assert "scratch" in output
    vault.healthy(images, generation)
    vault.converges()
