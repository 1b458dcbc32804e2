# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the journal of a VM."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _journal
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError

NOW = datetime(2026, 1, 14, 2, tzinfo=timezone.utc)


def said(what: str, epoch: int = 1) -> dict[str, object]:
    return _journal.entry(NOW, "AWX job 7 of mary", what, "a test", epoch, "a", {"a": "silent"})


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = str(tmp_path / "journal.jsonl")
    for number in range(1, 4):
        _journal.append(path, said(f"step {number}", number))
    return path


def test_an_entry_says_who_what_why_and_on_which_evidence(path: str) -> None:
    last = _journal.read(path)[-1]
    assert (last["who"], last["what"], last["why"], last["when"]) == (
        "AWX job 7 of mary",
        "step 3",
        "a test",
        "2026-01-14T02:00:00Z",
    )
    assert (last["epoch"], last["active"], last["evidence"], last["number"]) == (3, "a", {"a": "silent"}, 3)


def test_the_last_of_a_kind_is_found_whatever_became_of_the_others(path: str) -> None:
    assert _journal.last(path, "stop") is None
    _journal.append(path, said("stop", 4))
    _journal.append(path, said("a step", 5))
    whole = Path(path).read_bytes()
    # What another entry says of it, or one that was altered, is no such entry.
    _journal.append(path, _journal.entry(NOW, "eve", "note", 'as if by "what": "stop"', 6, "a"))
    with open(path, "ab") as stream:
        stream.write(whole.splitlines()[3].replace(b'"epoch": 4', b'"epoch": 9') + b"\n" + b'{"what": "stop"')
    found = _journal.last(path, "stop")
    assert found and (found["what"], found["epoch"]) == ("stop", 4)
    assert _journal.last(path + ".none", "stop") is None


def test_each_entry_names_the_one_before(path: str) -> None:
    entries = _journal.read(path)
    assert [entry["previous"] for entry in entries] == ["0" * 64, entries[0]["digest"], entries[1]["digest"]]


def test_what_a_power_cut_left_of_an_entry_is_passed_over_and_overwritten(path: str) -> None:
    with open(path, "ab") as stream:
        stream.write(b'{"what": "half an en')
    assert len(_journal.read(path)) == 3
    _journal.append(path, said("step 4"))
    assert [entry["what"] for entry in _journal.read(path)] == ["step 1", "step 2", "step 3", "step 4"]


@pytest.mark.parametrize("fault", ["altered", "removed", "repeated", "exchanged", "no JSON", "forged"])
def test_a_journal_that_was_tampered_with_is_neither_read_nor_continued(path: str, fault: str) -> None:
    lines = Path(path).read_text().splitlines(keepends=True)
    forged = {**json.loads(lines[1]), "who": "nobody"}
    forged["digest"] = _journal._digest(forged)
    changed = {
        "altered": [lines[0], lines[1].replace("step 2", "step 9"), lines[2]],
        "removed": [lines[0], lines[2]],
        "repeated": [lines[0], lines[1], lines[1], lines[2]],
        "exchanged": [lines[1], lines[0], lines[2]],
        "no JSON": [lines[0], "nonsense\n", lines[2]],
        # Its own digest is right; that the next one names another is what gives it away.
        "forged": [lines[0], json.dumps(forged) + "\n", lines[2]],
    }[fault]
    Path(path).write_text("".join(changed))
    for act in (lambda: _journal.read(path), lambda: _journal.append(path, said("step 4"))):
        with pytest.raises(ResilientVmError, match=r"journal.jsonl was altered: line \d is not what was written there"):
            act()


@given(cut=st.integers(min_value=0, max_value=5000))
def test_cut_anywhere_it_holds_whole_entries_from_the_first_on(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = str(tmp_path_factory.mktemp("journal") / "journal.jsonl")
    for number in range(4):
        _journal.append(path, said(f"step {number}"))
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[:cut])
    found = [entry["what"] for entry in _journal.read(path)]
    assert found == [f"step {number}" for number in range(len(found))]
    _journal.append(path, said("next"))
    assert [entry["what"] for entry in _journal.read(path)] == [*found, "next"]
