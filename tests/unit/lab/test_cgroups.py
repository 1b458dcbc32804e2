# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the groups of machines that end side by side."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from lab.rvmlab import cgroups


def test_the_labs_group_goes_with_its_last_machine_whoever_was_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab: Any = object()
    monkeypatch.setattr(cgroups, "groups", lambda _lab, name: [tmp_path / "rvm" / name])
    for name in "ab":
        (tmp_path / "rvm" / name / "inner").mkdir(parents=True)
    cgroups.remove(lab, "a")
    assert (tmp_path / "rvm" / "b" / "inner").is_dir()
    cgroups.remove(lab, "b")
    assert not (tmp_path / "rvm").exists()
    cgroups.remove(lab, "b")


def test_a_command_is_in_the_groups_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab: Any = object()
    groups = [tmp_path / "it's one", tmp_path / "two"]
    monkeypatch.setattr(cgroups, "groups", lambda _lab, _name: groups)
    words = [*cgroups.entering(lab, "a"), "cat", *(str(group / "cgroup.procs") for group in groups)]
    failed = subprocess.run(words, capture_output=True, text=True, check=False)
    assert failed.returncode != 0 and not failed.stdout
    for group in groups:
        group.mkdir()
    # A kernel takes 0 for whoever writes it.
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "0\n0\n"
