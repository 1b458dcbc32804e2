#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move one image of one VM: active host to backup storage, backup storage to standby, or to a restore."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_transfer
short_description: Copy a VM's image to the backup storage or on to the standby host
version_added: 0.1.0
description:
  - Runs on the backup storage. With O(hop=fetch) it copies the snapshot that is open on the active host and
    publishes it as an image. With O(hop=refresh) it copies an image to the standby host, where it becomes a generation.
    With O(hop=restore) it copies one to a host where M(edgecloud.resilient_vm.image_restore) lays it afterwards.
  - The copy runs in a transient systemd unit. A killed playbook does not stop it; the next run of this module attaches
    to it.
  - Only blocks that differ from the receiver's newest image travel. How they were found is in RV(disks[].found_by).
  - Every block is checked against its digest on arrival, and nothing is published before all of them were.
  - A broken link is tried again, and what arrived before serves.
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
extends_documentation_fragment:
  - edgecloud.resilient_vm.common
  - edgecloud.resilient_vm.common.vm
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  hop:
    description: Which way the image goes.
    type: str
    required: true
    choices: [fetch, refresh, restore]
  image_id:
    description: Id of the image, which is the snapshot's for O(hop=fetch).
    type: str
    required: true
  peer:
    description: The machine at the other end, as the backup storage reaches it.
    type: dict
    required: true
    suboptions:
      name:
        description: Its inventory name, for messages and the manifest.
        type: str
        required: true
      address:
        description: Its address.
        type: str
        required: true
      port:
        description: Port of its ssh server.
        type: int
        default: 22
  base:
    description: With O(hop=restore) in check mode, the newest generation of that host, for RV(moving_bytes).
    type: str
  reread_share:
    description:
      - With O(hop=fetch), one part in so many of each disk's data is read again on the active host although the dirty
        bitmap calls it unchanged, a different part each time.
    type: int
    default: 14
  compression:
    description:
      - Whether blocks are compressed on their way. V(auto) compresses where the link and the data show that it is
        faster, V(off) never; a number is zstd's level, 1 to 19, always used.
      - Without python3-zstandard on both machines nothing is compressed, and RV(compression) says so.
    type: str
    default: auto
  streams:
    description:
      - Over how many connections of ssh the data travels; of each OpenSSH lets no more than 2 MiB be under way.
      - V(auto) opens three more when the other machine is over 5 ms away and the first one is seen to bring what its
        window allows; V(1) to V(8) opens so many at once.
    type: str
    choices: [auto, "1", "2", "3", "4", "5", "6", "7", "8"]
    default: auto
  limits:
    description: What the copy keeps to.
    type: dict
    default: {}
    suboptions:
      rate:
        description: Bytes per second of this copy; 0 for as much as there is.
        type: int
        default: 0
      machine_rate:
        description: Bytes per second of all copies on this backup storage together; 0 for as much as there is.
        type: int
        default: 0
      transfers:
        description: So many copies run at once on this backup storage; the others wait.
        type: int
        default: 4
      window:
        description: Hours of the day in which data travels, like V(22:00-06:00); outside of them the copy pauses.
        type: str
      timezone:
        description: Time zone of O(limits.window).
        type: str
        default: UTC
      nice:
        description: Nice level of the copy's processes on both machines.
        type: int
        default: 10
  full_copies:
    description: Accept a filesystem on which files can't share blocks, and copy whole disks there.
    type: bool
    default: false
  wait_seconds:
    description:
      - Come back with RV(running=true) and RV(progress) when the copy still runs after so many seconds; without it,
        wait to the end. On the control node the module is called again and again so, and shows the progress in between.
    type: float
  token:
    description: The copy whose end is waited for, RV(token) of an earlier call; none is started then.
    type: str
  attached:
    description: With O(token), what that earlier call returned as RV(attached).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Copy the open snapshot of erp to the backup storage
  edgecloud.resilient_vm.image_transfer:
    hop: fetch
    customer: acme
    vm: erp
    image_id: 20260114T020000Z
    peer:
      name: a
      address: 192.0.2.11
  delegate_to: c

- name: Bring the standby of erp to that image
  edgecloud.resilient_vm.image_transfer:
    hop: refresh
    customer: acme
    vm: erp
    image_id: 20260114T020000Z
    peer:
      name: b
      address: 198.51.100.12
  delegate_to: c
"""

RETURN = r"""
running:
  description: The copy still runs.
  returned: with O(wait_seconds), when it did not end in that time
  type: bool
  sample: true
token:
  description: Names this copy.
  returned: when RV(running)
  type: str
  sample: 0d1c6e3c7b7c4d2fb1f3c2a3a8a4f5d1
progress:
  description: How far it is; see docs/formats.md.
  returned: when RV(running)
  type: dict
  sample:
    hop: fetch
    image_id: 20260114T020000Z
    started: "2026-01-14T02:00:03Z"
    updated: "2026-01-14T02:10:03Z"
    disk: vda
    found_by: allocation
    done_bytes: 75497472
    total_bytes: 268435456
    bytes_per_second: 12582912
    seconds_left: 15
    bytes_sent: 75534336
image_id:
  description: Id of the image.
  returned: success
  type: str
  sample: 20260114T020000Z
published:
  description: Whether the receiver holds it as a complete image now.
  returned: success
  type: bool
  sample: true
moving_bytes:
  description: How much would travel at most, in bytes, before compression.
  returned: in check mode with O(hop=restore)
  type: int
  sample: 1114112
attached:
  description: Whether a transfer was found running rather than started.
  returned: when a transfer ran
  type: bool
  sample: false
bytes_sent:
  description: Bytes that travelled in both directions, digests and headers included, without what ssh adds.
  returned: when a transfer ran
  type: int
  sample: 1180231
seconds:
  description: Time the transfer took, in seconds.
  returned: when a transfer ran
  type: float
  sample: 0.934
compression:
  description: What was done about compression, V(off) or V(zstd) with the mode, and why it could not be done.
  returned: when a transfer ran
  type: str
  sample: zstd auto
streams:
  description: Over how many connections data travelled.
  returned: when a transfer ran
  type: int
  sample: 1
streams_reason:
  description: Why a connection besides the first could not be used; empty when there is nothing to tell.
  returned: when a transfer ran
  type: str
  sample: ""
limits:
  description: The limits that were in force.
  returned: when a transfer ran
  type: dict
  sample:
    rate: 0
    machine_rate: 0
    transfers: 4
    window: null
    timezone: UTC
    nice: 10
consistency:
  description: What the image is worth to a file system, V(filesystem), V(crash) or V(offline).
  returned: when a transfer ran
  type: str
  sample: filesystem
disks:
  description: For each disk how changed blocks were found and what that cost.
  returned: when a transfer ran
  type: list
  elements: dict
  sample:
    - target: vda
      size_bytes: 268435456
      found_by: bitmap
      reason: ""
      bytes_read: 20316160
      bytes_sent: 1114112
      changed_bytes: 1114112
      resumed_bytes: 0
      reread_bytes: 19202048
      root_digest: 5a8a2d0c2b6f3f5e7fd25cf1f1a7a9be4bb1dd4b9d95e0f9a1bd4c6c33a8de10
  contains:
    target:
      description: Target name of the disk in the domain.
      type: str
    found_by:
      description: V(bitmap), V(digests) or V(allocation).
      type: str
    reason:
      description: Why nothing better than RV(disks[].found_by) could be used; empty when it was the best.
      type: str
    bytes_read:
      description: Bytes read at the sender.
      type: int
    bytes_sent:
      description: Bytes of blocks and their digests that travelled.
      type: int
    changed_bytes:
      description: Bytes of the blocks that differ from the receiver's newest image.
      type: int
    resumed_bytes:
      description: Bytes that an interrupted transfer had brought already.
      type: int
    reread_bytes:
      description: Bytes read again although the bitmap called them unchanged.
      type: int
    root_digest:
      description: Digest that stands for the whole disk, the same on all machines.
      type: str
bitmap_mismatches:
  description: Blocks the bitmap called unchanged that were not. The image is right all the same, without the bitmap.
  returned: when a transfer ran
  type: int
  sample: 0
missed:
  description: Where the first hundred of these blocks are.
  returned: when a transfer ran
  type: list
  elements: dict
  sample: []
damaged:
  description: Blocks of the receiver's newest image that were found damaged; they were fetched again for this one.
  returned: when a transfer ran
  type: list
  elements: dict
  sample: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._arguments import vm_spec
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._restore_store import moving_bytes
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._transfer import Transfer


def argument_spec() -> dict[str, Any]:
    return {
        **vm_spec(),
        "hop": {"type": "str", "required": True, "choices": ["fetch", "refresh", "restore"]},
        "image_id": {"type": "str", "required": True},
        "peer": {
            "type": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "address": {"type": "str", "required": True},
                "port": {"type": "int", "default": 22},
            },
        },
        "base": {"type": "str"},
        "reread_share": {"type": "int", "default": 14},
        "compression": {"type": "str", "default": "auto"},
        "streams": {"type": "str", "choices": ["auto", *map(str, range(1, 9))], "default": "auto"},
        "limits": {
            "type": "dict",
            "default": {},
            "apply_defaults": True,
            "options": {
                "rate": {"type": "int", "default": 0},
                "machine_rate": {"type": "int", "default": 0},
                "transfers": {"type": "int", "default": 4},
                "window": {"type": "str"},
                "timezone": {"type": "str", "default": "UTC"},
                "nice": {"type": "int", "default": 10},
            },
        },
        "full_copies": {"type": "bool", "default": False},
        "wait_seconds": {"type": "float"},
        "token": {"type": "str", "no_log": False},
        "attached": {"type": "bool", "default": False},
    }


def newest_id(layout: Layout) -> str | None:
    newest = Store(layout).newest()
    return newest.id if newest else None


def estimate(layout: Layout, wanted: dict[str, Any]) -> dict[str, Any]:
    """What can be told beforehand: of an image that lies here already, how much of it will travel."""
    if wanted["hop"] != "restore":
        return {}
    return {"moving_bytes": moving_bytes(Store(layout), wanted["image_id"], wanted["base"])}


def main() -> None:
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    wanted = module.params
    try:
        layout = Layout(wanted["customer"], wanted["vm"], wanted["root"])
        transfer = Transfer(layout, wanted["hop"], run)
        transfer.check(wanted["image_id"], wanted["peer"]["name"])
        before = newest_id(layout)
        if not wanted["token"] and transfer.published(wanted["image_id"]):
            module.exit_json(changed=False, image_id=wanted["image_id"], published=True)
        if module.check_mode:
            module.exit_json(changed=True, image_id=wanted["image_id"], published=False, **estimate(layout, wanted))
        request = {
            name: wanted[name]
            for name in ("hop", "image_id", "peer", "reread_share", "compression", "streams", "limits", "full_copies")
        }
        token, attached = (wanted["token"], wanted["attached"]) if wanted["token"] else transfer.begin(request)
        result = transfer.wait(token, wanted["image_id"], wanted["wait_seconds"])
        after = newest_id(layout)
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    if result is None:
        module.exit_json(changed=True, running=True, token=token, attached=attached, progress=transfer.running() or {})
        return
    diff = {"before": {"newest_image": before}, "after": {"newest_image": after}}
    del result["token"]
    module.exit_json(changed=not result.pop("already", False), diff=diff, attached=attached, **result)


if __name__ == "__main__":
    main()
