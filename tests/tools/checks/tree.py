# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of the checkout under the collection's full name.

ansible-test refuses a linked checkout, and works on "no tests applicable" inside a folder that git ignores.
So the files git knows or would take are copied, and the copy gets an empty repository of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .places import COLLECTION, DEV, ROOT

__all__ = ["files", "synchronize"]


def files(root: Path = ROOT, scratch: Path = DEV) -> list[str]:
    """The checkout's files as relative paths, without what .gitignore names."""
    # The checkout may belong to another account than the one that tests it, or be unpacked from an archive.
    git = ["git", "-c", f"safe.directory={root}", "-C", str(root)]
    if (root / ".git").exists():
        git += ["ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    else:
        empty = scratch / "empty.git"
        subprocess.run(["git", "init", "--quiet", "--bare", empty], check=True)
        git += [f"--git-dir={empty}", f"--work-tree={root}", "ls-files", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(git, check=True, capture_output=True).stdout.decode()
    # A file that was removed but not yet committed is still listed.
    return sorted({name for name in listed.split("\0") if name and os.path.lexists(root / name)})


def _same(one: Path, other: Path) -> bool:
    if not os.path.lexists(other) or one.is_symlink() or other.is_symlink():
        return False
    first, second = one.stat(), other.stat()
    return (first.st_size, first.st_mtime_ns, first.st_mode) == (second.st_size, second.st_mtime_ns, second.st_mode)


def synchronize(root: Path = ROOT, copy: Path = COLLECTION) -> list[str]:
    """Make the copy equal to the checkout's files and return their names."""
    wanted = files(root)
    (copy / ".git").mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "init", "--quiet", copy], check=True)
    keep = set(wanted)
    for folder, folders, names in os.walk(copy):
        if ".git" in folders and Path(folder) == copy:
            folders.remove(".git")
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in [*names, *links]:
            path = Path(folder) / name
            if str(path.relative_to(copy)) not in keep:
                path.unlink()
    for name in wanted:
        source, target = root / name, copy / name
        if _same(source, target):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(target):
            shutil.rmtree(target) if target.is_dir() and not target.is_symlink() else target.unlink()
        shutil.copy2(source, target, follow_symlinks=False)
    _remove_empty_folders(copy)
    return wanted


def _remove_empty_folders(copy: Path) -> None:
    for folder, _folders, _names in os.walk(copy, topdown=False):
        path = Path(folder)
        if path != copy and ".git" not in path.relative_to(copy).parts and not any(path.iterdir()):
            path.rmdir()
