# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs whose copies take long enough that something can happen in their middle."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from integration.world import STORE, Played, World

__all__ = ["RECEIVERS", "VM", "Vault"]

VM = "vault"
# hop → the machine that receives
RECEIVERS = {"fetch": "c", "refresh": "b"}
# A day's 24 MiB take five seconds at it.
_RATE = "40mbit"
# The guest writes there, into blocks its (unmounted) file system does not use, and its disk stays one that boots.
_FIRST_MIB = 136
# Waits on the backup storage itself until some of an image has moved.
_WAITING = """
import json, pathlib, sys, time
for _attempt in range(1200):
    try:
        told = json.loads(pathlib.Path(sys.argv[1]).read_text())
    except FileNotFoundError:
        told = {}
    moved = max(told.get("bytes_received", 0), told.get("bytes_sent", 0))
    if told.get("image_id") == sys.argv[2] and moved > 4 << 20:
        sys.exit()
    time.sleep(0.1)
sys.exit("after two minutes less than 4 MiB of the image have moved")
"""
_FIRST_DAY = datetime.fromisoformat("2026-01-01T02:00:00Z")


@dataclass
class Vault:
    """The VM, which writes only what it is told to, and its calendar."""

    world: World
    extra: Path
    day: int = 0
    vm: str = VM

    def __post_init__(self) -> None:
        # Machines that were kept have images of earlier tests.
        for image_id in self.world.images(self.vm)[-1:]:
            self.day = (datetime.fromisoformat(image_id) - _FIRST_DAY).days

    # one day

    @property
    def _instant(self) -> datetime:
        return _FIRST_DAY + timedelta(days=self.day)

    @property
    def image_id(self) -> str:
        """Of today's image."""
        return self._instant.strftime("%Y%m%dT%H%M%SZ")

    def next_day(self, mebibytes: int = 24) -> None:
        """Another day, on which the guest has written so much."""
        self.day += 1
        self.write(mebibytes, at=(self.day * 24) % 88)

    def write(self, mebibytes: int, at: int) -> None:
        where = f"seek={_FIRST_MIB + at} count={mebibytes}"
        self.world.in_guest(self.vm, f"dd if=/dev/urandom of=/dev/vda bs=1M {where} conv=notrunc,fsync 2>/dev/null")

    @property
    def now(self) -> str:
        """Today's time as machines are told it."""
        return self._instant.strftime("%Y-%m-%dT%H:%M:%SZ")

    def start_cycle(self) -> subprocess.Popen[str]:
        return self.world.start_play("daily", "--limit", self.vm, inventory=[self.extra], now=self.now)

    def cycle(self) -> None:
        """Today's cycle, which must succeed."""
        played = self.ended(self.start_cycle())
        assert played.code == 0, played.output

    def ended(self, play: subprocess.Popen[str]) -> Played:
        """How a cycle ended; whatever happened, it does end, and in words of the product."""
        try:
            output = play.communicate(timeout=300)[0]
        finally:
            play.kill()
        assert "Traceback" not in output, output
        return Played(play.returncode, output)

    @contextlib.contextmanager
    def copying(self, hop: str, rate: str = _RATE) -> Iterator[subprocess.Popen[str]]:
        """Today's cycle, some MiB into a hop, with as much still to come; the line is slow until the block ends."""
        receiver = RECEIVERS[hop]
        self.world.lab("shape", receiver, rate)
        play = self.start_cycle()
        try:
            progress = f"{STORE}/{self.vm}/transfer/{hop}.progress.json"
            self.world.lab("exec", "c", "python3", "-", progress, self.image_id, stdin=_WAITING, timeout=180)
            yield play
        except BaseException:
            play.kill()
            raise
        finally:
            self.world.lab("shape", receiver, "off")

    # the guest

    def start_guests(self) -> None:
        """Start every guest of the active host that is off, and wait until this one is up."""
        self.world.on("a", "for vm in $(virsh list --inactive --name); do virsh -q start $vm; done")
        self.world.lab("guest", "wait", self.vm, "--on", "a")

    # what must hold

    def before(self) -> tuple[list[str], str]:
        """What no fault may touch: the newest images (an older one may be erased by right), and the generation."""
        return self.world.images(self.vm)[-2:], self.world.current(self.vm)

    def intact(self, before: tuple[list[str], str]) -> None:
        """What was there before a fault is as it was; the standby has a whole generation that boots, and its VM off."""
        images, generation = before
        for image_id in images:
            self.world.check_image(self.vm, image_id)
        current = self.world.current(self.vm)
        assert current in (generation, self.image_id)
        self.world.check_image(self.vm, current, "b")
        assert self.world.on("b", f"virsh domstate {self.vm}") == "shut off"
        self.world.lab("guest", "boot-raw", "b", f"{STORE}/{self.vm}/generations/{current}/vda.raw")

    def converges(self) -> None:
        """The next run succeeds and leaves everything settled."""
        self.cycle()
        self.settled()

    def settled(self) -> None:
        """Today's image is the disk of the (quiet) VM, the standby has it, and nothing is left over."""
        assert self.world.images(self.vm)[-1] == self.image_id
        self.world.check_newest(self.vm, {"vda": "qcow2"})

    def told(self) -> tuple[str, str, str]:
        """How today's image was made: consistency, how its changed blocks were found, and why not better."""
        manifest = self.world.manifest(self.vm, self.image_id)
        disk = manifest["disks"][0]
        return manifest["consistency"], disk["found_by"], disk["reason"]
