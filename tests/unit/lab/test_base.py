# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shared base: what its name depends on."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab.rvmlab import base, guestkit
from lab.rvmlab.config import RELEASES, Lab


def test_every_release_has_a_base_of_its_own(tmp_path: Path) -> None:
    lab = Lab(state=tmp_path, cache=tmp_path)
    assert len({base.base_path(lab, release) for release in RELEASES}) == len(RELEASES)


def test_changed_packages_make_a_new_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(state=tmp_path, cache=tmp_path)
    before = base.base_path(lab, "bookworm")
    monkeypatch.setattr(base, "BASE_PACKAGES", (*base.BASE_PACKAGES, "hello"))
    assert base.base_path(lab, "bookworm") != before


def test_changed_guest_script_makes_a_new_kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(state=tmp_path, cache=tmp_path)
    before = guestkit.kit_path(lab)
    changed = {**guestkit.sources(), "init": "#!/bin/sh\n"}
    monkeypatch.setattr(guestkit, "sources", lambda: changed)
    assert guestkit.kit_path(lab) != before
