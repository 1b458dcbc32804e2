# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about a transfer that runs already: the same one is attached to, another one is named and waited for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from unit.engine_fakes import IDS, Disk, Snapshot, blocks, make_layout, transfer
from unit.libvirt_fakes import World, said

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import write_json
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._progress import transfer_file
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._transfer import Transfer


@pytest.mark.parametrize(("image_id", "peer"), [(IDS[0], "a"), (IDS[1], "b")])
def test_another_restore_than_the_one_that_runs_has_to_wait(tmp_path: Path, image_id: str, peer: str) -> None:
    layout = make_layout(tmp_path)
    os.mkdir(layout.transfer)
    for made in IDS[:2]:
        transfer(Snapshot(made, [Disk("vda", blocks(3))], None), Store(layout))
    request = {"image_id": IDS[0], "token": "t", "peer": {"name": "b"}}
    write_json(transfer_file(layout, "restore", "request"), request)
    restore = Transfer(layout, "restore", World({"systemctl show": said("active")}))
    restore.check(IDS[0], "b")
    assert restore.begin(request) == ("t", True)
    with pytest.raises(
        ResilientVmError, match=f"a transfer of image {IDS[0]} of acme/erp, with b, runs since .*; wait"
    ):
        restore.check(image_id, peer)
