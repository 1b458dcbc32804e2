# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check an image folder against docs/formats.md; shares no code with the product. Prints root digests as JSON.

Usage: check_image.py FOLDER
       check_image.py FOLDER FILE SIZE   prints the root digest of one raw file
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys

BLOCK = 65536
GROUP = 2048


def block_digest(block: bytes) -> bytes:
    return hashlib.sha256(block).digest() if block.strip(b"\0") else bytes(32)


def digests_of(path: str) -> bytes:
    digests = bytearray()
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK):
            digests += block_digest(block)
    return bytes(digests)


def root_of(digests: bytes, size: int) -> str:
    total = hashlib.sha256(b"resilient-vm root 1\n" + struct.pack(">QI", size, BLOCK))
    for at in range(0, len(digests), GROUP * 32):
        group = digests[at : at + GROUP * 32].ljust(GROUP * 32, b"\0")
        total.update(hashlib.sha256(group).digest() if any(group) else bytes(32))
    return total.hexdigest()


def check(folder: str) -> dict[str, str]:
    with open(os.path.join(folder, "manifest.json")) as stream:
        manifest = json.load(stream)
    roots = {}
    for disk in manifest["disks"]:
        path = os.path.join(folder, disk["file"])
        digests, size = digests_of(path), os.path.getsize(path)
        with open(os.path.join(folder, disk["digests"]), "rb") as stream:
            kept = stream.read()
        wrong = [at // 32 for at in range(0, len(digests), 32) if digests[at : at + 32] != kept[at : at + 32]]
        if wrong or len(kept) != len(digests) or size != disk["size_bytes"]:
            sys.exit(f"{path}: {size} bytes, blocks {wrong[:9]} are not what the digest file says")
        roots[disk["target"]] = root_of(digests, size)
        if roots[disk["target"]] != disk["root_digest"]:
            sys.exit(f"{path}: root digest {roots[disk['target']]}, manifest {disk['root_digest']}")
    for entry in manifest["definition"]:
        with open(os.path.join(folder, entry["name"]), "rb") as stream:
            if hashlib.sha256(stream.read()).hexdigest() != entry["sha256"]:
                sys.exit(f"{entry['name']} is not what the manifest says")
    return roots


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(root_of(digests_of(os.path.join(sys.argv[1], sys.argv[2])), int(sys.argv[3])))
    else:
        print(json.dumps(check(sys.argv[1])))
