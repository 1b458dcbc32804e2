# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the guests."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace

from . import guests
from .config import MACHINES, Lab
from .domain import KINDS, Guest
from .machine import in_machine

__all__ = ["add_commands", "dispatch"]


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the guests' commands to the parser of ``lab guest``."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def command(name: str, text: str, *, guest: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        if guest:
            sub.add_argument("name", help="the guest")
            sub.add_argument("--on", choices=MACHINES, metavar="HOST", help="the machine, when both know the guest")
        return sub

    sub = command("create", "Make a guest and its disks on a machine.", guest=False)
    sub.add_argument("host", choices=MACHINES, metavar="HOST", help="the machine")
    sub.add_argument("name", help="the guest; its UUID, MAC and IP address follow from its name")
    kinds = "; ".join(f"{name}: {kind.summary}" for name, kind in KINDS.items())
    sub.add_argument("--kind", choices=KINDS, default="two-disk", help=kinds)
    sub.add_argument("--size", type=int, metavar="MIB", help="size of the first disk")
    sub.add_argument("--second-size", type=int, metavar="MIB", help="size of the second disk")
    sub.add_argument("--format", choices=("qcow2", "raw"), help="format of the first disk")
    sub.add_argument("--second-format", choices=("qcow2", "raw"), help="format of the second disk")
    sub.add_argument("--memory", type=int, metavar="MIB", help="memory")
    sub.add_argument("--type", default="qemu", help="libvirt's domain type: qemu emulates and works everywhere, or kvm")
    sub.add_argument("--no-agent", action="store_true", help="give it no guest agent")
    sub.add_argument("--no-writer", action="store_true", help="have it write nothing until told to")
    sub.add_argument("--rate", type=int, default=1024, metavar="KIB", help="random data it writes to each disk in a second")
    sub.add_argument("--start", action="store_true", help="start it and wait until it is up")
    command("list", "Show the guests, where they are and how.", guest=False)
    command("start", "Start a guest without waiting for it.")
    for name, text in (("wait", "Wait until a guest is up."), ("stop", "Shut a guest down as its owner would, and wait.")):
        command(name, text).add_argument("--timeout", type=float, default=120, metavar="SECONDS", help="how long at most")
    command("destroy", "Pull a guest's plug.")
    command("kill", "Kill a guest's QEMU process, as a crash of it would.")
    command("remove", "Remove a guest, its definition and its disks.")
    command("xml", "Print a guest's libvirt definition.")
    command("console", "Print what a guest said on its serial console since it was started.")
    sub = command("exec", "Run a command in a guest through its agent; output and exit code are passed on.")
    sub.add_argument("words", nargs=argparse.REMAINDER, metavar="CMD", help="the command and its arguments")
    sub = command("writer", "Show or set what a guest's writer does.")
    sub.add_argument("wish", nargs="?", default="status", help="on, off, status, or a rate in KiB a second and disk")
    sub = command("counters", "Print the writer's counter found on raw images of its disks.", guest=False)
    sub.add_argument("--on", choices=MACHINES, metavar="HOST", help="the machine that has the images, if not this box")
    sub.add_argument("images", nargs="+", metavar="IMAGE", help="raw images")
    sub = command("boot-raw", "Boot raw images with a plain QEMU, leaving them unchanged, until the guest is up.", guest=False)
    sub.add_argument("host", choices=MACHINES, metavar="HOST", help="the machine that has the images")
    sub.add_argument("images", nargs="+", metavar="IMAGE", help="raw images, the one to boot from first")
    sub.add_argument("--uefi", action="store_true", help="with UEFI firmware and empty NVRAM")
    sub.add_argument("--timeout", type=int, default=120, metavar="SECONDS", help="how long at most")


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
        writer=not options.no_writer,
        rate_kib=options.rate,
    )


def dispatch(lab: Lab, options: argparse.Namespace) -> int:
    """Do what was asked of a guest, and return the exit code."""
    match options.action:
        case "create":
            guest = guest_from(options)
            guests.create(lab, options.host, guest)
            if options.start:
                guests.virsh(lab, options.host, "start", guest.name)
                guests.wait(lab, options.host, guest.name, 120)
            return 0
        case "list":
            print("\n".join(guests.listing(lab)))
            return 0
        case "counters":
            print("\n".join(str(number) for number in guests.counters(lab, options.on, options.images)))
            return 0
        case "boot-raw":
            print(guests.boot_raw(lab, options.host, options.images, uefi=options.uefi, seconds=options.timeout))
            return 0
    name: str = options.name
    host = guests.locate(lab, name, options.on)
    match options.action:
        case "start" | "destroy":
            guests.virsh(lab, host, options.action, name)
        case "wait":
            guests.wait(lab, host, name, options.timeout)
        case "stop":
            guests.stop(lab, host, name, options.timeout)
        case "kill":
            guests.kill(lab, host, name)
        case "remove":
            guests.remove(lab, host, name)
        case "xml":
            print(guests.virsh(lab, host, "dumpxml", name))
        case "console":
            words = [*in_machine(lab, host), "cat", guests.SERIAL_LOG.format(name=name)]
            os.execvp(words[0], words)
        case "exec" | "writer":
            words = options.words if options.action == "exec" else ["writerctl", options.wish]
            code, out, err = guests.execute(lab, host, name, words)
            sys.stdout.buffer.write(out)
            sys.stdout.flush()
            sys.stderr.buffer.write(err)
            return code
    return 0
