# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders and files with owner and mode, compared first and written only when it isn't a dry run."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import tempfile
from typing import Any, Callable

from ._errors import ResilientVmError
from ._files import fsync_directory, fsync_tree, remove_tree, write_atomic
from ._process import Runner

__all__ = ["Tree", "read_text"]

Identity = Callable[[str], "tuple[int, int] | None"]


def read_text(path: str) -> str:
    """What is in a file; nothing when there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def account_ids(name: str) -> tuple[int, int] | None:
    """The user id and group id of that name, or None when this machine doesn't know it."""
    try:
        return pwd.getpwnam(name).pw_uid, grp.getgrnam(name).gr_gid
    except KeyError:
        return None


class Tree:
    """Folders and files with owner and mode. Compares first; writes only when it isn't a dry run.

    ``before`` and ``after`` collect what differs, by path, whether or not it was written.
    """

    def __init__(self, dry: bool, identity: Identity | None = None) -> None:
        self.dry = dry
        self.before: dict[str, Any] = {}
        self.after: dict[str, Any] = {}
        self._identity = identity or account_ids

    @property
    def changed(self) -> bool:
        return self.before != self.after

    def _owner(self, owner: str, group: str) -> tuple[int, int] | None:
        user, team = self._identity(owner), self._identity(group)
        if user is None or team is None:
            if self.dry:
                return None
            missing = owner if user is None else group
            raise ResilientVmError(f"account {missing} is not on this machine; run the site playbook")
        return user[0], team[1]

    def _differs(self, path: str, kind: str, mode: int, owner: str, group: str, more: Any = None) -> bool:
        ids = self._owner(owner, group)
        after = {"kind": kind, "mode": f"{mode:04o}", "owner": owner, "group": group}
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            before: Any = None
        else:
            if (stat.S_ISDIR(found.st_mode), stat.S_ISREG(found.st_mode)) != (
                kind == "folder",
                kind == "file",
            ):
                raise ResilientVmError(f"{path} is in the way: it should be a {kind}; move it aside", path=path)
            same = ids is not None and (found.st_uid, found.st_gid) == ids
            before = {
                **after,
                "mode": f"{stat.S_IMODE(found.st_mode):04o}",
                "owner": owner if same else found.st_uid,
                "group": group if same else found.st_gid,
            }
        if more is not None:
            after["content"] = more
            if before is not None:
                before["content"] = read_text(path)
        if before == after:
            return False
        self.before[path], self.after[path] = before, after
        return True

    def folder(self, path: str, mode: int, owner: str = "root", group: str = "root") -> None:
        if not self._differs(path, "folder", mode, owner, group) or self.dry:
            return
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        if not os.path.isdir(path):
            os.mkdir(path, 0o700)
        self._own(path, mode, owner, group)

    def text(self, path: str, content: str, mode: int, owner: str = "root", group: str = "root") -> bool:
        """Whether the file differed from this content, owner and mode."""
        if not self._differs(path, "file", mode, owner, group, content):
            return False
        if not self.dry:
            write_atomic(path, content.encode(), mode, self._owner(owner, group))
        return True

    def owned(self, path: str, mode: int, owner: str = "root", group: str = "root") -> None:
        """A file that is there, whatever it says."""
        if self._differs(path, "file", mode, owner, group) and not self.dry:
            self._own(path, mode, owner, group)

    def empty(self, path: str, mode: int, owner: str = "root", group: str = "root") -> None:
        """A file whose content is not ours to say, such as a lock."""
        if os.path.lexists(path):
            self.owned(path, mode, owner, group)
        elif self._differs(path, "file", mode, owner, group) and not self.dry:
            write_atomic(path, b"", mode, self._owner(owner, group))

    def absent(self, path: str) -> None:
        """Erase a file, a link or a whole folder."""
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return
        folder = stat.S_ISDIR(found.st_mode)
        self.before[path], self.after[path] = {"kind": "folder" if folder else "file"}, None
        if self.dry:
            return
        if folder:
            remove_tree(path)
        else:
            os.unlink(path)

    def left_in(self, path: str) -> set[str]:
        """Names in a folder, without what this run erased or (dry) would have."""
        names = os.listdir(path) if os.path.isdir(path) else []
        return {name for name in names if self.after.get(os.path.join(path, name), self) is not None}

    def absent_when_empty(self, path: str) -> bool:
        """Remove a folder that holds nothing; whether it is gone."""
        if self.left_in(path):
            return False
        if os.path.isdir(path):
            self.before[path], self.after[path] = {"kind": "folder"}, None
            if not self.dry:
                os.rmdir(path)
        return True

    def key(self, path: str, comment: str, owner: str, group: str, run: Runner) -> str | None:
        """The public line of a key that is made once; None in a dry run that would have made it."""
        public = path + ".pub"
        # An empty half is what a power cut left of one.
        if all(os.path.isfile(half) and os.path.getsize(half) for half in (path, public)):
            for half, mode in ((path, 0o600), (public, 0o644)):
                if self._differs(half, "file", mode, owner, group) and not self.dry:
                    self._own(half, mode, owner, group)
            return read_text(public)
        self.before[path], self.after[path] = None, {"kind": "key", "comment": comment}
        if self.dry:
            return None
        with tempfile.TemporaryDirectory(prefix=".key-", dir=os.path.dirname(path)) as place:
            made = os.path.join(place, "key")
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", made])
            fsync_tree(place)
            # The private half last: while it is absent the key counts as not made.
            for source, target, mode in ((made + ".pub", public, 0o644), (made, path, 0o600)):
                self._own(source, mode, owner, group)
                os.rename(source, target)
        fsync_directory(os.path.dirname(path))
        return read_text(public)

    def _own(self, path: str, mode: int, owner: str, group: str) -> None:
        ids = self._owner(owner, group)
        if ids is not None:
            os.chown(path, *ids)
        os.chmod(path, mode)
