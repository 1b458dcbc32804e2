# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One digest of what a disk file holds, whatever its format and however it is allocated; prints it.

Usage: digest.py qcow2|raw FILE. Shares no code with the product.
"""

from __future__ import annotations

import hashlib
import sys

import nbd

CHUNK = 4 << 20
BLOCK = 64 << 10
ZEROS = bytes(BLOCK)


def digest(kind: str, path: str) -> str:
    handle = nbd.NBD()
    handle.add_meta_context("base:allocation")
    # Shared: the file may be a running machine's.
    options = f"driver={kind},force-share=on,file.driver=file,file.filename={path}"
    handle.connect_systemd_socket_activation(["qemu-nbd", "--read-only", "--image-opts", options])
    size, position = handle.get_size(), 0
    total = hashlib.sha256(str(size).encode())
    found: list[int] = []

    def extents(_context: str, _offset: int, entries: list[int], _error: object) -> int:
        found.extend(entries)
        return 0

    done = 0
    while position < size:
        found.clear()
        handle.block_status(min(size - position, 1 << 30), position, extents)
        for length, flags in zip(found[::2], found[1::2], strict=True):
            end = min(position + length, size)
            # In whole blocks from the disk's start, so that the extents' borders do not show in the digest.
            done = max(done, position // BLOCK * BLOCK)
            while not flags & nbd.STATE_ZERO and done < end:
                data = handle.pread(min(CHUNK, size - done, -(-(end - done) // BLOCK) * BLOCK), done)
                for at in range(0, len(data), BLOCK):
                    block = data[at : at + BLOCK]
                    if block != ZEROS[: len(block)]:
                        total.update(str(done + at).encode())
                        total.update(block)
                done += len(data)
            position = end
    handle.shutdown()
    return total.hexdigest()


print(digest(sys.argv[1], sys.argv[2]))
