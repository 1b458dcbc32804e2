# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about reading a stopped machine's disks beside their owner."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from unit.libvirt_fakes import make_host, never, refused, said

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _offline
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError

INFO = [
    {
        "filename": "/images/vda.qcow2",
        "format-specific": {
            "data": {
                "bitmaps": [
                    {"name": "good", "flags": ["auto"]},
                    {"name": "killed", "flags": ["in-use", "auto"]},
                    {"name": "disabled", "flags": []},
                ]
            }
        },
    },
    {"filename": "/images/base.raw"},
]


def test_only_bitmaps_that_were_recording_and_saved_are_believed() -> None:
    assert _offline.bitmaps(INFO) == {"good"}
    assert _offline.bitmaps([{"filename": "/images/vda.raw"}]) == set()


def test_every_file_of_a_chain_is_watched() -> None:
    assert _offline.chain_files(INFO) == ["/images/vda.qcow2", "/images/base.raw"]


def test_a_disk_that_somebody_writes_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = make_host(tmp_path, monkeypatch)
    host.world.answers["qemu-img info"] = refused('qemu-img: Could not open: Failed to get shared "write" lock')
    with pytest.raises(ResilientVmError, match=r"disk vda .* is being written"):
        _offline.probe(host.world, "vda", "/images/vda.qcow2", "qcow2")


def test_a_disk_is_probed_under_qemus_lock_and_never_by_guessing_its_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(tmp_path, monkeypatch)
    host.world.answers["qemu-img info"] = said(json.dumps(INFO))
    assert _offline.probe(host.world, "vda", "/images/vda.raw", "raw") == INFO
    words = host.world.calls[0].split()
    assert words[words.index("-f") + 1] == "raw"
    assert not {"-U", "--force-share"} & set(words)


@pytest.mark.parametrize("how", ["write", "direct", "grow", "replace", "backdated"])
def test_any_write_to_a_file_changes_its_identity(tmp_path: Path, how: str) -> None:
    file = tmp_path / "disk"
    file.write_bytes(b"0" * 8192)
    os.utime(file, (1000, 1000))
    before = _offline.identity(str(file))
    assert _offline.identity(str(file)) == before
    time.sleep(0.02)
    if how == "replace":
        (tmp_path / "new").write_bytes(b"0" * 8192)
        os.utime(tmp_path / "new", (1000, 1000))
        os.rename(tmp_path / "new", file)
    elif how == "direct":
        subprocess.run(
            ["dd", "if=/dev/zero", f"of={file}", "bs=4096", "count=1", "conv=notrunc", "status=none"], check=True
        )
    else:
        with open(file, "r+b") as stream:
            stream.seek(8192 if how == "grow" else 0)
            stream.write(b"1")
    if how == "backdated":
        os.utime(file, (1000, 1000))
    assert _offline.identity(str(file)) != before


@pytest.mark.parametrize(("age", "waits"), [(0.0, True), (1.9, True), (-1.0, True), (2.5, False), (-3600.0, False)])
def test_a_file_whose_last_change_is_within_a_clocks_tick_is_waited_for(
    tmp_path: Path, age: float, waits: bool
) -> None:
    file = tmp_path / "disk"
    file.write_bytes(b"0")
    changed = max(os.stat(file).st_mtime, os.stat(file).st_ctime)
    slept: list[float] = []
    _offline.settle([str(file)], now=lambda: changed + age, sleep=slept.append)
    assert bool(slept) is waits
    # Afterwards the last change lies further back than whole and two-second clocks tell apart.
    assert not slept or age + slept[0] > 2.0


def test_a_disk_is_served_by_the_account_which_can_read_all_and_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(tmp_path, monkeypatch)
    folder = tmp_path / "reader"
    folder.mkdir()
    image = tmp_path / "disk, with comma.qcow2"
    image.write_bytes(b"")

    def start(_words: list[str]) -> object:
        (folder / "vda.sock").write_bytes(b"")
        return said()

    host.world.answers["systemd-run"] = start
    socket = _offline.serve(host.world, host.layout, "vda", str(image), "qcow2", "good", str(folder), never)
    assert socket == str(folder / "vda.sock")
    call = host.world.calls[0]
    for words in (
        "User=rvm-acme",
        "CapabilityBoundingSet=CAP_DAC_READ_SEARCH",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "qemu-nbd --read-only",
        "--bitmap=good",
        '"force-share": true',
        f'"filename": "{image}"',
    ):
        assert words in call


def test_a_program_that_ends_instead_of_serving_tells_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(tmp_path, monkeypatch)
    os.makedirs(host.layout.run)

    def start(_words: list[str]) -> object:
        Path(host.layout.run, "vda.log").write_text("qemu-nbd: no such bitmap")
        return said()

    host.world.answers["systemd-run"] = start
    with pytest.raises(ResilientVmError, match="no such bitmap"):
        _offline.serve(host.world, host.layout, "vda", str(tmp_path), "qcow2", "x", str(tmp_path), never)
