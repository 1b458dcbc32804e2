# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""meta/runtime.yml names what the collection has."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]


def test_the_action_group_names_every_module_and_nothing_else() -> None:
    group = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"]["resilient_vm"]
    modules = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
    assert group == modules


def test_every_action_plugin_stands_before_a_module_that_documents_it() -> None:
    modules = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}
    assert {path.stem for path in (ROOT / "plugins/action").glob("[!_]*.py")} <= modules
