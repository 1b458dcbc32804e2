# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about files that root handles where an account works."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import as_owner_of


def test_a_link_in_a_folders_place_gives_nobody_its_targets_rights(tmp_path: Path) -> None:
    """What it leads to is not even looked at."""
    link = tmp_path / "20260114T020000Z"
    link.symlink_to("/nowhere")
    with as_owner_of(str(link)):
        assert (os.geteuid(), os.getegid()) == (link.lstat().st_uid, link.lstat().st_gid)
    assert os.geteuid() == os.getuid()
