# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about files that root handles where an account works."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import as_owner_of, read_json, reflink_works


def test_a_link_in_a_folders_place_gives_nobody_its_targets_rights(tmp_path: Path) -> None:
    """What it leads to is not even looked at."""
    link = tmp_path / "20260114T020000Z"
    link.symlink_to("/nowhere")
    with as_owner_of(str(link)):
        assert (os.geteuid(), os.getegid()) == (link.lstat().st_uid, link.lstat().st_gid)
    assert os.geteuid() == os.getuid()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.with_name("other.json").write_text("{}")
    path.symlink_to(path.with_name("other.json"))


@pytest.mark.parametrize(
    ("lay", "said"),
    [
        (_pipe, "can't be read (not a plain file)"),
        (_link, "can't be read (Too many levels of symbolic links)"),
        (Path.mkdir, "can't be read (not a plain file)"),
        (lambda path: path.write_text("[" * 100_000), "is damaged ("),
        (lambda path: path.write_text("{"), "is damaged ("),
    ],
)
def test_what_an_account_puts_in_a_documents_place_is_named_and_waited_for_by_nobody(
    tmp_path: Path, lay: Callable[[Path], object], said: str
) -> None:
    path = tmp_path / "manifest.json"
    lay(path)
    with pytest.raises(ResilientVmError) as caught:
        read_json(str(path))
    assert str(path) in str(caught.value) and said in str(caught.value)
    assert read_json(str(tmp_path / "none.json")) is None


@pytest.mark.parametrize("at", ["open", "write"])
def test_a_full_disk_is_not_taken_for_one_that_shares_no_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def full(*_given: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"os.{at}", full)
    with pytest.raises(ResilientVmError, match="has no space left"):
        reflink_works(str(tmp_path))
