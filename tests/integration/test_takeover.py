# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A is down: who may take its VMs over, what runs at B afterwards, and what A may do when it is back."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from integration.world import STORE, Played, World
from lab.rvmlab.domain import Guest

# Each case goes on where the one before ended.
STORY = True
# One whose guest agent tells what its disks hold, and a small one without an agent.
BOOKS, SPARE = "books", "spare"
BALLAST_MIB = 24
VMS = (BOOKS, SPARE)
BOOKS_ITSELF = Guest.of_kind(BOOKS, "two-disk")
NIGHT = "2026-01-14T02:00:00Z"
MORNING = "2026-01-14T11:30:00Z"
NEXT_NIGHT = "2026-01-15T02:00:00Z"
# Where the tests see what a step has done; what one of them waits for until it succeeds.
MOVED, MENDED = "/var/lib/resilient-vm/moved", "/var/lib/resilient-vm/mended"
CLOSED = "resilient-vm keeps the gate closed: "


@dataclass
class Office:
    """Two VMs of which there is an image of last night; one wrote all the time until its host died."""

    world: World
    inventory: Path
    # What its guest had counted to before that night's snapshot, and after it.
    counted: tuple[int, int] = (0, 0)

    def play(self, name: str, vm: str, *options: str, expect: int = 0, **variables: Any) -> Played:
        variables.setdefault("now", MORNING)
        return self.world.play(name, "--limit", vm, *options, inventory=[self.inventory], expect=expect, **variables)

    def state(self, host: str, vm: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.world.on(host, f"cat {STORE}/{vm}/state.json"))
        return found

    def journal(self, host: str, vm: str) -> list[tuple[str, int, str]]:
        lines = self.world.on(host, f"cat {STORE}/{vm}/journal.jsonl").splitlines()
        return [(entry["what"], entry["epoch"], entry["active"]) for entry in map(json.loads, lines)]

    def disks(self, host: str, vm: str) -> list[str]:
        return self.world.on(host, f"virsh domblklist {vm} | awk '/\\//{{print $2}}'").split()

    def refusal(self, vm: str, **variables: Any) -> str:
        return " ".join(self.play("failover", vm, expect=1, **variables).output.split())

    def word(self, vm: str, also: str = "", **variables: Any) -> str:
        """What the refusal says has to be given."""
        said = self.refusal(vm, **variables)
        assert also in said
        assert "nobody sees a, but only somebody who knows can say that it is off" in said
        assert "what was written since 2026-01-14T02:00:00Z is lost (9 h 30 min)" in said
        found = re.search(rf"failover --limit {vm} -e resilient_vm_confirm=({vm}@a#1-[0-9a-f]{{8}})", said)
        assert found, said
        return found.group(1)


def steps(folder: Path) -> list[dict[str, Any]]:
    """One of each form; the second fails until it is mended."""
    note = f"echo $RESILIENT_VM_MOVE $RESILIENT_VM_VM $RESILIENT_VM_ACTIVE_HOST $RESILIENT_VM_EPOCH >> {MOVED}"
    dns = {"server": "192.0.2.53", "record": "books.acme.example.", "type": "A", "ttl": 60}
    (folder / "try.yml").write_text(
        json.dumps([{"ansible.builtin.assert": {"that": "failover_active_host in ['a', 'b']", "quiet": True}}])
    )
    return [
        {"name": "early", "command": ["sh", "-c", note], "host": "backup_storage", "when": "before_start"},
        {"name": "mended", "command": ["true"], "verify": {"command": ["test", "-e", MENDED]}},
        {
            "name": "name",
            "nsupdate": {**dns, "value": {"a": "192.0.2.80", "b": "198.51.100.80"}},
            "host": "backup_storage",
            "undo": {"command": ["sh", "-c", f"echo undone >> {folder}/undone"], "host": "control"},
        },
        {"name": "tasks", "tasks": str(folder / "try.yml")},
    ]


# Keeps what it is told in the place of telling a name server.
NSUPDATE = f"#!/bin/sh\ncat >> {MOVED}\n"
# Whoever says by RARP, as QEMU does after a move, that a MAC address is here now.
LISTEN = """
import socket, sys
heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x8035))
while True:
    print(heard.recv(2048)[6:12].hex(":"), flush=True)
"""


@pytest.fixture(scope="module")
def office(machines: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("inventory")
    extra = machines.inventory_file(
        folder / "office.json",
        {
            BOOKS: {
                "resilient_vm_guest_address": f"{BOOKS_ITSELF.address}:80",
                "resilient_vm_takeover_steps": steps(folder),
            },
            SPARE: {"resilient_vm_takeover_steps": steps(folder)[2:3]},
        },
    )
    office = Office(machines, extra)
    machines.lab("exec", "c", "install", "-m", "755", "/dev/stdin", "/usr/local/bin/nsupdate", stdin=NSUPDATE)
    running = machines.on("a", "virsh list --name").split()
    machines.lab("guest", "create", "a", BOOKS, "--kind", "two-disk", "--rate", "64", "--start")
    machines.lab("guest", "create", "a", SPARE, "--kind", "tiny", "--start")
    machines.on("a", f"virsh autostart {BOOKS}")
    machines.protect(extra, *VMS)
    machines.in_guest(BOOKS, f"dd if=/dev/urandom of=/disk/vda/ballast bs=1M count={BALLAST_MIB} 2>&1")
    machines.in_guest(BOOKS, "echo httpd -p 80 > /disk/vda/up; sh /disk/vda/up")
    machines.in_guest(BOOKS, "echo before > /disk/vda/key; echo before > /disk/vdb/key; sync")
    before = int(machines.in_guest(BOOKS, "cat /disk/vda/counter"))
    office.play("daily", ",".join(VMS), now=NIGHT)
    office.counted = (before, int(machines.in_guest(BOOKS, "cat /disk/vda/counter")))
    machines.in_guest(BOOKS, "echo after > /disk/vda/late; sync")
    yield office
    machines.lab("up", "a", "b")
    for host in ("a", "b"):
        for vm in VMS:
            machines.on(host, f"virsh destroy {vm}", check=False)
    for host in ("a", "b", "c"):
        machines.on(host, f"rm -f {MOVED} {MENDED} /usr/local/bin/nsupdate")
    machines.back_to_work(running)


def test_while_anybody_sees_a_it_is_refused(office: Office) -> None:
    assert "spare is not taken over: a can be reached; shut spare down there, or start it there" in office.refusal(
        SPARE
    )
    said = office.refusal(BOOKS)
    assert f"books is not taken over: {BOOKS_ITSELF.mac} answers at {BOOKS_ITSELF.address} on vmbr0 of b" in said
    assert "which is books's own MAC address: it runs somewhere; shut it down there first" in said
    assert office.journal("c", BOOKS) == [("protect", 1, "a")]


def test_b_takes_it_over_when_an_operator_vouches_for_a(office: Office) -> None:
    on = office.world.on
    office.world.lab("crash", "a")
    on("c", f"ip address add {BOOKS_ITSELF.address}/32 dev eth0")
    said = office.refusal(BOOKS)
    stranger = on("c", "cat /sys/class/net/eth0/address; ip address del " + f"{BOOKS_ITSELF.address}/32 dev eth0")
    assert (
        f"{stranger} answers at {BOOKS_ITSELF.address} on vmbr0 of b, and two would have the address of books" in said
    )
    word = office.word(BOOKS)
    # Asked again, the first word is void.
    assert word != office.word(BOOKS)
    assert "is not the last one that was asked for" in office.play("failover", BOOKS, expect=1, confirm=word).output
    assert office.journal("c", BOOKS) == [("protect", 1, "a")]
    assert office.state("b", BOOKS)["active"] == "a"
    assert not office.world.on("b", f"ls {STORE}/{BOOKS} | grep -e running -e intent || true")

    # Whoever was refused on c has made every word void: what he said on b could not be taken back else.
    word = office.word(BOOKS)
    heard = ("systemd-run", "--unit=rvm-listen", "--property=StandardOutput=file:/run/rvm-heard")
    office.world.lab("exec", "c", *heard, "python3", "-c", LISTEN)
    # Red, because a step has failed; that stopped nothing.
    typed = time.time()
    done = office.play("failover", BOOKS, expect=1, confirm=word)
    said = " ".join(done.output.split())
    # By the clock it takes from the command until QEMU has started, a little before the machine runs.
    found = re.search(r"recovery time: ([0-9.]+) s from the command until it ran", said)
    assert found
    assert float(found.group(1)) > float(on("b", f"stat --format=%.Y /run/libvirt/qemu/{BOOKS}.pid")) - typed - 0.5
    assert BOOKS_ITSELF.mac in on("c", "systemctl stop rvm-listen; cat /run/rvm-heard")
    assert f"address: nobody else at {BOOKS_ITSELF.address} on vmbr0" in said
    assert "port: its address answers after" in said
    assert "step: early: done in" in said and "step: mended: FAILED after" in said
    assert "books runs, but beside that mended failed" in said and "verify on b said exit code 1" in said
    moved = on("c", f"cat {MOVED}").splitlines()
    assert moved[0] == "failover books b 2" and "update add books.acme.example. 60 A 198.51.100.80" in moved
    assert "books runs on b (epoch 2), taken over from a" in said
    assert f"recovery point: {NIGHT}; what was written since is lost (9 h 30 min)" in said
    assert "guest: its agent answers after" in said
    in_guest = office.world.in_guest
    assert in_guest(BOOKS, "cat /disk/vda/key /disk/vdb/key", on="b").split() == ["before", "before"]
    assert "late" not in in_guest(BOOKS, "ls /disk/vda", on="b").split()
    # All it wrote before the snapshot, on both disks as they were at one instant, and from there it counts on.
    taken = [f"{STORE}/{BOOKS}/current/{disk}.raw" for disk in ("vda", "vdb")]
    first, second = map(int, office.world.lab("guest", "counters", "--on", "b", *taken).split())
    before, after = office.counted
    assert before <= second <= first <= min(second + 1, after)
    assert int(in_guest(BOOKS, "cat /disk/vda/counter; writerctl 0 >&2", on="b")) >= first
    for host in ("b", "c"):
        assert (office.state(host, BOOKS)["active"], office.state(host, BOOKS)["phase"]) == ("b", "failed_over")
    steps = [("fail_over", 2, "b"), ("finish_failover", 2, "b")]
    assert office.journal("c", BOOKS)[1:] == steps
    # The generation stays as it was, and what runs has its own files.
    image = office.world.current(BOOKS)
    office.world.check_image(BOOKS, image, "b")
    used = office.world.on("b", f"virsh domblklist {BOOKS}")
    assert f"{STORE}/{BOOKS}/running/vda.qcow2" in used


def test_what_is_left_of_its_steps_is_taken_by_the_same_command(office: Office) -> None:
    moved = office.world.on("c", f"cat {MOVED}")
    office.world.on("b", f"touch {MENDED}")
    office.play("failover", BOOKS)
    assert office.world.on("c", f"cat {MOVED}") == moved


def test_asked_again_it_has_nothing_to_do(office: Office) -> None:
    again = office.play("failover", BOOKS)
    assert again.changed == 0
    assert "books runs on b since it was taken over at" in again.output


def test_of_two_who_give_the_same_word_one_takes_it_over(office: Office) -> None:
    """What the other one takes back on b is nothing that the takeover rests on. B had lost what c still had."""
    office.world.on("b", f"cd {STORE}/{SPARE} && rm current && rm -r generations/*")
    said = office.refusal(SPARE)
    assert "b holds no complete generation of spare" in said
    assert "c holds 20260114T020000Z, which b has not; -e resilient_vm_prefer=newest brings it there first" in said
    word = office.word(SPARE, "20260114T020000Z was brought from c first, in", prefer="newest")
    asked = {"inventory": [office.inventory], "now": MORNING, "confirm": word}
    both = [office.world.start_play("failover", "--limit", SPARE, **asked) for _who in (1, 2)]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert any(process.returncode == 0 for process in both), said
    assert office.world.on("b", f"virsh domstate {SPARE}") == "running"
    assert office.journal("c", SPARE)[1:] == [("fail_over", 2, "b"), ("finish_failover", 2, "b")]
    assert office.play("failover", SPARE).changed == 0


def test_the_next_night_backs_b_up(office: Office) -> None:
    """Red, because nobody stands by; but the image is there, of the new epoch, in the same series."""
    office.world.in_guest(BOOKS, "echo at b > /disk/vda/key; sync", on="b")
    played = office.play("daily", BOOKS, now=NEXT_NIGHT, expect=1)
    assert office.world.images(BOOKS) == ["20260114T020000Z", "20260115T020000Z"], played.output
    manifest = office.world.manifest(BOOKS, "20260115T020000Z")
    assert (manifest["epoch"], manifest["source_host"]) == (2, "b")
    office.world.check_image(BOOKS, "20260115T020000Z")
    assert office.world.in_guest(BOOKS, "cat /disk/vda/key", on="b") == "at b"


def test_days_of_both_eras_are_given_back_while_a_is_down(office: Office) -> None:
    """One history, whichever host its images were taken of."""
    for image, key in (("20260114T020000Z", "before"), ("20260115T020000Z", "at b")):
        path = f"/var/lib/resilient-vm/{image}"
        wish = {"restore_point": image, "restore_to": "files", "restore_path": path}
        office.play("restore", BOOKS, now="2026-01-15T08:00:00Z", **wish)
        assert office.world.on("c", f"debugfs -R 'cat /key' {path}/vda.raw 2>/dev/null; rm -r {path}") == key


def test_nothing_stands_by_while_a_is_down(office: Office) -> None:
    said = " ".join(office.play("reprotect", BOOKS, now="2026-01-15T09:00:00Z", expect=1).output.split())
    assert "nothing stands by before all three machines answer" in said
    assert office.state("c", BOOKS)["phase"] == "failed_over"


def test_a_comes_back_and_starts_nothing_of_it(office: Office) -> None:
    on = office.world.on
    office.world.lab("up", "a")
    office.world.wait_until(
        lambda: "the VM moved while this host was away" in on("a", "journalctl -b -u resilient-vm-gate -o cat"),
        60,
        "a has asked",
    )
    assert CLOSED in on("a", f"virsh start {BOOKS} 2>&1 >/dev/null || true")
    on("a", f"virsh autostart {BOOKS}; systemctl stop libvirtd; rm -f /run/libvirt/qemu/autostarted")
    on("a", "systemctl start libvirtd; virsh list")
    for vm in VMS:
        assert on("a", f"virsh domstate {vm}") == "shut off"
        assert on("b", f"virsh domstate {vm}") == "running"


def test_with_a_back_the_night_still_backs_b_up_and_says_what_is_missing(office: Office) -> None:
    played = office.play("daily", BOOKS, now="2026-01-16T02:00:00Z", expect=1)
    assert office.world.images(BOOKS)[-1] == "20260116T020000Z", played.output
    assert "a holds books as it was at epoch 1, and does not stand by" in played.output


def test_a_takeover_that_should_not_have_been_is_undone(office: Office) -> None:
    """On the disks that a had; what b wrote is kept aside there."""
    world, disks = office.world, office.disks("a", SPARE)
    said = " ".join(office.play("failover_undo", SPARE, expect=1).output.split())
    word = re.search(rf"resilient_vm_confirm=({SPARE}@b#[0-9a-f]{{8}})", said)
    assert word and "what was written since" in said
    assert world.on("b", f"virsh domstate {SPARE}") == "running"
    played = office.play("failover_undo", SPARE, now="2026-01-16T08:00:00Z", confirm=word.group(1))
    assert world.on("a", f"virsh domstate {SPARE}") == "running", played.output
    assert office.disks("a", SPARE) == disks
    for host in ("a", "b", "c"):
        found = office.state(host, SPARE)
        assert (found["active"], found["phase"], found["epoch"]) == ("a", "protected", 3), played.output
    assert "vda.qcow2" in world.on("b", f"ls {STORE}/{SPARE}/before-e3/running")
    assert (office.inventory.parent / "undone").read_text() == "undone\n"
    assert world.on("b", f"readlink {STORE}/{SPARE}/current") == "generations/20260116T080000Z"


def test_killed_in_between_the_night_still_takes_its_image(office: Office) -> None:
    asked = {"inventory": [office.inventory], "now": "2026-01-16T09:00:00Z"}
    process = office.world.start_play("reprotect", "--limit", BOOKS, **asked)
    office.world.wait_until(lambda: office.state("c", BOOKS)["phase"] == "reprotecting", 60, "it has begun")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    played = office.play("daily", BOOKS, now="2026-01-17T02:00:00Z", expect=1)
    assert office.world.images(BOOKS)[-1] == "20260117T020000Z", played.output
    assert "run the reprotect playbook again" in played.output
    assert office.world.on("a", f"virsh domstate {BOOKS}") == "shut off"


def test_reprotect_makes_a_its_standby(office: Office) -> None:
    """Only what differs from the disks that it had comes over, and these are kept."""
    on, disks = office.world.on, office.disks("a", BOOKS)
    on("a", f"mkdir -p /tmp/known; for disk in {' '.join(disks)}; do sha256sum < $disk; done > /tmp/known/{BOOKS}")
    played = office.play("reprotect", BOOKS, now="2026-01-17T09:00:00Z")
    for host in ("a", "b", "c"):
        found = office.state(host, BOOKS)
        assert (found["active"], found["phase"], found["epoch"]) == ("b", "protected", 2), played.output
    assert on("a", f"readlink {STORE}/{BOOKS}/current") == "generations/20260117T020000Z"
    office.world.check_image(BOOKS, "20260117T020000Z", "a")
    sent = json.loads(on("c", f"cat {STORE}/{BOOKS}/transfer/refresh.result.json"))["bytes_sent"]
    assert 0 < sent < BALLAST_MIB << 20
    kept = " ".join(f"{disk}.before-e2" for disk in disks)
    assert on("a", f"for disk in {kept}; do sha256sum < $disk; done") == on("a", f"cat /tmp/known/{BOOKS}")
    uuid = on("b", f"virsh domuuid {BOOKS}")
    assert uuid in on("a", f"grep '<uuid>' {STORE}/{BOOKS}/before-e2/domain.xml")
    assert CLOSED in on("a", f"virsh start {BOOKS} 2>&1 >/dev/null || true")
    again = office.play("reprotect", BOOKS, now="2026-01-17T09:30:00Z")
    assert again.changed == 0
    assert f"a stands by for {BOOKS} already" in again.output
    assert f"{BOOKS_ITSELF.mac} answers at {BOOKS_ITSELF.address} on vmbr0 of a" in office.refusal(BOOKS)


def test_what_the_machines_disagree_about_a_person_resolves(office: Office) -> None:
    """As when a backup of b's system is put back that knows of a takeover which nobody else does."""
    world, wrong = office.world, {"epoch": (3, 4), "active": ("a", "b"), "standby": ("b", "a")}
    edits = " ".join(
        f'-e \'s/"{name}": {json.dumps(old)}/"{name}": {json.dumps(new)}/\'' for name, (old, new) in wrong.items()
    )
    world.on("b", f"sed -i {edits} {STORE}/{SPARE}/state.json")
    assert "the state documents of spare disagree" in office.play("daily", SPARE, expect=1).output
    # A word of a higher epoch is believed, whoever says it: the machine may run there.
    world.on("a", "systemctl start resilient-vm-superseded || true")
    assert world.on("a", f"virsh domstate {SPARE}") == "shut off"
    said = " ".join(office.play("resolve", SPARE, "--check", resolve_to="a").output.split())
    assert "the disks of spare on a count" in said and "b: epoch 4 on b, c: epoch 3 on a" in said
    assert office.state("c", SPARE)["epoch"] == 3
    office.play("resolve", SPARE, resolve_to="a")
    for host in ("a", "b", "c"):
        found = office.state(host, SPARE)
        assert (found["active"], found["phase"], found["epoch"]) == ("a", "failed_over", 5)
    world.on("a", f"virsh start {SPARE}")
    assert office.play("resolve", SPARE, resolve_to="a").changed == 0


@pytest.mark.soak
def test_where_the_current_generation_is_damaged_an_older_one_is_started(office: Office) -> None:
    """By its id, which the refusal names."""
    world, nights = office.world, ("2026-01-18T02:00:00Z", "2026-01-19T02:00:00Z")
    # A person has said where it lives, and b does not stand by since.
    office.play("reprotect", SPARE, now="2026-01-17T12:00:00Z")
    for night in nights:
        office.play("daily", SPARE, now=night, keep_generations=2)
    older, current = "20260118T020000Z", "20260119T020000Z"
    for offset in (40, 60):
        world.spoil("b", f"{STORE}/{SPARE}/generations/{current}/manifest.json", offset)
    asked: dict[str, Any] = {"now": "2026-01-19T09:00:00Z", "expect": 1}
    said = " ".join(office.play("failover", SPARE, **asked).output.split())
    assert f"generation {current} of {SPARE} on b is damaged" in said
    assert f"-e resilient_vm_takeover_point={older}" in said
    world.lab("crash", "a")
    said = office.play("failover", SPARE, takeover_point=older, **asked).output
    word = re.search(rf"resilient_vm_confirm=({SPARE}@a#5-[0-9a-f]{{8}})", said)
    assert word and f"is lost ({31 // 24} d {31 % 24} h)" in " ".join(said.split()), said
    office.play("failover", SPARE, takeover_point=older, confirm=word.group(1), now=asked["now"])
    assert world.on("b", f"virsh domstate {SPARE}") == "running"
    assert json.loads(world.on("b", f"cat {STORE}/{SPARE}/running/promoted.json"))["generation"] == older
    world.lab("up", "a")


@pytest.mark.soak
def test_and_back_again_the_same_way(office: Office) -> None:
    """A takes it over from B, and B, which has its disks where a takeover puts them, stands by again."""
    world, now = office.world, "2026-01-17T11:30:00Z"
    assert world.in_guest(BOOKS, "cat /disk/vda/key", on="b") == "at b"
    world.lab("crash", "b")
    world.on("a", f"touch {MENDED}")
    said = office.play("failover", BOOKS, expect=1, now=now).output
    word = re.search(rf"resilient_vm_confirm=({BOOKS}@b#2-[0-9a-f]{{8}})", said)
    assert word, said
    office.play("failover", BOOKS, now=now, confirm=word.group(1))
    assert world.in_guest(BOOKS, "cat /disk/vda/key", on="a") == "at b"
    world.lab("up", "b")
    world.wait_until(
        lambda: "the VM moved while this host was away" in world.on("b", "journalctl -b -u resilient-vm-gate -o cat"),
        60,
        "b has asked",
    )
    played = office.play("reprotect", BOOKS, now="2026-01-18T02:00:00Z")
    for host in ("a", "b", "c"):
        found = office.state(host, BOOKS)
        assert (found["active"], found["phase"], found["epoch"]) == ("a", "protected", 3), played.output
    assert [world.manifest(BOOKS, image)["epoch"] for image in world.images(BOOKS)] == [1, 2, 2, 2, 3]
    world.check_image(BOOKS, "20260118T020000Z", "b")
    assert not world.on("b", f"ls -d {STORE}/{BOOKS}/running || true")
    assert "vda.qcow2" in world.on("b", f"ls {STORE}/{BOOKS}/before-e3/running")
