# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any process may die at any byte: images stay whole, the standby stays bootable, a rerun converges."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from integration.vault import RECEIVERS, VM, Vault
from integration.world import STORE, World

Fault = Callable[[Vault], None]


def mover(host: str, command: str) -> Fault:
    """The mover is killed. (With brackets the pattern does not find the shell that it stands in.)"""

    def fault(vault: Vault) -> None:
        vault.world.on(host, f"pkill -9 -f '[r]esilient-vm {command} .*{VM}'")

    return fault


def libvirtd(host: str) -> Fault:
    def fault(vault: Vault) -> None:
        # Asked first: idle, it ends by itself, and 0 is the process id of nobody.
        vault.world.on(host, "virsh -q list && kill -9 $(systemctl show --property=MainPID --value libvirtd)")

    return fault


def crash(host: str) -> Fault:
    def fault(vault: Vault) -> None:
        vault.world.lab("crash", host)
        vault.world.lab("up", host)
        if host == "a":
            vault.start_guests()

    return fault


# (hop, what happens in its middle) → how. The first of each hop stand for all in the short run.
QUICK: dict[tuple[str, str], Fault] = {
    ("fetch", "the receiver dies"): mover("c", "fetch"),
}
SLOW: dict[tuple[str, str], Fault] = {
    ("refresh", "the sender dies"): mover("c", "refresh"),
    ("fetch", "the sender dies"): mover("a", "forced"),
    ("refresh", "the receiver dies"): mover("b", "forced"),
    ("fetch", "libvirtd of the active host dies"): libvirtd("a"),
    ("refresh", "libvirtd of the standby host dies"): libvirtd("b"),
    ("fetch", "the active host crashes"): crash("a"),
    ("fetch", "the backup storage crashes"): crash("c"),
    ("fetch", "the standby host crashes"): crash("b"),
    ("refresh", "the active host crashes"): crash("a"),
    ("refresh", "the backup storage crashes"): crash("c"),
    ("refresh", "the standby host crashes"): crash("b"),
}


@pytest.mark.parametrize(
    ("hop", "fault"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.soak) for case in SLOW)],
)
def test_a_fault_in_the_middle_of_a_hop(vault: Vault, hop: str, fault: str) -> None:
    before = vault.before()
    vault.next_day()
    with vault.copying(hop) as play:
        {**QUICK, **SLOW}[hop, fault](vault)
    vault.ended(play)
    vault.intact(before)
    vault.converges()


def test_a_killed_playbook_does_not_stop_the_copy_and_the_next_run_attaches(vault: Vault) -> None:
    before = vault.before()
    vault.next_day()
    with vault.copying("fetch") as play:
        play.kill()
        attached = vault.start_cycle()
        vault.world.wait_until(lambda: vault.image_id in vault.world.images(VM), 60, "the image published")
    vault.ended(play)
    played = vault.ended(attached)
    assert played.code == 0, played.output
    vault.intact(before)
    vault.settled()


# Found before the real one by the units' PATH; once the backup has begun it holds on, the guest frozen, until killed.
HOLDING_VIRSH = """#!/bin/sh
case " $* " in *" backup-begin "*) /usr/bin/virsh "$@"; touch /run/holding; sleep 60; exit ;; esac
exec /usr/bin/virsh "$@"
"""


@pytest.mark.soak
def test_a_guest_frozen_by_a_killed_run_thaws_by_itself(world: World) -> None:
    """The playbook, and the unit's process that froze the guest, are killed between freeze and thaw."""
    status = 'virsh qemu-agent-command erp \'{"execute": "guest-fsfreeze-status"}\''
    world.lab("exec", "a", "install", "-m", "755", "/dev/stdin", "/usr/local/bin/virsh", stdin=HOLDING_VIRSH)
    play = world.start_play("daily", "--limit", "erp", force=True)
    try:
        world.wait_until(
            lambda: world.on("a", "ls /run/holding", check=False) != "", 60, "erp frozen, its backup begun"
        )
        assert "frozen" in world.on("a", status)
        os.kill(play.pid, signal.SIGKILL)
        world.on("a", "systemctl kill --signal=KILL --kill-whom=main resilient-vm-begin-acme.erp.service")
        world.wait_until(lambda: "thawed" in world.on("a", status, check=False), 10, "erp thawed again")
    finally:
        play.kill()
        world.on("a", "rm -f /usr/local/bin/virsh /run/holding")
        play.communicate(timeout=120)
    # Until the unit has ended the backup as well, others are told to wait.
    free = f"flock --nonblock {STORE}/erp/lock echo free"
    world.wait_until(lambda: world.on("a", free, check=False) == "free", 120, "the killed run's unit at its end")
    world.play("daily", "--limit", "erp", force=True)
    world.nothing_open("erp")


def fill(world: World, host: str, leave_mib: int) -> None:
    world.on(
        host,
        "free=$(df -k --output=avail /var/lib/resilient-vm | tail -1);"
        f" fallocate -l $((free - {leave_mib * 1024}))K /var/lib/resilient-vm/filler",
    )


def empty(world: World, host: str) -> None:
    world.on(host, "rm -f /var/lib/resilient-vm/filler")


@pytest.mark.soak
@pytest.mark.parametrize("hop", ["fetch", "refresh"])
def test_a_disk_that_fills_up_in_the_middle(vault: Vault, hop: str) -> None:
    host = RECEIVERS[hop]
    before = vault.before()
    vault.next_day(40)
    try:
        with vault.copying(hop) as play:
            fill(vault.world, host, leave_mib=2)
        played = vault.ended(play)
    finally:
        empty(vault.world, host)
    assert played.code != 0
    assert "No space left" in played.output, played.output
    vault.intact(before)
    vault.converges()


@pytest.mark.soak
def test_scratch_space_that_runs_out_ends_the_backup_and_not_the_guest(vault: Vault) -> None:
    before = vault.before()
    vault.next_day()
    try:
        with vault.copying("fetch") as play:
            fill(vault.world, "a", leave_mib=600)
            vault.write(8, at=110)
            played = vault.ended(play)
        assert vault.world.on("a", f"virsh domstate {VM}") == "running"
    finally:
        empty(vault.world, "a")
    assert played.code != 0
    assert "scratch" in played.output, played.output
    vault.intact(before)
    vault.converges()
