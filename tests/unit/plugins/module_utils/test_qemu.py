# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about finding the QEMU of a domain."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _qemu
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError


def machine(tmp_path: Path, state: str = "S", started: int = 223038, program: str = "qemu-system-x86") -> Path:
    (tmp_path / "erp.pid").write_text("313\n")
    process = tmp_path / "proc" / "313"
    process.mkdir(parents=True, exist_ok=True)
    fields = [state, *(["0"] * 18), str(started), "0"]
    (process / "stat").write_text(f"313 ({program}) {' '.join(fields)}\n")
    return tmp_path


def find(tmp_path: Path) -> _qemu.Qemu | None:
    return _qemu.find("erp", str(tmp_path), str(tmp_path / "proc"))


def test_a_running_domains_process_is_found_with_its_user(tmp_path: Path) -> None:
    assert find(machine(tmp_path)) == _qemu.Qemu(313, 223038, os.getuid())


def test_another_process_of_the_same_number_is_another_one(tmp_path: Path) -> None:
    assert find(machine(tmp_path)) != find(machine(tmp_path, started=223039))


def test_a_programs_name_with_brackets_and_spaces_confuses_nobody(tmp_path: Path) -> None:
    assert find(machine(tmp_path, program="a) Z 1 (b")) == _qemu.Qemu(313, 223038, os.getuid())


@pytest.mark.parametrize("state", ["Z", "X"])
def test_a_dead_process_that_nobody_buried_is_none(tmp_path: Path, state: str) -> None:
    assert find(machine(tmp_path, state=state)) is None


def test_without_a_process_there_is_none(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    (tmp_path / "erp.pid").write_text("313\n")
    assert find(tmp_path) is None
    (tmp_path / "erp.pid").write_text("")
    assert find(tmp_path) is None


@pytest.mark.parametrize("line", ['user = "root"', '  user="0"', 'user = "+0"'])
def test_the_user_qemu_is_started_as_is_the_configured_one(tmp_path: Path, line: str) -> None:
    (tmp_path / "qemu.conf").write_text(f'#user = "nobody"\n{line}\n')
    assert _qemu.qemu_user(str(tmp_path / "qemu.conf")) == (0, 0)


def test_without_configuration_it_is_the_distributions_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = pwd.getpwuid(0)

    def known(name: str) -> pwd.struct_passwd:
        if name == "qemu":
            return root
        raise KeyError(name)

    monkeypatch.setattr("pwd.getpwnam", known)
    assert _qemu.qemu_user(str(tmp_path / "qemu.conf")) == (0, 0)


def test_a_host_without_such_an_account_is_told(tmp_path: Path) -> None:
    (tmp_path / "qemu.conf").write_text('user = "nobody-of-that-name"\n')
    with pytest.raises(ResilientVmError, match="install libvirt"):
        _qemu.qemu_user(str(tmp_path / "qemu.conf"))
