# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what of the mover's sources is carried to the machines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.edgecloud.resilient_vm.plugins.action import mover

ROOT = Path(__file__).resolve().parents[4]


def test_every_room_is_carried_and_nothing_else() -> None:
    assert set(mover.sources()) == {
        path.name for path in (ROOT / "plugins/module_utils").iterdir() if path.suffix == ".py"
    }


def test_the_rooms_the_mover_imports_need_no_ansible() -> None:
    """They run on machines that have none."""
    files = mover.sources()
    seen, todo = set(), {"_mover.py"}
    while todo:
        name = todo.pop()
        seen.add(name)
        text = files[name].decode()
        assert not re.search(r"^\s*(from|import) ansible", text, re.M), name
        for line in re.findall(r"^\s*from \.(\w*) import ([^\n(]+|\([^)]*\))", text, re.M):
            names = (
                [line[0]] if line[0] else [word.split(" as ")[0] for word in re.findall(r"\w+(?: as \w+)?", line[1])]
            )
            todo |= {f"{word}.py" for word in names} - seen
    assert {"_sender.py", "_receiver.py", "_age.py"} <= seen


def test_the_version_is_the_checkouts_or_the_artifacts(tmp_path: Path) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", mover.collection_version())
    (tmp_path / "MANIFEST.json").write_text(json.dumps({"collection_info": {"version": "4.5.6"}}))
    assert mover.collection_version(tmp_path) == "4.5.6"


def test_a_collection_without_its_sources_says_so(tmp_path: Path) -> None:
    with pytest.raises(AnsibleActionFail, match="install the collection again"):
        mover.sources(tmp_path)
