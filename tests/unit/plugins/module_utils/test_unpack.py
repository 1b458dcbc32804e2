# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about a guest's archive: whatever is in it, nothing outside the folder is touched."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._unpack import Laid, plain, tree_digest, unpack


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o640, size: int = 3
) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode, made.mtime = kind, link, mode, 1_700_000_000
    made.uid, made.gid = os.getuid(), os.getgid()
    made.size = size if kind == tarfile.REGTYPE else 0
    return made


def archive_of(members: Iterable[tarfile.TarInfo]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8") as archive:
        for entry in members:
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    return stream.getvalue()


def laid(folder: Path, *members: tarfile.TarInfo) -> Laid:
    folder.mkdir(0o700, exist_ok=True)
    return unpack(io.BytesIO(archive_of(members)), str(folder))


def test_files_are_laid_as_they_were(tmp_path: Path) -> None:
    told = laid(
        tmp_path / "new",
        member("home/anna", tarfile.DIRTYPE, mode=0o2550),
        member("home/anna/a\nb", mode=0o604),
        member("home/anna/\udcff", mode=0o600),
        member("home/anna/same", tarfile.LNKTYPE, "home/anna/a\nb"),
        member("home/anna/away", tarfile.SYMTYPE, "/etc/shadow"),
    )
    folder = tmp_path / "new/home/anna"
    assert (told.files, told.bytes, told.devices, told.stripped) == (5, 6, 0, 0)
    assert sorted(os.listdir(os.fsencode(folder))) == [b"a\nb", b"away", b"same", b"\xff"]
    assert os.readlink(folder / "away") == "/etc/shadow"
    assert (folder / "same").samefile(folder / "a\nb")
    assert stat.S_IMODE((folder / "a\nb").stat().st_mode) == 0o604
    assert stat.S_IMODE(folder.stat().st_mode) == 0o2550
    assert folder.stat().st_mtime == (folder / "a\nb").stat().st_mtime == 1_700_000_000


def test_rights_and_devices_are_left_out_and_told(tmp_path: Path) -> None:
    told = laid(
        tmp_path / "new",
        member("sudo", mode=0o4755),
        member("null", tarfile.CHRTYPE),
        member("disk", tarfile.BLKTYPE),
        member("pipe\x1b[2J", tarfile.FIFOTYPE),
    )
    assert (told.files, told.devices, told.stripped) == (1, 3, 1)
    assert stat.S_IMODE((tmp_path / "new/sudo").stat().st_mode) == 0o755
    assert os.listdir(tmp_path / "new") == ["sudo"]
    assert told.told == [
        "sudo: laid without its setuid or setgid bit",
        "null: a device or a pipe, left out",
        "disk: a device or a pipe, left out",
        "pipe\\x1b[2J: a device or a pipe, left out",
    ]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([member("../x")], "leads out"),
        ([member("a/../../x")], "leads out"),
        ([member("/x")], "leads out"),
        ([member("a//x")], "leads out"),
        ([member("a", tarfile.SYMTYPE, ".."), member("a/x")], "twice, or something within it"),
        ([member("a", tarfile.SYMTYPE, "/tmp"), member("a", tarfile.DIRTYPE), member("a/x")], "twice"),
        ([member("a"), member("a/x")], "twice, or something within it"),
        ([member("a"), member("a")], "twice"),
        ([member("a", tarfile.LNKTYPE, "../outside")], "leads out"),
        ([member("a", tarfile.LNKTYPE, "b")], "a link to nothing it had sent"),
        ([member("restored.json")], "the guest has a file /restored.json"),
    ],
)
def test_what_would_lead_out_is_refused(tmp_path: Path, members: list[tarfile.TarInfo], words: str) -> None:
    (tmp_path / "outside").write_text("mine")
    with pytest.raises(ResilientVmError, match=words):
        laid(tmp_path / "new", *members)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "outside"]
    assert (tmp_path / "outside").stat().st_nlink == 1


NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "", "é", "out"]), min_size=1, max_size=4).map("/".join)
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])


def facts(path: Path) -> tuple[float, ...]:
    found = path.stat()
    return found.st_ino, found.st_nlink, found.st_mode, found.st_uid, found.st_mtime, found.st_size


@given(st.lists(st.builds(member, NAMES, KINDS, NAMES), max_size=8))
def test_nothing_outside_is_ever_touched(members: list[tarfile.TarInfo]) -> None:
    with tempfile.TemporaryDirectory() as place:
        top = Path(place)
        (top / "out").write_text("mine")
        (top / "deep").mkdir()
        before = facts(top / "out")
        with contextlib.suppress(ResilientVmError):
            laid(top / "deep/new", *members)
        assert (top / "out").read_text() == "mine"
        assert facts(top / "out") == before
        assert sorted(path.name for path in top.iterdir()) == ["deep", "out"]
        assert [path.name for path in (top / "deep").iterdir()] == ["new"]


def test_an_archive_that_breaks_off_is_not_taken_for_whole(tmp_path: Path) -> None:
    whole = archive_of([member("a", size=5000), member("b", size=5000)])
    (tmp_path / "new").mkdir()
    for length in (700, 5500, 6200, 9000):
        with pytest.raises(tarfile.TarError):
            unpack(io.BytesIO(whole[:length]), str(tmp_path / "new"))
        for path in (tmp_path / "new").iterdir():
            path.unlink()


CHANGES: list[Callable[[Path], object]] = [
    lambda top: (top / "a/b").write_text("xxy"),
    lambda top: (top / "a/b").chmod(0o600),
    lambda top: os.utime(top / "a/b", (1, 1)),
    lambda top: (top / "a/c").symlink_to("b"),
    lambda top: (top / "a/b").unlink(),
    lambda top: (top / "a/b").rename(top / "a/z"),
    lambda top: (top / "new").mkdir(),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_digest_of_a_folder_shows_every_change(tmp_path: Path, change: Callable[[Path], object]) -> None:
    laid(tmp_path, member("a", tarfile.DIRTYPE, mode=0o755), member("a/b"))
    before = tree_digest(str(tmp_path))
    (tmp_path / "restored.json").write_text("{}")
    assert tree_digest(str(tmp_path)) == before
    change(tmp_path)
    assert tree_digest(str(tmp_path)) != before


def test_names_are_shown_in_one_line_and_harmless() -> None:
    assert plain("a\nb\x1b[0m\udcff\u202e é") == "a\\nb\\x1b[0m\\xff\\u202e é"
    assert plain("{{ lookup('pipe', 'id') }} {a} {%") == "\\x7b{ lookup('pipe', 'id') }} {a} \\x7b%"
