# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the guests."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from . import guests
from .config import MACHINES, Lab
from .domain import KINDS, Guest
from .machine import in_machine

__all__ = ["add_commands", "dispatch"]

# What is done about one guest: the lab, the machine it is on, and what was asked.
GuestAction = Callable[[Lab, str, argparse.Namespace], int | None]
# What is done about none, or about one that does not exist yet.
PlainAction = Callable[[Lab, argparse.Namespace], int | None]
# It is over as soon as the guest is up; emulated guests on a busy box take minutes.
WAIT_SECONDS = 300


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the guests' commands to the parser of ``lab guest``."""
    commands = parser.add_subparsers(dest="guest_command", required=True, metavar="ACTION")

    def plain(name: str, action: PlainAction, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(plain_action=action)
        return sub

    def command(name: str, action: GuestAction, text: str, *, waits: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(plain_action=None, guest_action=action)
        sub.add_argument("name", help="the guest")
        sub.add_argument("--on", choices=MACHINES, metavar="HOST", help="the machine, when several know the guest")
        if waits:
            add_timeout(sub)
        return sub

    add_create(plain("create", create, "Make a guest and its disks on a machine."))
    plain("list", show_list, "Show the guests, where they are and how.")
    command("start", start, "Start a guest without waiting for it.")
    command("wait", wait, "Wait until a guest is up.", waits=True)
    command("stop", stop, "Shut a guest down as its owner would, and wait.", waits=True)
    command("destroy", destroy, "Pull a guest's plug.")
    command("kill", kill, "Kill a guest's QEMU process, as a crash of it would.")
    command("remove", remove, "Remove a guest, its definition and its disks.")
    command("xml", xml, "Print a guest's libvirt definition.")
    command("console", console, "Print what a guest said on its serial console since it was started.")
    sub = command("exec", execute, "Run a command in a guest through its agent; output and exit code are passed on.")
    sub.add_argument("words", nargs=argparse.REMAINDER, metavar="CMD", help="the command and its arguments")
    sub = command("writer", writer, "Show or set what a guest's writer does.")
    sub.add_argument("wish", nargs="?", default="status", help="on, off, status, or a rate in KiB a second and disk")
    sub = plain("counters", counters, "Print the writer's counter found on raw images of its disks.")
    sub.add_argument("--on", choices=MACHINES, metavar="HOST", help="the machine that has the images, if not this box")
    sub.add_argument("images", nargs="+", metavar="IMAGE", help="raw images")
    text = "Boot raw images with a plain QEMU, leaving them unchanged, until the guest is up."
    sub = plain("boot-raw", boot_raw, text)
    sub.add_argument("host", choices=MACHINES, metavar="HOST", help="the machine that has the images")
    sub.add_argument("images", nargs="+", metavar="IMAGE", help="raw images, the one to boot from first")
    sub.add_argument("--uefi", action="store_true", help="with UEFI firmware and empty NVRAM")
    add_timeout(sub)


def add_timeout(sub: argparse.ArgumentParser) -> None:
    """Add the option of commands that wait."""
    text = f"how long at most ({WAIT_SECONDS})"
    sub.add_argument("--timeout", type=int, default=WAIT_SECONDS, metavar="SECONDS", help=text)


def add_create(sub: argparse.ArgumentParser) -> None:
    """Add the options of ``create``."""
    sub.add_argument("host", choices=MACHINES, metavar="HOST", help="the machine")
    sub.add_argument("name", help="the guest; its UUID, MAC and IP address follow from its name")
    kinds = "; ".join(f"{name}: {kind.summary}" for name, kind in KINDS.items())
    sub.add_argument("--kind", choices=KINDS, default="two-disk", help=f"{kinds} (two-disk)")
    sub.add_argument("--size", type=int, metavar="MIB", help="size of the first disk")
    sub.add_argument("--second-size", type=int, metavar="MIB", help="size of the second disk")
    sub.add_argument("--format", choices=("qcow2", "raw"), help="format of the first disk")
    sub.add_argument("--second-format", choices=("qcow2", "raw"), help="format of the second disk")
    sub.add_argument("--memory", type=int, metavar="MIB", help="memory")
    sub.add_argument("--type", default="qemu", help="libvirt's domain type: qemu, which works everywhere, or kvm")
    sub.add_argument("--no-agent", action="store_true", help="give it no guest agent")
    sub.add_argument("--tpm", action="store_true", help="give it an emulated TPM, whose state lies on the machine")
    sub.add_argument("--no-writer", action="store_true", help="have it write nothing until told to")
    sub.add_argument("--no-mount", action="store_true", help="have it leave its disks alone once it is up")
    sub.add_argument("--rate", type=int, default=1024, metavar="KIB", help="random data a second and disk (1024)")
    sub.add_argument("--start", action="store_true", help="start it and wait until it is up")


def dispatch(lab: Lab, options: argparse.Namespace) -> int | None:
    """Do what was asked about guests."""
    if options.plain_action:
        plain: PlainAction = options.plain_action
        return plain(lab, options)
    action: GuestAction = options.guest_action
    return action(lab, guests.locate(lab, options.name, options.on), options)


def guest_from(options: argparse.Namespace) -> Guest:
    """Return the guest that was asked for."""
    guest = Guest.of_kind(options.name, options.kind)
    guest = guest.with_disk("vda", size_mib=options.size, image_format=options.format)
    guest = guest.with_disk("vdb", size_mib=options.second_size, image_format=options.second_format)
    return replace(
        guest,
        memory_mib=options.memory or guest.memory_mib,
        domain_type=options.type,
        agent=not options.no_agent,
        writer=not (options.no_writer or options.no_mount),
        mount=not options.no_mount,
        rate_kib=options.rate,
        tpm=options.tpm,
    )


def create(lab: Lab, options: argparse.Namespace) -> None:
    """Run ``lab guest create``."""
    guest = guest_from(options)
    guests.create(lab, options.host, guest)
    if options.start:
        guests.virsh(lab, options.host, "start", guest.name)
        guests.wait(lab, options.host, guest.name, WAIT_SECONDS)


def show_list(lab: Lab, _options: argparse.Namespace) -> None:
    """Run ``lab guest list``."""
    for line in guests.listing(lab):
        print(line)


def counters(lab: Lab, options: argparse.Namespace) -> None:
    """Run ``lab guest counters``."""
    for number in guests.counters(lab, options.on, options.images):
        print(number)


def boot_raw(lab: Lab, options: argparse.Namespace) -> None:
    """Run ``lab guest boot-raw``."""
    print(guests.boot_raw(lab, options.host, options.images, uefi=options.uefi, seconds=options.timeout))


def start(lab: Lab, host: str, options: argparse.Namespace) -> None:
    """Run ``lab guest start``."""
    guests.virsh(lab, host, "start", options.name)


def wait(lab: Lab, host: str, options: argparse.Namespace) -> None:
    """Run ``lab guest wait``."""
    guests.wait(lab, host, options.name, options.timeout)


def stop(lab: Lab, host: str, options: argparse.Namespace) -> None:
    """Run ``lab guest stop``."""
    guests.stop(lab, host, options.name, options.timeout)


def destroy(lab: Lab, host: str, options: argparse.Namespace) -> None:
    """Run ``lab guest destroy``."""
    guests.virsh(lab, host, "destroy", options.name)


def kill(lab: Lab, host: str, options: argparse.Namespace) -> None:
    """Run ``lab guest kill``."""
    guests.kill(lab, host, options.name)


def remove(lab: Lab, host: str, options: argparse.Namespace) -> None:
    """Run ``lab guest remove``."""
    guests.remove(lab, host, options.name)


def xml(lab: Lab, host: str, options: argparse.Namespace) -> None:
    """Run ``lab guest xml``."""
    print(guests.virsh(lab, host, "dumpxml", options.name))


def console(lab: Lab, host: str, options: argparse.Namespace) -> int:
    """Run ``lab guest console``."""
    words = [*in_machine(lab, host), "cat", guests.SERIAL_LOG.format(name=options.name)]
    os.execvp(words[0], words)


def execute(lab: Lab, host: str, options: argparse.Namespace) -> int:
    """Run ``lab guest exec``."""
    return run_in_guest(lab, host, options.name, options.words)


def writer(lab: Lab, host: str, options: argparse.Namespace) -> int:
    """Run ``lab guest writer``."""
    return run_in_guest(lab, host, options.name, ["writerctl", options.wish])


def run_in_guest(lab: Lab, host: str, name: str, words: Sequence[str]) -> int:
    """Run a command in a guest, and pass on what it printed and its exit code."""
    code, out, err = guests.execute(lab, host, name, words)
    sys.stdout.buffer.write(out)
    sys.stdout.flush()
    sys.stderr.buffer.write(err)
    return code
