# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the lab."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from . import cgroups, guestcli, lifecycle, machine, network
from .config import DEFAULT_DISK, DEFAULT_RELEASE, MACHINES, RELEASES, Lab, LabError
from .guestkit import boot_files, give_kernel

__all__ = ["build_parser", "main"]

Action = Callable[[Lab, argparse.Namespace], int | None]


def assignment(text: str) -> tuple[str, str]:
    """Read ``a=VALUE``."""
    name, equals, value = text.partition("=")
    if not equals or not value or name not in MACHINES:
        raise argparse.ArgumentTypeError(f"{text} does not read MACHINE=VALUE with one of {', '.join(MACHINES)}")
    return name, value


def release_assignment(text: str) -> tuple[str, str]:
    """Read ``a=RELEASE``."""
    name, value = assignment(text)
    if value not in RELEASES:
        raise argparse.ArgumentTypeError(f"{value} is no release of the lab; choose from {', '.join(RELEASES)}")
    return name, value


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; each one carries the function that does it."""
    parser = argparse.ArgumentParser(
        prog="lab",
        description="Three systemd machines on one box: a and b run virtual machines, c stores backups. Needs root.",
        epilog="RVM_LAB_STATE moves the machines' folder, RVM_LAB_CACHE the cache that all labs share.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, action: Action, text: str, *, host: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(action=action)
        if host:
            sub.add_argument("host", choices=MACHINES, metavar="HOST", help="one of " + ", ".join(MACHINES))
        return sub

    def with_words(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("words", nargs=argparse.REMAINDER, metavar="CMD", help="the command and its arguments")

    sub = command("prepare", prepare, "Install what the box lacks and build what the cache lacks, starting nothing.")
    sub.add_argument("--release", choices=RELEASES, action="append", help="Debian releases to build machines' bases of")
    add_up(command("up", up, "Start machines, all by default, and build what the cache lacks."))
    sub = command("down", down, "Power machines off, all by default, and keep their disks.")
    sub.add_argument("hosts", nargs="*", metavar="HOST", help="machines to power off")
    sub = command("destroy", destroy, "Power everything off and remove the machines and their disks.")
    sub.add_argument("hosts", nargs="*", metavar="HOST", help="only these; `up` makes new ones, with new host keys")
    command("status", status, "Show the machines and how they are.")
    text = "Run a command as root inside a machine, without the network; its exit code is passed on."
    with_words(command("exec", execute, text, host=True))
    with_words(command("ssh", ssh, "Log in to a machine over the lab's network, or run a command there.", host=True))
    with_words(command("ctl", ctl, "Run a command on this box with the control node's view of the network."))
    command("crash", crash, "Kill every process of a machine at once; what it wrote reaches its disks.", host=True)
    command("powercut", powercut, "Pull a machine's plug: what it had not synced to its disks is lost.", host=True)
    command("freeze", freeze, "Stop a machine where it is, as if it hung.", host=True)
    command("thaw", freeze, "Let a frozen machine go on.", host=True)
    command("cut", cut, "Unplug a machine's network cable.", host=True)
    command("heal", heal, "Plug a machine's network cable in again.", host=True)
    sub = command("shape", shape, "Limit a machine's network both ways.", host=True)
    sub.add_argument("rate", help="a rate such as 200mbit, or off")
    command("kernel", kernel, "Give a machine the guests' kernel, for programs that boot one themselves.", host=True)
    guestcli.add_commands(command("guest", guestcli.dispatch, "Make and handle virtual machines on the machines."))
    # The supervisor of one machine, started by `up` in a mount namespace of its own.
    sub = commands.add_parser("_machine")
    sub.set_defaults(action=supervise)
    sub.add_argument("host", choices=MACHINES)
    return parser


def add_up(sub: argparse.ArgumentParser) -> None:
    """Add the options of ``up``."""
    sub.add_argument("hosts", nargs="*", metavar="HOST", help="machines to start")
    sub.add_argument("--release", choices=RELEASES, help=f"Debian release of machines not made yet ({DEFAULT_RELEASE})")
    sub.add_argument(
        "--release-of",
        type=release_assignment,
        action="append",
        default=[],
        metavar="HOST=RELEASE",
        help="Debian release of one machine not made yet; may be given several times",
    )
    sub.add_argument(
        "--disk",
        type=assignment,
        action="append",
        default=[],
        metavar="HOST=SIZE",
        help=f"size of the data disk of one machine not made yet ({DEFAULT_DISK}, sparse); may be given several times",
    )


def chosen(hosts: Sequence[str]) -> list[str]:
    """Return the machines named, or all."""
    unknown = [name for name in hosts if name not in MACHINES]
    if unknown:
        raise LabError(f"there is no machine {unknown[0]}; the lab has {', '.join(MACHINES)}")
    return list(hosts) or list(MACHINES)


def become(words: Sequence[str]) -> int:
    """Continue as another program, so that its exit code, input and output are this command's own."""
    sys.stdout.flush()
    os.execvp(words[0], list(words))


def prepare(lab: Lab, options: argparse.Namespace) -> None:
    """Run ``lab prepare``."""
    lifecycle.prepare(lab, options.release or [DEFAULT_RELEASE])


def up(lab: Lab, options: argparse.Namespace) -> None:
    """Run ``lab up``."""
    hosts = chosen(options.hosts)
    releases = dict.fromkeys(hosts, options.release) if options.release else {}
    lifecycle.up(lab, hosts, {**releases, **dict(options.release_of)}, dict(options.disk))


def down(lab: Lab, options: argparse.Namespace) -> None:
    """Run ``lab down``."""
    lifecycle.down(lab, chosen(options.hosts))


def destroy(lab: Lab, options: argparse.Namespace) -> None:
    """Run ``lab destroy``."""
    lifecycle.destroy(lab, chosen(options.hosts))


def status(lab: Lab, _options: argparse.Namespace) -> None:
    """Run ``lab status``."""
    print("\n".join(lifecycle.status_lines(lab)))


def execute(lab: Lab, options: argparse.Namespace) -> int:
    """Run ``lab exec``."""
    return become([*machine.as_in_machine(lab, options.host), *(options.words or ["bash", "--login"])])


def ssh(lab: Lab, options: argparse.Namespace) -> int:
    """Run ``lab ssh``."""
    if not lab.ssh_config.exists():
        raise LabError("the lab was never up; bring it up with `lab up`")
    return become(["ssh", "-F", str(lab.ssh_config), options.host, *options.words])


def ctl(lab: Lab, options: argparse.Namespace) -> int:
    """Run ``lab ctl``."""
    return become([*network.in_control_network(lab), *(options.words or ["bash"])])


def crash(lab: Lab, options: argparse.Namespace) -> None:
    """Run ``lab crash``."""
    lifecycle.crash(lab, options.host)


def powercut(lab: Lab, options: argparse.Namespace) -> None:
    """Run ``lab powercut``."""
    lifecycle.powercut(lab, options.host)


def freeze(lab: Lab, options: argparse.Namespace) -> None:
    """Run ``lab freeze`` or ``lab thaw``."""
    if not machine.running(lab, options.host):
        raise LabError(f"machine {options.host} is down")
    cgroups.freeze(lab, options.host, on=options.command == "freeze")


def cut(lab: Lab, options: argparse.Namespace) -> None:
    """Run ``lab cut``."""
    network.cut(lab, options.host)


def heal(lab: Lab, options: argparse.Namespace) -> None:
    """Run ``lab heal``."""
    network.heal(lab, options.host)


def shape(lab: Lab, options: argparse.Namespace) -> None:
    """Run ``lab shape``."""
    network.shape(lab, options.host, options.rate)


def kernel(lab: Lab, options: argparse.Namespace) -> None:
    """Run ``lab kernel``."""
    give_kernel(lab, options.host)


def supervise(lab: Lab, options: argparse.Namespace) -> int:
    """Run a machine until it is powered off."""
    return machine.supervise(lab, options.host, boot_files(lab))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the lab's command line."""
    options = build_parser().parse_args(arguments)
    if os.geteuid() != 0:
        print("lab: the lab makes namespaces, mounts and virtual machines, so it must be run as root", file=sys.stderr)
        return 2
    try:
        return options.action(Lab.from_environment(), options) or 0
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
