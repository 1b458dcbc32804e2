# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills: an image proves itself by booting where it can reach nothing, a broken one doesn't, and nothing is left."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from integration.world import STORE, Played, World

VM, TWIN = "stage", "stage-drill"
UNIT = f"resilient-vm-drill-acme.{VM}"
HERE = f"{STORE}/{VM}"
# The playbook waits there for as long as the test needs the twin.
_TASKS = """
- name: Look at the marker
  edgecloud.resilient_vm.vm_drill_command:
    name: "{{ drill_name }}"
    argv: [grep, -x, "day [12]", /disk/vda/marker]
  delegate_to: "{{ drill_host }}"

- name: Look in
  ansible.builtin.file:
    path: /run/drill.waits
    state: touch
  delegate_to: "{{ drill_host }}"

- name: Wait
  ansible.builtin.wait_for:
    path: /run/drill.goes
    timeout: 120
  delegate_to: "{{ drill_host }}"
"""
_REACH = "for host in 10.77.0.11 10.77.0.12 10.77.0.13; do ping -c 1 -W 5 $host > /dev/null && echo $host; done; true"
_LEFT = f"""
virsh list --all --name | grep -x {TWIN}
ls -d {HERE}/drill {HERE}/.drill.restoring 2>/dev/null
find {HERE}/restores -type f 2>/dev/null
ls -A /var/lib/libvirt/swtpm 2>/dev/null
systemctl list-units --all --plain --no-legend '{UNIT}*'
true
"""


def image_of(day: int) -> str:
    return f"202601{day:02}T020000Z"


@dataclass
class Stage:
    """A VM with two days, and its drills."""

    world: World
    inventory: Path
    tasks: Path

    def daily(self, day: int) -> None:
        now = f"2026-01-{day:02}T02:00:00Z"
        self.world.play("daily", "--limit", VM, inventory=[self.inventory], now=now)

    def drill(self, *options: str, expect: int = 0, **variables: Any) -> Played:
        variables.setdefault("now", "2026-01-03T12:00:00Z")
        return self.world.play("drill", "--limit", VM, *options, inventory=[self.inventory], expect=expect, **variables)

    @contextlib.contextmanager
    def waiting(self, **variables: Any) -> Iterator[subprocess.Popen[str]]:
        """A drill whose twin is up."""
        self.world.on("b", "rm -f /run/drill.*")
        options = {"now": "2026-01-03T12:00:00Z", "drill_tasks": str(self.tasks), **variables}
        play = self.world.start_play("drill", "--limit", VM, inventory=[self.inventory], **options)
        try:
            waits = "test -e /run/drill.waits && echo yes"
            self.world.wait_until(lambda: self.world.on("b", waits, check=False) == "yes", 120, "the twin is tried")
            yield play
        finally:
            play.kill()
            play.wait()
            if play.stdout is not None:
                play.stdout.close()

    def goes_on(self, play: subprocess.Popen[str]) -> str:
        self.world.on("b", "touch /run/drill.goes")
        output: str = play.communicate(timeout=120)[0]
        return " ".join(output.split())

    def status(self, expect: int = 0) -> str:
        played = self.world.play(
            "status", "--limit", VM, inventory=[self.inventory], expect=expect, now="2026-01-03T12:00:00Z"
        )
        return " ".join(played.output.split())

    def kept(self, day: int) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.world.on("c", f"cat {HERE}/drills/{image_of(day)}.json"))
        return record

    def evidence(self, day: int) -> str:
        """What the console said; there is a picture of it, too."""
        folder = f"{HERE}/drills/{image_of(day)}"
        assert self.world.on("b", f"head -c 4 {folder}/screen.png | tail -c 3") == "PNG"
        return self.world.on("b", f"cat {folder}/serial.log")

    def at_rest(self) -> dict[str, str]:
        """What no drill may touch: generations, definitions, what runs."""
        b = f"cd {HERE}; find generations current -printf '%p %s %m %U %T@\\n'; cat state.json; virsh list --all"
        c = f"cd {HERE}; find images state.json -printf '%p %s %m %U %T@\\n'"
        return {"b": self.world.on("b", b), "c": self.world.on("c", c)}


@pytest.fixture(scope="module")
def stage(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("inventory")
    extra = world.inventory_file(folder / "stage.json", {VM: {"resilient_vm_max_age_hours": 99}})
    tasks = folder / "tasks.yml"
    tasks.write_text(_TASKS)
    if f"{VM} " not in world.lab("guest", "list"):
        world.lab("guest", "create", "a", VM, "--kind", "raw", "--rate", "0", "--start")
    world.protect(extra, VM)
    stage = Stage(world, extra, tasks)
    for day in (1, 2):
        world.in_guest(VM, f"echo day {day} > /disk/vda/marker; sync")
        stage.daily(day)
    yield stage
    world.play("unprotect", "--limit", VM, inventory=[extra], erase_images=True)
    for host in "bc":
        assert world.on(host, f"ls -d {HERE} 2>/dev/null || true") == ""
    world.lab("guest", "remove", VM, "--on", "a")


def test_the_newest_image_is_proven_where_it_can_reach_nothing(stage: Stage) -> None:
    world, before, roots = stage.world, stage.at_rest(), stage.world.check_image(VM, image_of(2), "b")
    said = " ".join(stage.drill("--check").output.split())
    assert f"image {image_of(2)} would be booted as {TWIN} on b" in said
    assert stage.at_rest() == before
    assert "no image proven by a drill yet" in stage.status()
    with stage.waiting() as play:
        assert world.in_guest(TWIN, "cat /disk/vda/marker", on="b") == "day 2"
        assert len(world.in_guest(VM, _REACH).split()) == 3, "the machine itself reaches all three"
        assert world.in_guest(TWIN, _REACH, on="b") == ""
        assert world.in_guest(TWIN, "cat /sys/class/net/eth0/carrier", on="b") == "0"
        world.in_guest(TWIN, "echo drilled > /disk/vda/marker; sync", on="b")
        assert world.on("b", f"virsh domuuid {TWIN}") != world.on("b", f"virsh domuuid {VM}")
        assert f"image {image_of(2)} of {VM}" not in stage.goes_on(play)
    assert play.returncode == 0
    assert stage.at_rest() == before
    assert world.check_image(VM, image_of(2), "b") == roots
    assert world.on("b", _LEFT) == ""
    assert f"lab: guest {VM} is up" in stage.evidence(2)
    record = stage.kept(2)
    assert record["passed"] and record["seconds_to_ready"] > 0
    assert [check["check"] for check in record["checks"]] == ["guest agent", "tasks of tasks.yml"]
    assert f"image {image_of(2)} proven by a drill at 2026-01-03T12:00:00Z" in stage.status()


@pytest.mark.soak
@pytest.mark.parametrize("expire_seconds", [3600, 60])
def test_the_next_drill_takes_another_day_and_a_kill_leaves_nothing(stage: Stage, expire_seconds: int) -> None:
    """Whatever ends the unit that holds the twin, it is cleared away: here a kill, or its time that is over."""
    world = stage.world
    if image_of(2) not in world.on("c", f"ls {HERE}/drills 2>/dev/null || true"):
        stage.drill()
    world.on("c", f"rm -f {HERE}/drills/{image_of(1)}.json")
    with stage.waiting(drill_expire_seconds=expire_seconds) as play:
        assert world.in_guest(TWIN, "cat /disk/vda/marker", on="b") == "day 1"
        play.kill()
        play.communicate()
        world.on("b", f"kill -KILL $(cat /run/libvirt/qemu/{TWIN}.pid)")
        if expire_seconds == 3600:
            world.on("b", f"systemctl kill -s KILL {UNIT}")
        world.wait_until(lambda: world.on("b", _LEFT) == "", 120, "what the drill left is gone")
    assert world.on("c", f"ls {HERE}/drills") == f"{image_of(2)}.json"
    with stage.waiting() as play:
        # As a takeover does.
        world.on("b", f"systemctl stop {UNIT}")
        assert world.on("b", _LEFT) == ""
        assert f"the drill of acme/{VM} was ended before it was over" in stage.goes_on(play)
    assert play.returncode != 0
    stage.drill(drill_ready_text=f"guest {VM} is up")
    assert [check["check"] for check in stage.kept(1)["checks"]] == [f"'guest {VM} is up' on the serial console"]
    assert "2 of 2 images proven" in stage.status()


@pytest.mark.soak
def test_a_vm_whose_disk_was_destroyed_fails_its_drill_and_shows_it(stage: Stage) -> None:
    world = stage.world
    world.in_guest(VM, "dd if=/dev/zero of=/dev/vda bs=1M count=200 conv=notrunc,fsync 2>/dev/null")
    stage.daily(3)
    said = " ".join(stage.drill(expect=1, drill_wait_seconds=15).output.split())
    assert f"the drill of image {image_of(3)} of {VM} failed: not ready within 15 s (guest agent)" in said
    assert world.on("b", _LEFT) == ""
    assert "is up" not in stage.evidence(3)
    assert not stage.kept(3)["passed"]
    assert f"the drill of image {image_of(3)} of {VM} failed at" in stage.status(expect=1)
    stage.drill(restore_point=image_of(2))
    assert stage.kept(2)["passed"]
    assert "ALARM" in stage.status(expect=1), "an older image proves nothing about the newest one that was tried"


def test_what_cannot_be_tried_gets_one_sentence_and_touches_nothing(stage: Stage) -> None:
    world, before = stage.world, stage.at_rest()
    said = " ".join(stage.drill(expect=1, restore_point="2026-02-01").output.split())
    assert "2026-02-01 is in the future" in said
    state = world.on("b", f"cat {HERE}/state.json")
    try:
        world.on("b", f'sed -i \'s/"phase": "protected"/"phase": "maintenance"/\' {HERE}/state.json')
        said = " ".join(stage.drill(expect=1).output.split())
        assert (
            f"acme/{VM} is maintenance with a as its active host; a drill is only for a VM for which b stands by"
            in said
        )
    finally:
        world.lab("exec", "b", "sh", "-c", f"cat > {HERE}/state.json", stdin=state + "\n")
    after = stage.at_rest()
    assert after == before and world.on("b", _LEFT) == ""
