# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the mover program as it is installed."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed, run
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._program import Program, pack, sources_digest

OLD = {
    "_mover.py": b"import time\n\ndef main():\n    from . import _late\n    print('old', _late.WORD)\n    return 3\n"
}
OLD["_late.py"] = b"WORD = 'old'\n"
NEW = {name: content.replace(b"'old'", b"'new'") for name, content in OLD.items()}

Install = Callable[..., Program]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    def installed(sources: dict[str, bytes], **changes: Any) -> Program:
        settings = {"collection": "0.1.0", "sources": sources_digest(sources), "host": "a", "root": "/r", **changes}
        program = Program(settings, str(tmp_path / "library"), str(tmp_path / "bin/resilient-vm"))
        archive = tmp_path / "sources.zip"
        archive.write_bytes(pack(sources))
        program.install(str(archive), run)
        return program

    return installed


def launch(tmp_path: Path) -> subprocess.CompletedProcess[str]:
    # By the Python that runs the tests: a machine that runs them may have no /usr/bin/python3 of a fitting age.
    words = [sys.executable, "-I", str(tmp_path / "bin/resilient-vm")]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_it_runs_and_passes_its_exit_code_on(tmp_path: Path, install: Install) -> None:
    install(OLD)
    done = launch(tmp_path)
    assert (done.stdout, done.returncode) == ("old old\n", 3), done.stderr


def test_a_new_version_takes_the_place_of_the_old_one(tmp_path: Path, install: Install) -> None:
    install(OLD)
    install(NEW)
    assert launch(tmp_path).stdout == "new new\n"


def test_a_mover_that_runs_keeps_its_own_files(tmp_path: Path, install: Install) -> None:
    """It imports a part of itself only after another version was put in force."""
    install(OLD)
    place = os.path.realpath(tmp_path / "library/resilient_vm_mover")
    install(NEW)
    assert Path(place, "_late.py").read_bytes() == OLD["_late.py"]


def test_two_customers_runs_may_install_it_at_once(tmp_path: Path) -> None:
    """Each is held where it has written its files, until the other one has too, or could not."""
    settings = {"collection": "0.1.0", "sources": sources_digest(OLD), "host": "a", "root": "/r"}
    archive = tmp_path / "sources.zip"
    archive.write_bytes(pack(OLD))
    both = threading.Barrier(2)

    def compiles(argv: list[str], **options: Any) -> Completed:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(timeout=0.5)
        return run(argv, **options)

    def install(_number: int) -> None:
        Program(settings, str(tmp_path / "library"), str(tmp_path / "bin/resilient-vm")).install(str(archive), compiles)

    with ThreadPoolExecutor(2) as several:
        list(several.map(install, range(2)))
    assert launch(tmp_path).stdout == "old old\n"


def test_a_damaged_one_is_in_force_until_it_is_mended(tmp_path: Path, install: Install) -> None:
    install(OLD)
    (tmp_path / "bin/resilient-vm").chmod(0o600)
    settings = {"collection": "0.1.0", "sources": sources_digest(OLD), "host": "a", "root": "/r"}
    seen = []

    def compiles(argv: list[str], **options: Any) -> Completed:
        seen.append(launch(tmp_path).stdout)
        return run(argv, **options)

    Program(settings, str(tmp_path / "library"), str(tmp_path / "bin/resilient-vm")).install(
        str(tmp_path / "sources.zip"), compiles
    )
    assert seen == ["old old\n"] and launch(tmp_path).stdout == "old old\n"
    assert len(list((tmp_path / "library/versions").iterdir())) == 1


def test_a_damaged_part_is_noticed_though_nothing_has_needed_it_yet(tmp_path: Path, install: Install) -> None:
    program = install(OLD)
    (tmp_path / "library/resilient_vm_mover/_late.py").write_bytes(b"")
    assert program.found() is None
    install(OLD)
    assert program.found() == dict(program.settings) and launch(tmp_path).stdout == "old old\n"


def test_versions_before_the_last_one_are_erased(tmp_path: Path, install: Install) -> None:
    for number in range(4):
        install(OLD, host=str(number))
    assert len(list((tmp_path / "library/versions").iterdir())) == 2


def test_what_is_found_is_what_was_installed(install: Install) -> None:
    program = install(OLD)
    assert program.found() == dict(program.settings)


def test_other_settings_are_another_version(install: Install) -> None:
    first = install(OLD)
    second = install(OLD, root="/elsewhere")
    assert second.found() == dict(second.settings)
    assert first.found() != dict(first.settings)


@pytest.mark.parametrize("missing", ["bin/resilient-vm", "library/resilient_vm_mover"])
def test_a_program_that_is_not_whole_is_none(tmp_path: Path, install: Install, missing: str) -> None:
    program = install(OLD)
    (tmp_path / missing).unlink()
    assert program.found() is None


def test_a_launcher_nobody_may_run_is_none(tmp_path: Path, install: Install) -> None:
    program = install(OLD)
    (tmp_path / "bin/resilient-vm").chmod(0o700)
    assert program.found() is None


def test_a_leftover_of_a_killed_installation_is_in_nobodys_way(tmp_path: Path, install: Install) -> None:
    program = install(OLD)
    version = os.path.basename(os.path.dirname(os.path.realpath(tmp_path / "library/resilient_vm_mover")))
    (tmp_path / "library/versions" / f"{version}.part/x").mkdir(parents=True)
    (tmp_path / "library/resilient_vm_mover.part").symlink_to("nowhere")
    install(OLD)
    assert program.found() == dict(program.settings)


def test_every_account_may_read_it_and_none_but_root_may_write(tmp_path: Path, install: Install) -> None:
    install(OLD)
    for path in set((tmp_path / "library").rglob("*")) - {tmp_path / "library/install.lock"}:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o755 if path.is_dir() else 0o644), path


def test_running_it_leaves_nothing_behind(tmp_path: Path, install: Install) -> None:
    install(OLD)
    before = sorted((tmp_path / "library").rglob("*"))
    subprocess.run(["/usr/bin/python3", "-I", tmp_path / "bin/resilient-vm"], capture_output=True, check=False)
    assert sorted((tmp_path / "library").rglob("*")) == before


def test_damaged_sources_are_refused(tmp_path: Path, install: Install) -> None:
    program = install(OLD)
    (tmp_path / "sources.zip").write_bytes(pack(NEW))
    with pytest.raises(ResilientVmError, match="damaged"):
        program.install(str(tmp_path / "sources.zip"), run)
    assert launch(tmp_path).stdout == "old old\n"


def test_the_digest_tells_names_and_contents_apart() -> None:
    seen = [{"a": b"bc"}, {"ab": b"c"}, {"a": b"b", "c": b""}, {"a": b"bd"}, {}]
    assert len({sources_digest(sources) for sources in seen}) == len(seen)
    assert sources_digest({"x": b"1", "a": b"2"}) == sources_digest({"a": b"2", "x": b"1"})
