# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the keys that are laid on machines: made once, and whole after a power cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _tree
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import run

NAME = "acme/erp@a"


def lay(path: Path) -> tuple[str | None, bool]:
    """The key's public line, and whether anything was changed for it; whoever runs the test is every account."""
    tree = _tree.Tree(dry=False, identity=lambda _name: (os.getuid(), os.getgid()))
    line = tree.key(str(path), NAME, "root", "root", run)
    return line, tree.changed


def test_a_key_is_made_once(tmp_path: Path) -> None:
    line, changed = lay(tmp_path / "key")
    assert changed and line is not None and line.startswith("ssh-ed25519 ") and line.strip().endswith(NAME)
    assert lay(tmp_path / "key") == (line, False)
    assert sorted(os.listdir(tmp_path)) == ["key", "key.pub"]


@pytest.mark.parametrize("half", ["key", "key.pub"])
def test_what_a_power_cut_left_of_a_key_is_no_key(tmp_path: Path, half: str) -> None:
    line, _changed = lay(tmp_path / "key")
    (tmp_path / half).write_bytes(b"")
    again, changed = lay(tmp_path / "key")
    assert changed and again != line
    assert (tmp_path / "key").read_bytes() and (tmp_path / "key.pub").read_text() == again


def test_a_key_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    real = os.rename
    monkeypatch.setattr(_tree, "fsync_tree", lambda _place: told.append("synced"))
    monkeypatch.setattr(_tree, "fsync_directory", lambda _folder: told.append("named for good"))
    monkeypatch.setattr(_tree.os, "rename", lambda *names: (told.append("named"), real(*names)))
    lay(tmp_path / "key")
    assert told == ["synced", "named", "named", "named for good"]
