# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the throwaway backup, with canned words of libvirt."""

from __future__ import annotations

import getpass
import grp
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _backup_path
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._backup_path import BackupPath
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed

UUID = "6e1f3c0a-3a5f-4c50-9f7e-3a3f0d9a2c11"
CONTENT = (b"resilient-vm" * 1000).hex()
VERSIONS = "Using library: libvirt 9.0.0\nRunning hypervisor: QEMU 7.2.22\nRunning against daemon: 9.0.0\n"
CAPABILITIES = "<capabilities><guest><arch><domain type='qemu'/></arch></guest></capabilities>"


class Host:
    """A libvirt that knows at most the throwaway domain."""

    def __init__(self, runtime: Path, read: str = CONTENT, refusal: str = "") -> None:
        self.calls: list[str] = []
        self.domain = False
        self.job = False
        self.definition = ""
        self._runtime = runtime
        self._read = read
        self._refusal = refusal

    def __call__(self, argv: list[str], **_kwargs: Any) -> Completed:
        words = argv[3:] if argv[0] == "virsh" else argv
        self.calls.append(words[0])
        answer = getattr(self, "_" + words[0].replace("-", "_"), None)
        return answer(words) if answer else Completed(0, "", "")

    def _version(self, _words: list[str]) -> Completed:
        return Completed(0, VERSIONS, "")

    def _capabilities(self, _words: list[str]) -> Completed:
        return Completed(0, CAPABILITIES, "")

    def _list(self, _words: list[str]) -> Completed:
        return Completed(0, f"{UUID} resilient-vm-probe\n" if self.domain else "", "")

    def _create(self, words: list[str]) -> Completed:
        self.domain = True
        self.definition = Path(words[1]).read_text()
        return Completed(0, "", "")

    def _destroy(self, _words: list[str]) -> Completed:
        self.domain = False
        return Completed(0, "", "")

    def _backup_begin(self, _words: list[str]) -> Completed:
        if self._refusal:
            return Completed(1, "", f"error: {self._refusal}\n")
        self.job = True
        (self._runtime / ".probe/probe/qemu/nbd.sock").touch()
        return Completed(0, "", "")

    def _domjobabort(self, _words: list[str]) -> Completed:
        self.job = False
        return Completed(0, "", "")

    def _backup_dumpxml(self, _words: list[str]) -> Completed:
        socket = self._runtime / ".probe/probe/qemu/nbd.sock"
        if self.job:
            return Completed(
                0, f"<domainbackup mode='pull'><server transport='unix' socket='{socket}'/></domainbackup>", ""
            )
        return Completed(1, "", "error: Domain backup job id not found: no domain backup job present\n")

    def _runuser(self, _words: list[str]) -> Completed:
        return Completed(0, self._read, "") if self._read else Completed(1, "", "nbd.Error: Permission denied\n")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_backup_path, "qemu_user", lambda: (os.getuid(), os.getgid()))
    monkeypatch.setattr(grp, "getgrnam", lambda _name: grp.getgrgid(os.getgid()))
    for folder in ("root", "run"):
        (tmp_path / folder).mkdir()
    return tmp_path


def path_of(place: Path, host: Host) -> BackupPath:
    root, run, proofs = (str(place / name) for name in ("root", "run", "etc"))
    return BackupPath(root, getpass.getuser(), host, None, run, proofs)


def nothing_left(place: Path, host: Host) -> None:
    assert list((place / "root").iterdir()) == []
    assert [path.name for path in (place / "run").iterdir()] == ["probe.lock"]
    assert not host.domain
    assert not host.job


def test_a_proof_is_remembered_and_leaves_nothing_else(place: Path) -> None:
    host = Host(place / "run")
    path = path_of(place, host)
    assert path.proven() is None
    path.prove(path.circumstances())
    assert path.proven() == path.circumstances()
    assert 'type="qemu"' in host.definition
    nothing_left(place, host)


def test_each_customer_has_a_proof_of_its_own(place: Path) -> None:
    """Each is run with an inventory of its own, and would find the other one's circumstances to be others."""
    host = Host(place / "run")
    path = path_of(place, host)
    path.prove(path.circumstances())
    assert replace(path, account="rvm-other").proven() is None
    assert path.proven() == path.circumstances()


def test_what_another_run_has_proven_meanwhile_is_proven(place: Path) -> None:
    """Two runs look, find no proof, and one waits for the other."""
    host = Host(place / "run")
    path = path_of(place, host)
    circumstances = path.circumstances()
    with ThreadPoolExecutor(2) as several:
        list(several.map(path.prove, [circumstances] * 2))
    assert host.calls.count("backup-begin") == 1
    nothing_left(place, host)


@pytest.mark.parametrize(
    ("read", "refusal", "words"),
    [
        ("", "", "Permission denied"),
        ("00", "", "not what is on the disk"),
        (CONTENT, "Failed to bind socket: Permission denied", "Failed to bind socket"),
    ],
    ids=["account kept out", "wrong content", "QEMU kept out"],
)
def test_what_fails_is_said_not_remembered_and_cleaned_away(place: Path, read: str, refusal: str, words: str) -> None:
    host = Host(place / "run", read, refusal)
    path = path_of(place, host)
    with pytest.raises(ResilientVmError, match=words) as failure:
        path.prove(path.circumstances())
    assert "AppArmor or SELinux" in str(failure.value)
    assert path.proven() is None
    nothing_left(place, host)


def test_the_leftovers_of_a_killed_run_are_in_nobodys_way(place: Path) -> None:
    host = Host(place / "run")
    host.domain = True
    for folder in ("root", "run"):
        (place / folder / ".probe/probe/qemu").mkdir(parents=True)
    path = path_of(place, host)
    path.prove(path.circumstances())
    nothing_left(place, host)


def test_another_qemu_or_another_rule_wants_another_proof(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(place / "run")
    path = path_of(place, host)
    before = path.circumstances()
    rules = place / "rules"
    monkeypatch.setattr(_backup_path, "_RULES", (str(rules),))
    without = path.circumstances()
    rules.write_text("/run/** rw,")
    assert path.circumstances() != without
    monkeypatch.undo()
    monkeypatch.setattr(Host, "_version", lambda *_words: Completed(0, VERSIONS.replace("7.2.22", "10.0.0"), ""))
    assert path.circumstances() != before


def test_libvirt_may_be_absent_in_check_mode_only(place: Path) -> None:
    def no_virsh(*_words: Any, **_kwargs: Any) -> Completed:
        raise ResilientVmError("program virsh is not on this machine")

    path = BackupPath(str(place), "x", no_virsh)
    assert path.circumstances(may_lack_libvirt=True) is None
    with pytest.raises(ResilientVmError, match="virsh"):
        path.circumstances()
