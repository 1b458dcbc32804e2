# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One step of ours on a machine, without Ansible: the rooms its modules call, in the mover that site installed.

Usage: ours.py open|close|transfer|prune, with the arguments as JSON on standard input; prints JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

sys.path.insert(0, "/usr/local/lib/resilient-vm")

from resilient_vm_mover._layout import Layout
from resilient_vm_mover._process import run


def open_snapshot(layout: Layout, asked: dict[str, Any]) -> dict[str, Any]:
    from resilient_vm_mover import _snapshot_plan as rooms

    plan = rooms.plan_open(layout, run, rooms.Wish(**asked))
    return rooms.open_snapshot(layout, run, plan)


def close_snapshot(layout: Layout, asked: dict[str, Any]) -> dict[str, Any]:
    from resilient_vm_mover import _snapshot_plan as rooms

    plan = rooms.plan_close(layout, run, layout.vm, asked["keep_checkpoint"])
    rooms.close(layout, run, plan)
    return {"removed": list(plan.delete)}


def transfer(layout: Layout, asked: dict[str, Any]) -> dict[str, Any]:
    from resilient_vm_mover._transfer import Transfer

    work = Transfer(layout, asked["hop"], run)
    work.check(asked["image_id"], asked["peer"]["name"])
    token, _attached = work.begin(asked)
    result = work.wait(token, asked["image_id"])
    assert result is not None, "waited for without a limit"
    return result


def prune(layout: Layout, asked: dict[str, Any]) -> dict[str, Any]:
    from resilient_vm_mover import _prune as rooms

    return {"erased": [verdict.image.id for verdict in rooms.prune(layout, rooms.Wish(**asked)) if verdict.erase]}


_STEPS = {"open": open_snapshot, "close": close_snapshot, "transfer": transfer, "prune": prune}


def main() -> None:
    asked = json.load(sys.stdin)
    layout = Layout(asked.pop("customer"), asked.pop("vm"))
    json.dump(_STEPS[sys.argv[1]](layout, asked), sys.stdout)


main()
