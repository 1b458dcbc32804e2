# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes scattered blocks of noise through a running machine's own disk device, so that its dirty bitmap sees them.

Usage: scatter.py DOMAIN BLOCKS SPAN_BYTES SEED; the same arguments write the same. Prints the bytes written.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile

import libvirt
import libvirt_qemu

BLOCK = 64 << 10


def main() -> None:
    name, blocks, span, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    chance = random.Random(seed)
    domain = libvirt.open("qemu:///system").lookupByName(name)
    with tempfile.NamedTemporaryFile(dir="/var/lib/libvirt/images") as pattern:
        os.chmod(pattern.name, 0o644)
        device = "/machine/peripheral/virtio-disk0/virtio-backend"
        commands = []
        for place in sorted(chance.sample(range(span // BLOCK), blocks)):
            commands.append(f"write -s {pattern.name} {place * BLOCK} {BLOCK}")
        for command in [*commands, "flush"]:
            pattern.seek(0)
            pattern.write(chance.randbytes(BLOCK))
            pattern.flush()
            said = libvirt_qemu.qemuMonitorCommand(
                domain, f'qemu-io -d {device} "{command}"', libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
            )
            # What it did goes to QEMU's log; here it only says that it could not.
            if said.strip():
                sys.exit(f"{command}: {said}")
    print(blocks * BLOCK)


main()
