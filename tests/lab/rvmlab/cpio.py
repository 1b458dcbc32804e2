# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the archive format of an initramfs, so that the box needs no tool for it and builds are repeatable."""

from __future__ import annotations

__all__ = ["Archive"]


class Archive:
    """An initramfs in the making: folders appear as files need them."""

    def __init__(self) -> None:
        """Start empty."""
        self._parts: list[bytes] = []
        self._folders: set[str] = set()

    def folder(self, path: str) -> None:
        """Add a folder and those above it, once."""
        if path and path not in self._folders:
            self.folder(path.rpartition("/")[0])
            self._folders.add(path)
            self._add(path, 0o040755, b"")

    def file(self, path: str, content: bytes, mode: int) -> None:
        """Add a file."""
        self.folder(path.rpartition("/")[0])
        self._add(path, 0o100000 | mode, content)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self.folder(path.rpartition("/")[0])
        self._add(path, 0o120777, target.encode())

    def device(self, path: str, major: int, minor: int) -> None:
        """Add a character device."""
        self.folder(path.rpartition("/")[0])
        self._add(path, 0o020600, b"", major, minor)

    def content(self) -> bytes:
        """Return the archive with its end mark."""
        closed = Archive()
        closed._parts = list(self._parts)
        closed._add("TRAILER!!!", 0, b"")
        return b"".join(closed._parts)

    def _add(self, path: str, mode: int, content: bytes, major: int = 0, minor: int = 0) -> None:
        """Add one entry in the "newc" form: a header of hexadecimal fields, each part padded to four bytes."""
        name = path.encode() + b"\0"
        inode = len(self._parts) + 1
        links = 2 if mode & 0o040000 else 1
        fields = (inode, mode, 0, 0, links, 0, len(content), 0, 0, major, minor, len(name), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._parts += [header, name, pad(len(header) + len(name)), content, pad(len(content))]


def pad(length: int) -> bytes:
    """Return the zero bytes that bring a length to a multiple of four."""
    return b"\0" * (-length % 4)
