# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the machine definition captured with an image."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from unit.libvirt_fakes import UUID, never

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _definition
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError

ME = (os.getuid(), os.getgid())


def capture(tmp_path: Path, nvram: str = "", tpm: str = "") -> list[dict[str, str]]:
    folder = tmp_path / "definition"
    folder.mkdir(exist_ok=True)
    return _definition.capture(str(folder), "<domain/>", nvram, tpm, ME, never, str(tmp_path / "swtpm"))


def test_a_bios_machine_is_its_xml(tmp_path: Path) -> None:
    assert capture(tmp_path) == [{"name": "domain.xml"}]


def test_the_definition_is_for_no_other_users_eyes_since_it_holds_passwords(tmp_path: Path) -> None:
    (tmp_path / "vars.fd").write_bytes(b"variables")
    for entry in capture(tmp_path, str(tmp_path / "vars.fd")):
        assert os.stat(tmp_path / "definition" / entry["name"]).st_mode & 0o777 == 0o640


def test_firmware_variables_and_tpm_state_go_with_it(tmp_path: Path) -> None:
    (tmp_path / "vars.fd").write_bytes(b"variables")
    state = tmp_path / "swtpm" / UUID / "tpm2"
    state.mkdir(parents=True)
    (state / "tpm2-00.permall").write_bytes(b"secret")
    (state / ".lock").write_bytes(b"")
    assert capture(tmp_path, str(tmp_path / "vars.fd"), UUID) == [
        {"name": "domain.xml"},
        {"name": "nvram.fd"},
        {"name": "tpm.tar"},
    ]
    assert (tmp_path / "definition/nvram.fd").read_bytes() == b"variables"
    with tarfile.open(tmp_path / "definition/tpm.tar") as archive:
        assert archive.getnames() == ["tpm2/tpm2-00.permall"]


def test_the_same_tpm_state_is_the_same_bytes_whenever_it_was_written(tmp_path: Path) -> None:
    state = tmp_path / "swtpm" / UUID
    state.mkdir(parents=True)
    (state / "b").write_bytes(b"2")
    (state / "a").write_bytes(b"1")
    capture(tmp_path, tpm=UUID)
    first = (tmp_path / "definition/tpm.tar").read_bytes()
    os.utime(state / "a", (0, 0))
    capture(tmp_path, tpm=UUID)
    assert (tmp_path / "definition/tpm.tar").read_bytes() == first
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        assert archive.getnames() == ["a", "b"]


def test_a_machine_that_never_started_has_neither_yet(tmp_path: Path) -> None:
    assert capture(tmp_path, str(tmp_path / "vars.fd"), UUID) == [{"name": "domain.xml"}]


def test_a_file_that_changes_is_read_until_two_readings_agree() -> None:
    readings = iter([b"1", b"2", b"2"])
    assert _definition.settled("/f", lambda: next(readings), never) == b"2"


def test_a_file_that_is_replaced_while_it_is_read_is_read_again() -> None:
    readings = iter([b"1", FileNotFoundError(), b"1", b"1"])

    def read() -> bytes:
        reading = next(readings)
        if isinstance(reading, Exception):
            raise reading
        return reading

    assert _definition.settled("/f", read, never) == b"1"


def test_a_file_that_never_holds_still_is_not_kept_half_old_and_half_new() -> None:
    readings = iter(range(1000))
    with pytest.raises(ResilientVmError, match="did not hold still"):
        _definition.settled("/f", lambda: str(next(readings)).encode(), never)


def test_swtpm_gets_to_a_tpm_whatever_the_umask_is(tmp_path: Path) -> None:
    packed = tmp_path / "tpm.tar"
    with tarfile.open(packed, "w") as archive:
        entry = tarfile.TarInfo("tpm2/tpm2-00.permall")
        archive.addfile(entry, io.BytesIO(b""))
    before = os.umask(0o027)
    try:
        _definition.unpack_tpm(str(packed), UUID, str(tmp_path / "swtpm"))
    finally:
        os.umask(before)
    assert {oct((tmp_path / "swtpm" / name).stat().st_mode)[-3:] for name in ("", UUID)} == {"711"}
