# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a running machine's writes and flushes take, as its disk device sees them.

Usage: latency.py DOMAIN begin|end. ``begin`` forgets what was; ``end`` prints, as JSON, for writes and for flushes the
bounds in nanoseconds and how many requests fell between them.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import libvirt
import libvirt_qemu

DEVICE = "/machine/peripheral/virtio-disk0/virtio-backend"
# From 10 µs to over 10 s, each 5 % above the last.
BOUNDS = [int(10_000 * 1.05**step) for step in range(290)]


def ask(domain: Any, command: str, **arguments: Any) -> Any:
    request = json.dumps({"execute": command, "arguments": arguments})
    answer = json.loads(libvirt_qemu.qemuMonitorCommand(domain, request, 0))
    if "error" in answer:
        sys.exit(f"{command}: {answer['error']['desc']}")
    return answer["return"]


def main() -> None:
    name, step = sys.argv[1:]
    domain = libvirt.open("qemu:///system").lookupByName(name)
    if step == "begin":
        names = {f"boundaries-{kind}": BOUNDS for kind in ("write", "flush")}
        ask(domain, "block-latency-histogram-set", id=DEVICE, **names)
        return
    (stats,) = (entry["stats"] for entry in ask(domain, "query-blockstats") if entry.get("qdev") == DEVICE)
    print(json.dumps({kind: stats[f"{kind}_latency_histogram"] for kind in ("wr", "flush")}))


main()
