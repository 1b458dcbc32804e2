# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the groups of machines that end side by side."""

from __future__ import annotations

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
