# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what a host is told about many VMs at once, and about what its key opens."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _mover
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import write_json
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._state import State

_LONG_AGO = 1_700_000_000
Asked = Callable[..., list[str]]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asked:
    """A backup storage with two VMs of acme and one of another customer: asks it, by a key of a VM of acme."""
    for customer, vm, standby in (("acme", "erp", "b"), ("acme", "crm", "d"), ("other", "erp", "b")):
        layout = Layout(customer, vm, str(tmp_path))
        Path(layout.directory).mkdir(parents=True)
        state = State(customer, vm, vm, "u", 3, "a", standby, "protected", "2026-01-14T02:00:00Z", "site")
        write_json(layout.state, state.as_dict())
        Path(layout.asked).touch()
        os.utime(layout.asked, (_LONG_AGO, _LONG_AGO))
    monkeypatch.setattr(_mover, "_paths", lambda: {"root": str(tmp_path), "runtime": str(tmp_path)})

    def ask(stdin: str, holder: str = "b", verbs: str = "epoch,claim", question: str = "epochs") -> list[str]:
        monkeypatch.setenv("SSH_ORIGINAL_COMMAND", question)
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        assert _mover._forced("acme/erp", verbs, holder) == 0
        return capsys.readouterr().out.splitlines()

    return ask


def known(root: Path, name: str) -> bool:
    """Whether somebody's question about a VM was noted: who asks is up."""
    return (root / name / "asked").stat().st_mtime > _LONG_AGO


def test_each_vm_has_its_line_and_the_question_is_known(asked: Asked, tmp_path: Path) -> None:
    assert asked("erp\ncrm\n", "a") == ["erp 3 a protected", "crm 3 a protected"]
    assert known(tmp_path, "acme/erp") and known(tmp_path, "acme/crm") and not known(tmp_path, "other/erp")


def test_a_host_asks_only_about_what_it_is_a_host_of(asked: Asked, tmp_path: Path) -> None:
    """That somebody asked keeps a takeover from being decided."""
    assert asked("crm\nerp\n") == ["crm b is no host of acme/crm", "erp 3 a protected"]
    assert not known(tmp_path, "acme/crm")


def test_what_is_wrong_with_one_vm_is_its_own_line(asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "acme/crm/state.json").write_text("{")
    [damaged, unknown, strange, fine] = asked("crm\nnothing\n../other/erp\nerp\n", "a")
    assert damaged.startswith("crm ") and "state.json" in damaged
    assert "this machine knows nothing of acme/nothing" in unknown
    assert "VM name '../other/erp' is not made of letters" in strange
    assert fine == "erp 3 a protected" and not known(tmp_path, "other/erp")


@pytest.mark.parametrize(
    ("holder", "verbs", "question"),
    [
        # The backup storage's key, for data.
        ("a", "send,receive,restore,mend,lend", "epochs"),
        # An entry of before there was this question.
        ("", "epoch", "epochs"),
        ("a", "epoch", "epochs x"),
    ],
)
def test_it_is_no_other_keys_question(asked: Asked, holder: str, verbs: str, question: str) -> None:
    with pytest.raises(ResilientVmError, match="this key may only ask for"):
        asked("erp\n", holder, verbs, question)


def test_a_host_that_left_is_told_where_it_is_now(asked: Asked, tmp_path: Path) -> None:
    layout = Layout("acme", "erp", str(tmp_path))
    state = State("acme", "erp", "erp", "u", 4, "b", "a", "protected", "2026-01-14T02:00:00Z", "site")
    write_json(layout.state, replace(state, phase="failed_over").as_dict())
    assert asked("erp\n", "a") == ["erp 4 b failed_over"]
