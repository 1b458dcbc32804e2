# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the watchdog on the backup storage."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _age
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._age import Protected, check, overdue, registered
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._state import State

NOW = datetime(2026, 1, 14, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
VM = Protected("acme/erp", NOW - 1000 * HOUR, NOW - 10 * HOUR, 26 * HOUR)
STATE = State("acme", "erp", "erp", None, 1, "a", "b", "protected", "2026-01-13T12:00:00Z", "site", 26.0, None)


@pytest.mark.parametrize(
    ("age_hours", "alarms"),
    [(0, False), (10, False), (26, False), (26.01, True), (1000, True), (-0.05, False), (-1, True)],
)
def test_an_image_is_too_old_beyond_the_limit_and_suspect_when_it_is_still_to_come(
    age_hours: float, alarms: bool
) -> None:
    assert bool(overdue(replace(VM, newest=NOW - age_hours * HOUR), NOW)) is alarms


@pytest.mark.parametrize(("protected_hours", "alarms"), [(1, False), (26, False), (27, True)])
def test_a_vm_without_an_image_is_as_old_as_its_protection(protected_hours: int, alarms: bool) -> None:
    vm = replace(VM, newest=None, since=NOW - protected_hours * HOUR)
    assert bool(overdue(vm, NOW)) is alarms


@given(st.integers(0, 10**7), st.integers(1, 10**5))
def test_the_sentence_names_the_vm_the_time_of_the_data_and_what_to_do(age_seconds: int, limit_hours: int) -> None:
    newest = NOW - timedelta(seconds=age_seconds)
    said = overdue(replace(VM, newest=newest, limit=limit_hours * HOUR), NOW)
    if age_seconds > limit_hours * 3600:
        assert "acme/erp" in said
        assert newest.strftime("%Y-%m-%dT%H:%M:%SZ") in said
        assert "daily" in said
        assert "\n" not in said
    else:
        assert said == ""


def lay(root: Path, vm: str, **changes: Any) -> Path:
    folder = root / "acme" / vm
    (folder / "images").mkdir(parents=True)
    document = {**STATE.as_dict(), "vm": vm, **changes}
    (folder / "state.json").write_text(json.dumps(document))
    return folder


def look(root: Path, now: datetime = NOW, runner: Any = None) -> list[str]:
    return check(str(root), "/nowhere", 26.0, now, runner)


def test_only_vms_with_a_state_document_are_registered(tmp_path: Path) -> None:
    lay(tmp_path, "erp")
    (tmp_path / "acme/forgotten/images").mkdir(parents=True)
    (tmp_path / "acme/.ssh").mkdir()
    (tmp_path / ".probe/probe").mkdir(parents=True)
    assert registered(str(tmp_path)) == [("acme", "erp")]
    assert registered(str(tmp_path / "absent")) == []


def test_each_vm_has_its_own_limit(tmp_path: Path) -> None:
    lay(tmp_path, "erp", max_age_hours=26)
    lay(tmp_path, "web", max_age_hours=100)
    lay(tmp_path, "old", max_age_hours=None)
    later = NOW + 50 * HOUR
    assert [said.split()[0] for said in look(tmp_path, later)] == ["acme/erp", "acme/old"]
    assert look(tmp_path, NOW) == []


def test_what_cannot_be_read_is_never_called_young(tmp_path: Path) -> None:
    (lay(tmp_path, "erp") / "state.json").write_text("{")
    lay(tmp_path, "web")
    said = look(tmp_path)
    assert len(said) == 1
    assert "acme/erp" in said[0]


def test_an_image_whose_manifest_is_unusable_does_not_count(tmp_path: Path) -> None:
    folder = lay(tmp_path, "erp", changed="2026-01-01T00:00:00Z")
    (folder / "images/20260114T110000Z").mkdir()
    assert "acme/erp has no image" in look(tmp_path)[0]


def test_the_alarm_command_gets_the_sentence_as_its_last_word(tmp_path: Path) -> None:
    lay(tmp_path, "erp", changed="2026-01-01T00:00:00Z", alarm_command="/bin/page --who 'the admin'")
    called: list[list[str]] = []

    def runner(argv: list[str], **_kwargs: Any) -> Completed:
        called.append(argv)
        return Completed(0, "", "")

    said = look(tmp_path, runner=runner)
    assert called == [["/bin/page", "--who", "the admin", said[0]]]


def test_an_alarm_command_that_fails_is_said_and_the_next_vm_is_still_looked_at(tmp_path: Path) -> None:
    for vm, command in (("erp", "/bin/page"), ("quote", "/bin/page 'x"), ("web", "/bin/page")):
        lay(tmp_path, vm, changed="2026-01-01T00:00:00Z", alarm_command=command)

    def runner(_argv: list[str], **_kwargs: Any) -> Completed:
        raise ResilientVmError("program /bin/page is not on this machine")

    said = look(tmp_path, runner=runner)
    assert [words for words in said if "has no image" in words] == said[0::2]
    assert all("alarm command could not be run" in words for words in said[1::2])
    assert len(said) == 6


def test_the_alarm_can_be_tried_with_a_time_to_come(tmp_path: Path) -> None:
    """As README.md says; a VM's own limit goes before ``--max-hours``, so that is no way to try it."""
    rung = tmp_path / "rung"
    lay(tmp_path, "erp", max_age_hours=26.0, alarm_command=f"tee {rung}")
    assert _age.main(["--max-hours", "0", "--now", "2026-01-13T13:00:00Z"], str(tmp_path), "/nowhere") == 0
    assert not rung.exists()
    assert _age.main(["--now", "2099-01-01T00:00:00Z"], str(tmp_path), "/nowhere") == 1
    assert rung.exists()


@pytest.mark.parametrize(("now", "code"), [("2026-01-13T13:00:00Z", 0), ("2026-02-01T00:00:00Z", 1)])
def test_the_exit_code_is_red_when_there_is_anything_to_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], now: str, code: int
) -> None:
    lay(tmp_path, "erp")
    assert _age.main(["--now", now], str(tmp_path), "/nowhere") == code
    assert bool(capsys.readouterr().out) is bool(code)


@pytest.mark.parametrize("text", ["[]", "{", '{"image": "x"}', "[" * 100_000])
def test_what_one_account_lays_keeps_nobody_from_being_told(tmp_path: Path, text: str) -> None:
    """Not even its own VM's owner."""
    for vm in ("erp", "web"):
        lay(tmp_path, vm, changed="2026-01-01T00:00:00Z", alarm_command=f"/bin/page {vm}")
    (tmp_path / "acme/erp/pins").mkdir()
    (tmp_path / "acme/erp/pins/x.json").write_text(text)
    called: list[list[str]] = []

    def runner(argv: list[str], **_kwargs: Any) -> Completed:
        called.append(argv)
        return Completed(0, "", "")

    said = look(tmp_path, runner=runner)
    assert "acme/erp has a young image can't be told" in said[0] and "acme/web has no image" in said[1]
    assert [argv[1] for argv in called] == ["erp", "web"]


def test_not_even_what_nobody_thought_of_keeps_the_others_from_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for vm in ("erp", "web"):
        lay(tmp_path, vm, changed="2026-01-01T00:00:00Z")
    looked = _age.look

    def breaks(layout: Any, state: State, hours: float) -> Protected:
        if layout.vm == "erp":
            raise KeyError("purpose")
        return looked(layout, state, hours)

    monkeypatch.setattr(_age, "look", breaks)
    assert [words.split()[0] for words in look(tmp_path)] == ["whether", "acme/web"]
