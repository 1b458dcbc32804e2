# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself: what the other tests take for granted about machines, faults and guests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.world import ROOT, World
from lab.rvmlab import cgroups, guests
from lab.rvmlab.config import MACHINES, Lab
from lab.rvmlab.domain import KINDS, Guest

# Every other test drives it; these are for changes of the lab itself.
pytestmark = pytest.mark.soak

STORE = "/var/lib/resilient-vm"
IMAGES = "/var/lib/libvirt/images"


@pytest.fixture(scope="module")
def tested() -> Iterator[World]:
    """A lab of its own, with two releases; it is broken on purpose, so no other test shares it."""
    world = World(Path(os.environ.get("RVM_TEST_LAB", ROOT / ".dev/lab-test")).with_name("lab-selftest"))
    world.lab("destroy")
    world.lab("up", "--release", "bookworm", "--release-of", "b=trixie", "--disk", "c=1G", timeout=1200)
    yield world
    world.lab("destroy")


@pytest.fixture
def lab(tested: World) -> Iterator[World]:
    """The lab with all machines up and the network whole, whatever the test before did."""
    tested.lab("up")
    yield tested
    for host in MACHINES:
        if facts(tested).netns(host) in os.listdir("/run/netns"):
            tested.lab("heal", host)
            tested.lab("shape", host, "off")


def facts(world: World) -> Lab:
    return Lab.from_environment(world.environment)


def fails(world: World, *words: str) -> str:
    """Run a command that must fail with one sentence, and return the sentence."""
    command = [str(ROOT / "tests/lab/lab"), *words]
    done = subprocess.run(command, env=world.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}"
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("lab: ")
    return done.stderr


def ssh(world: World, host: str, command: str, seconds: float = 30) -> str | None:
    """Run a command over the network; None when the machine does not answer in time."""
    words = [str(ROOT / "tests/lab/lab"), "ssh", host, command]
    try:
        done = subprocess.run(
            words, env=world.environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def ansible(world: World, pattern: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Call Ansible as a user would, with no option but the inventory."""
    command = [str(Path(sys.executable).with_name("ansible")), "-i", "tests/lab/inventory/", pattern, *words]
    return subprocess.run(
        command, cwd=ROOT, env=world.environment, capture_output=True, text=True, timeout=120, check=False
    )


def traces(world: World) -> list[str]:
    """Everything of a lab that exists on the box outside its folder."""
    own = facts(world)
    marks = (own.prefix, str(own.state))
    found = [f"namespace {name}" for name in os.listdir("/run/netns") if name.startswith(own.prefix)]
    found += [f"folder {path}" for path in Path("/run").glob(f"{own.prefix}*")]
    for root in cgroups.roots():
        found += [f"group {path}" for path in root.glob(f"{own.prefix}*")]
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # another lab's device may go away meanwhile
            found += [f"loop {backing.parts[3]}" for mark in marks if mark in backing.read_text()]
    for process in Path("/proc").glob("[0-9]*"):
        for detail in ("cmdline", "cgroup", "mountinfo"):
            with contextlib.suppress(OSError):  # it may end meanwhile
                text = (process / detail).read_bytes().decode(errors="replace")
                found += [f"process {process.name} by its {detail}" for mark in marks if mark in text]
    return found


def box_links() -> list[str]:
    """The network interfaces of the box itself."""
    return sorted(os.listdir("/sys/class/net"))


# machines


def test_machines_run_systemd_and_are_who_they_should_be(lab: World) -> None:
    for host in MACHINES:
        assert lab.on(host, "cat /proc/1/comm; systemctl is-system-running; hostname; hostname -f; date +%Z") == (
            f"systemd\nrunning\n{host}\n{host}\nUTC"
        )
        assert lab.on(host, "getent hosts a b c ctl | wc -l") == "4"
    assert len({lab.on(host, "cat /etc/machine-id") for host in MACHINES}) == len(MACHINES)
    releases = {host: lab.on(host, ". /etc/os-release; echo $VERSION_CODENAME") for host in MACHINES}
    assert releases == {"a": "bookworm", "b": "trixie", "c": "bookworm"}


def test_libvirt_runs_where_guests_run_and_nowhere_else(lab: World) -> None:
    assert "Running hypervisor: QEMU" in lab.on("a", "virsh version")
    assert "Running hypervisor: QEMU" in lab.on("b", "virsh version")
    assert lab.on("c", "systemctl is-enabled libvirtd.service", check=False) == "masked"
    assert lab.on("c", "qemu-system-x86_64 --version").startswith("QEMU")


def test_data_disks_are_xfs_with_reflink(lab: World) -> None:
    for host, machine in MACHINES.items():
        for folder in (STORE, IMAGES) if machine.libvirt else (STORE,):
            script = (
                f"cd {folder}; stat -f -c %T .; head -c 1M /dev/urandom > x; cp --reflink=always x y; cmp x y; rm x y"
            )
            assert lab.on(host, script) == "xfs"
    assert int(lab.on("c", f"df --output=size -k {STORE} | tail -1")) < 1 << 20


def test_exec_passes_input_output_and_exit_code(lab: World) -> None:
    command = [str(ROOT / "tests/lab/lab"), "exec", "b", "sh", "-c", "cat; echo error >&2; exit 7"]
    done = subprocess.run(command, env=lab.environment, input="fed", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "fed", "error\n")


def test_ssh_knows_the_machines_keys_and_no_other(lab: World) -> None:
    assert ssh(lab, "c", "hostname") == "c"
    known = facts(lab).known_hosts
    pinned = known.read_text()
    known.write_text(pinned.replace("c,10.77.0.13", "elsewhere"))
    try:
        assert ssh(lab, "c", "hostname") is None
    finally:
        known.write_text(pinned)


def test_machines_reach_each_other_and_the_box_keeps_its_own_network(lab: World) -> None:
    before = box_links()
    for host in MACHINES:
        assert lab.on(host, "for name in a b c ctl; do ping -q -c 1 -W 5 $name > /dev/null || echo $name; done") == ""
    lab.lab("down")
    assert box_links() == before
    lab.lab("up")
    assert box_links() == before


def test_ansible_needs_nothing_but_the_inventory(lab: World) -> None:
    done = ansible(lab, "lab_machines", "-m", "ansible.builtin.ping")
    assert done.returncode == 0 and done.stdout.count("SUCCESS") == 3, done.stdout + done.stderr
    done = ansible(lab, "lab_machines", "-m", "ansible.builtin.apt", "-a", "name=rsync update_cache=true")
    assert done.returncode == 0, done.stdout + done.stderr


def test_machine_comes_back_from_its_own_reboot(lab: World) -> None:
    before = lab.on("a", f"echo kept > {STORE}/kept; cat /etc/machine-id; uptime -s")
    done = ansible(lab, "a", "-m", "ansible.builtin.reboot")
    assert done.returncode == 0, done.stdout + done.stderr
    assert lab.on("a", f"cat {STORE}/kept; systemctl is-system-running --wait") == "kept\nrunning"
    assert lab.on("a", "cat /etc/machine-id") == before.splitlines()[0]


def test_second_up_is_quick_and_keeps_everything(lab: World) -> None:
    lab.on("c", f"echo kept > {STORE}/kept; echo kept > /root/kept")
    lab.lab("down")
    started = time.monotonic()
    lab.lab("up")
    assert time.monotonic() - started < 15
    assert lab.on("c", f"cat {STORE}/kept /root/kept") == "kept\nkept"


# faults


def test_crash_ends_a_machine_and_keeps_what_it_wrote(lab: World) -> None:
    assert ansible(lab, "b", "-m", "ansible.builtin.ping").returncode == 0  # leaves an ssh master
    lab.on("b", f"echo written > {STORE}/crash; systemd-run --quiet sleep 1000")
    lab.lab("crash", "b")
    assert "down" in lab.lab("status").splitlines()[2]
    assert ssh(lab, "b", "true", seconds=15) is None
    lab.lab("up", "b")
    assert lab.on("b", f"cat {STORE}/crash; systemctl is-system-running --wait; pgrep -c sleep", check=False) == (
        "written\nrunning\n0"
    )
    # A master that outlived the machine would make this hang.
    assert ansible(lab, "b", "-m", "ansible.builtin.ping").returncode == 0


def test_powercut_loses_what_was_not_synced_and_nothing_else(lab: World) -> None:
    folders = f"{STORE} {IMAGES} /root"
    lab.on("a", f"for folder in {folders}; do echo safe > $folder/synced; sync $folder/synced $folder; done")
    lab.on("a", f"for folder in {folders}; do echo lost > $folder/unsynced; done")
    lab.lab("powercut", "a")
    lab.lab("up", "a")
    script = f"for folder in {folders}; do cat $folder/synced; ls $folder | grep -c unsynced; done"
    assert lab.on("a", script, check=False).split() == ["safe", "0"] * 3
    assert lab.on("a", "systemctl is-system-running --wait") == "running"


def test_frozen_machine_hangs_and_goes_on(lab: World) -> None:
    lab.lab("freeze", "c")
    assert "frozen" in lab.lab("status")
    assert ssh(lab, "c", "true", seconds=3) is None
    assert "lab thaw c" in fails(lab, "exec", "c", "true")
    lab.lab("thaw", "c")
    assert ssh(lab, "c", "hostname") == "c"


def test_frozen_machine_can_be_taken_down(lab: World) -> None:
    lab.lab("freeze", "c")
    lab.lab("down", "c")
    lab.lab("up", "c")
    assert ssh(lab, "c", "hostname") == "c"


def test_cut_machine_lives_on_alone(lab: World) -> None:
    lab.lab("cut", "b")
    assert lab.on("b", "hostname") == "b"
    assert lab.on("a", "ping -q -c 1 -W 1 b > /dev/null || echo unreachable") == "unreachable"
    assert ssh(lab, "b", "true", seconds=3) is None
    lab.lab("heal", "b")
    assert ssh(lab, "b", "hostname") == "b"


def test_shaped_link_is_as_slow_as_asked(lab: World) -> None:
    def seconds() -> float:
        started = time.monotonic()
        subprocess.run(
            [ROOT / "tests/lab/lab", "ssh", "c", "head -c 4000000 /dev/urandom"],
            env=lab.environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return time.monotonic() - started

    lab.lab("shape", "c", "8mbit")
    assert 3.5 < seconds() < 12
    lab.lab("shape", "c", "off")
    assert seconds() < 3.5
    assert "is no rate" in fails(lab, "shape", "c", "fast")


def test_faults_of_absent_machines_are_named(lab: World) -> None:
    lab.lab("down", "c")
    for words in (["crash", "c"], ["powercut", "c"], ["freeze", "c"], ["exec", "c", "true"]):
        assert "machine c is down" in fails(lab, *words)
    assert "was made with release bookworm, not trixie" in fails(lab, "up", "a", "--release", "trixie")
    assert "was made with disk 1G, not 2G" in fails(lab, "up", "--disk", "c=2G")
    assert "no machine z" in fails(lab, "up", "z")


# guests


@pytest.fixture
def guest(lab: World, request: pytest.FixtureRequest) -> Iterator[tuple[World, Guest]]:
    """One running guest of the kind asked for, and no trace of it afterwards."""
    kind: str = request.param
    name = f"g-{kind}"
    lab.lab("guest", "create", "a", name, "--kind", kind, "--start")
    yield lab, Guest.of_kind(name, kind)
    lab.lab("guest", "remove", name)
    assert name not in lab.on("a", f"virsh list --all; ls {IMAGES} /var/lib/libvirt/qemu/nvram")


def every_kind(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("guest", kinds or list(KINDS), indirect=True)


def numbers(world: World, guest: Guest) -> list[int]:
    """What the writer recorded on each of a running guest's disks, the later one first."""
    return [int(world.in_guest(guest.name, f"cat /disk/{disk.target}/counter")) for disk in reversed(guest.disks)]


@every_kind()
def test_guest_of_every_kind_is_who_its_name_says_and_boots_elsewhere(guest: tuple[World, Guest]) -> None:
    lab, one = guest
    root = ET.fromstring(lab.lab("guest", "xml", one.name))
    assert root.findtext("uuid") == one.uuid
    assert [mac.get("address") for mac in root.iterfind("devices/interface/mac")] == [one.mac]
    assert lab.in_guest(one.name, "hostname") == one.name
    assert "is up after" in lab.lab("guest", "console", one.name)
    # On the LAN, so that another machine sees where it runs.
    assert lab.on("c", f"ping -q -c 1 -W 10 {one.address} > /dev/null && echo there") == "there"
    with pytest.raises(AssertionError, match=r"failed \(7\)"):
        lab.in_guest(one.name, "exit 7")
    if one.firmware != "direct":
        start = numbers(lab, one)
        time.sleep(2)
        assert min(numbers(lab, one)) > max(start), "the writer does not write"
        copies = copies_of_one_instant(lab, one)
        found = [int(line) for line in lab.lab("guest", "counters", "--on", "a", *copies).split()]
        assert found[0] >= max(start) and found[0] - found[-1] in (0, 1)
        boots_on_the_backup_storage(lab, one, copies)


def copies_of_one_instant(lab: World, guest: Guest) -> list[str]:
    """Raw copies of all disks of a guest, as it was while it stood still."""
    lab.on("a", f"virsh suspend {guest.name}")
    copies = []
    for disk in guest.disks:
        copies.append(f"{STORE}/{disk.target}.raw")
        lab.on("a", f"qemu-img convert -U -f {disk.format} -O raw {disk.path(guest.name)} {copies[-1]}")
    lab.on("a", f"virsh resume {guest.name}")
    return copies


def boots_on_the_backup_storage(lab: World, guest: Guest, copies: list[str]) -> None:
    """With nothing but QEMU, from empty NVRAM, and without a byte of the copies changing."""
    for copy in copies:
        # No machine has another's keys here, so the box carries the bytes.
        source, target = (guests.inside(facts(lab), host, copy) for host in "ac")
        subprocess.run(["cp", "--sparse=always", source, target], check=True)
    before = lab.on("c", f"sha256sum {' '.join(copies)}")
    uefi = ["--uefi"] if guest.firmware == "uefi" else []
    assert f"guest {guest.name} is up" in lab.lab("guest", "boot-raw", *uefi, "c", *copies)
    assert lab.on("c", f"sha256sum {' '.join(copies)}") == before
    assert lab.on("c", "pgrep -c qemu-system", check=False) == "0"
    for host in "ac":
        lab.on(host, f"rm {' '.join(copies)}")


@every_kind("two-disk")
def test_writer_obeys_and_nothing_synced_is_ever_lost(guest: tuple[World, Guest]) -> None:
    lab, one = guest

    def start_again() -> list[int]:
        lab.lab("guest", "start", one.name)
        lab.lab("guest", "wait", one.name)
        return numbers(lab, one)

    last = numbers(lab, one)
    lab.lab("guest", "kill", one.name)
    assert "shut off" in lab.lab("guest", "list")
    assert min(start_again()) >= max(last), "lost with QEMU"
    last = numbers(lab, one)
    lab.lab("powercut", "a")
    lab.lab("up", "a")
    assert min(start_again()) >= max(last), "lost with the machine"
    assert lab.lab("guest", "writer", one.name).strip() == "on 1024"
    lab.lab("guest", "writer", one.name, "512")
    assert lab.lab("guest", "writer", one.name, "off").strip() == "off 512"
    time.sleep(1)
    rest = numbers(lab, one)
    assert rest[0] == rest[1]
    lab.lab("guest", "stop", one.name)
    assert start_again() == rest, "the writer forgot that it was off"
    lab.lab("guest", "writer", one.name, "on")
    time.sleep(2)
    assert min(numbers(lab, one)) > max(rest)


@every_kind("blank")
def test_blank_disk_changes_by_exactly_what_is_written(guest: tuple[World, Guest]) -> None:
    lab, one = guest
    path = one.disks[0].path(one.name)
    copy = f"qemu-img convert -U -O raw {path} {STORE}"
    lab.on("a", f"{copy}/before.raw")
    lab.in_guest(one.name, "dd if=/dev/urandom of=/dev/vda bs=64k seek=100 count=1 conv=fsync")
    lab.on("a", f"{copy}/after.raw")
    changed = lab.on("a", f"cd {STORE}; cmp -l before.raw after.raw | awk '{{ print int(($1 - 1) / 65536) }}' | uniq")
    assert changed == "100"
    lab.on("a", f"rm {STORE}/*.raw")


def test_guest_without_agent_is_waited_for_and_shut_down(lab: World) -> None:
    lab.lab("guest", "create", "b", "mute", "--kind", "raw", "--no-agent", "--start")
    lab.lab("guest", "stop", "mute")
    lab.lab("guest", "remove", "mute")


def test_guest_known_to_two_machines_is_found_where_it_runs(lab: World) -> None:
    lab.lab("guest", "create", "a", "twin", "--kind", "tiny")
    lab.lab("guest", "create", "b", "twin", "--kind", "tiny")
    assert "say which with --on" in fails(lab, "guest", "start", "twin")
    lab.lab("guest", "start", "--on", "b", "twin")
    lab.lab("guest", "wait", "twin")
    assert lab.in_guest("twin", "hostname", on="b") == "twin"
    assert lab.lab("guest", "exec", "twin", "hostname").strip() == "twin"  # found where it runs, without --on
    for host in "ab":
        lab.lab("guest", "remove", "--on", host, "twin")


def test_impossible_guests_are_refused(lab: World) -> None:
    assert "guests live on a and b" in fails(lab, "guest", "create", "c", "x")
    assert "no running machine knows a guest nobody" in fails(lab, "guest", "start", "nobody")


# beginning and end


def test_up_clears_away_a_lab_that_was_killed(lab: World) -> None:
    own = facts(lab)
    for name in MACHINES:
        for pid in cgroups.pids(own, name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert traces(lab), "there is nothing to clear away"
    lab.lab("up")
    for host in MACHINES:
        assert ssh(lab, host, "hostname") == host


def test_up_replaces_a_machine_that_lost_its_supervisor(lab: World) -> None:
    os.kill(cgroups.supervisor(facts(lab), "c"), signal.SIGKILL)
    lab.lab("up")
    assert cgroups.supervisor(facts(lab), "c")
    assert ssh(lab, "c", "hostname") == "c"


def test_two_labs_run_side_by_side(lab: World) -> None:
    other = World(lab.state.with_name("lab-other"))
    try:
        other.lab("up", "c")
        lab.on("c", "touch /root/mine")
        assert other.on("c", "ls /root/mine 2> /dev/null || echo not mine") == "not mine"
        assert ssh(lab, "c", "ls /root/mine") == "/root/mine"
        assert ssh(other, "c", "ls /root/mine || echo not mine") == "not mine"
        assert ansible(other, "c", "-m", "ansible.builtin.command", "-a", "ls /root/mine").returncode != 0
        assert ansible(lab, "c", "-m", "ansible.builtin.command", "-a", "ls /root/mine").returncode == 0
        other.lab("down")
        assert traces(other) == []
        assert ssh(lab, "c", "hostname") == "c"
    finally:
        other.lab("destroy")
    assert not other.state.exists()


def test_down_leaves_nothing_behind(lab: World) -> None:
    lab.lab("guest", "create", "a", "last", "--kind", "tiny", "--start")
    assert ansible(lab, "lab_machines", "-m", "ansible.builtin.ping").returncode == 0
    lab.lab("down")
    assert traces(lab) == []
    assert shutil.disk_usage(lab.state).free > 0 and (lab.state / "a/data.img").exists()
    lab.lab("up")
    lab.lab("guest", "remove", "last")
