# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's network: a switch, the control node's view and each machine in namespaces of their own."""

from __future__ import annotations

import re
from pathlib import Path

from .config import CONTROL, MACHINES, PREFIX_LENGTH, Lab, LabError
from .shell import run

__all__ = [
    "cut",
    "existing_namespaces",
    "heal",
    "in_control_network",
    "link_state",
    "network_down",
    "network_up",
    "shape",
]

# Longest queueing delay of a shaped link before it drops.
SHAPE_LATENCY = "50ms"
SHAPE_BURST = "256kb"


def existing_namespaces(lab: Lab) -> list[str]:
    """Return the names of this lab's network namespaces that exist now."""
    folder = Path("/run/netns")
    return sorted(path.name for path in folder.glob(f"{lab.prefix}-*")) if folder.is_dir() else []


def network_up(lab: Lab) -> None:
    """Build what is missing of the network; the box's own namespace gets no interface."""
    existing = existing_namespaces(lab)
    switch = lab.netns("sw")
    if switch not in existing:
        run(["ip", "netns", "add", switch])
        ip_batch(switch, "link set lo up", "link add br0 type bridge", "link set br0 up")
    for member in (CONTROL, *MACHINES.values()):
        namespace = lab.netns(member.name)
        if namespace in existing:
            continue
        run(["ip", "netns", "add", namespace])
        port = f"p-{member.name}"
        cable = f"link add {port} type veth peer name eth0 netns {namespace}"
        ip_batch(switch, cable, f"link set {port} master br0 up")
        address = f"{member.address}/{PREFIX_LENGTH}"
        if member.libvirt:
            # The machine's address sits on a bridge, so that its guests are on the same LAN.
            ip_batch(
                namespace,
                "link set lo up",
                "link add vmbr0 type bridge",
                "link set eth0 master vmbr0 up",
                f"addr add {address} dev vmbr0",
                "link set vmbr0 up",
            )
        else:
            ip_batch(namespace, "link set lo up", f"addr add {address} dev eth0", "link set eth0 up")
        if member is not CONTROL:
            # It leads nowhere, but Ansible's facts take a machine's main address from its default route.
            ip_batch(namespace, f"route add default via {CONTROL.address}")


def network_down(lab: Lab) -> None:
    """Remove all namespaces of this lab, and with them every interface."""
    for namespace in existing_namespaces(lab):
        run(["ip", "netns", "del", namespace])


def ip_batch(namespace: str, *commands: str) -> None:
    """Run several ip commands inside a namespace in one process."""
    run(["ip", "-n", namespace, "-batch", "-"], stdin="\n".join(commands) + "\n")


def in_control_network(lab: Lab) -> list[str]:
    """Return the words that make a command run with the control node's view of the network."""
    return ["nsenter", f"--net=/run/netns/{present(lab, 'ctl')}", "--"]


def present(lab: Lab, name: str) -> str:
    """Return the name of a namespace that must exist."""
    namespace = lab.netns(name)
    if not (Path("/run/netns") / namespace).exists():
        raise LabError("the lab is down; bring it up with `lab up`")
    return namespace


def cut(lab: Lab, name: str) -> None:
    """Unplug a machine's network cable at the switch."""
    ip_batch(present(lab, "sw"), f"link set p-{name} down")


def heal(lab: Lab, name: str) -> None:
    """Plug a machine's network cable in again."""
    ip_batch(present(lab, "sw"), f"link set p-{name} up")


def link_state(lab: Lab, name: str) -> str:
    """Return ``plugged`` or ``cut``."""
    shown = run(["ip", "-n", lab.netns("sw"), "-brief", "link", "show", f"p-{name}"]).stdout
    # The flags say what was asked for; the state word also depends on the other end.
    return "plugged" if re.search(r"[<,]UP[,>]", shown) else "cut"


def shape(lab: Lab, name: str, rate: str) -> None:
    """Limit a machine's link to a rate such as ``200mbit`` both ways, or lift the limit with ``off``."""
    ends = ((present(lab, "sw"), f"p-{name}"), (present(lab, name), "eth0"))
    if rate != "off" and not re.fullmatch(r"\d+(\.\d+)?([kmg]?bit|[kmg]?bps)", rate):
        raise LabError(f"{rate} is no rate; say for example 200mbit, 10mbit or off")
    for namespace, device in ends:
        tc = ["ip", "netns", "exec", namespace, "tc", "qdisc"]
        if rate != "off":
            bucket = ["tbf", "rate", rate, "burst", SHAPE_BURST, "latency", SHAPE_LATENCY]
            run([*tc, "replace", "dev", device, "root", *bucket])
        elif "tbf" in run([*tc, "show", "dev", device]).stdout:
            run([*tc, "del", "dev", device, "root"])
