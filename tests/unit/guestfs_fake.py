# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The appliance's program with a library that shows a folder as the guest's file system.

python guestfs_fake.py FOLDER JSON, where JSON is {"file_systems": {device: type}, "roots": {root: {point: device}}}.
The library itself is tried in the lab; this is for what is said to it and made of its answers.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parents[2]


class GuestFS:
    """What of the library the appliance uses."""

    top = b""
    world: ClassVar[dict[str, Any]] = {}

    def __init__(self, python_return_dict: bool) -> None:
        assert python_return_dict
        self._labels: list[str] = []
        self._mounted: dict[str, str] = {}

    def set_backend(self, name: str) -> None:
        assert name == "direct"

    def add_drive_opts(self, path: str, readonly: bool, label: str, **more: str) -> None:
        assert os.path.isfile(path) and readonly and more == {"format": "raw"} and label.isalpha()
        self._labels.append(label)

    def launch(self) -> None:
        if "launch" in self.world:
            raise RuntimeError(self.world["launch"])

    def list_disk_labels(self) -> dict[str, str]:
        return {label: f"/dev/sd{chr(97 + at)}" for at, label in enumerate(self._labels)}

    def list_filesystems(self) -> dict[str, str]:
        # As the real one does, it says nothing of LUKS, which only holds something else.
        return {device: kind for device, kind in self.world["file_systems"].items() if kind != "crypto_LUKS"}

    def list_devices(self) -> list[str]:
        return list(self.list_disk_labels().values())

    def list_partitions(self) -> list[str]:
        return [
            device for device in self.world["file_systems"] if device.startswith("/dev/sd") and device[-1].isdigit()
        ]

    def feature_available(self, groups: list[str]) -> bool:
        assert groups == ["lvm2"]
        return bool(self.world.get("lvm2", True))

    def lvs(self) -> list[str]:
        assert self.feature_available(["lvm2"])
        return [device for device in self.world["file_systems"] if not device.startswith("/dev/sd")]

    def vfs_type(self, device: str) -> str:
        return str(self.world["file_systems"].get(device, ""))

    def blockdev_getsize64(self, device: str) -> int:
        assert device in self.world["file_systems"]
        return 1 << 30

    def inspect_os(self) -> list[str]:
        return list(self.world.get("roots", {}))

    def inspect_get_mountpoints(self, root: str) -> dict[str, str]:
        return dict(self.world["roots"][root])

    def mount_ro(self, device: str, point: str) -> None:
        if self.world["file_systems"].get(device) == "broken":
            raise RuntimeError("mount: wrong fs type,\nbad option")
        self._mounted[device] = point

    def mountpoints(self) -> dict[str, str]:
        return self._mounted

    def _at(self, path: str) -> bytes:
        return os.path.join(self.top, path.lstrip("/").encode())

    def is_dir(self, path: str, followsymlinks: bool) -> bool:
        return followsymlinks and os.path.isdir(self._at(path))

    def ls0(self, path: str, file: str) -> None:
        Path(file).write_bytes(b"".join(name + b"\0" for name in os.listdir(self._at(path))))

    def find0(self, path: str, file: str) -> None:
        found = [name for _folder, folders, names in os.walk(self._at(path)) for name in folders + names]
        Path(file).write_bytes(b"".join(name + b"\0" for name in found))

    def du(self, path: str) -> int:
        assert os.path.isdir(self._at(path))
        return 4

    def lstatns(self, path: str) -> dict[str, int]:
        try:
            found = os.lstat(self._at(path))
        except OSError as error:
            raise RuntimeError(str(error)) from error
        names = ("mode", "size", "uid", "gid")
        return {f"st_{name}": getattr(found, f"st_{name}") for name in names} | {"st_mtime_sec": int(found.st_mtime)}

    def lstatnslist(self, path: str, names: list[str]) -> list[dict[str, int]]:
        return [self.lstatns(f"{path}/{name}") for name in names]

    def readlink(self, path: str) -> str:
        return os.fsdecode(os.readlink(self._at(path)))

    def download(self, path: str, file: str) -> None:
        with open(file, "wb") as stream:
            stream.write(Path(os.fsdecode(self._at(path))).read_bytes())

    def tar_out(self, path: str, file: str, numericowner: bool) -> None:
        assert numericowner
        if "tar" in self.world:
            raise RuntimeError(self.world["tar"])
        with open(file, "wb") as stream:
            subprocess.run(["tar", "-C", self._at(path), "--numeric-owner", "-cf", "-", "."], stdout=stream, check=True)


def main() -> int:
    GuestFS.top, GuestFS.world = os.fsencode(sys.argv[1]), json.loads(sys.argv[2])
    library = types.ModuleType("guestfs")
    library.GuestFS = GuestFS  # type: ignore[attr-defined]
    sys.modules["guestfs"] = library
    package = types.ModuleType("rooms")
    package.__path__ = [str(ROOT / "plugins/module_utils")]
    sys.modules["rooms"] = package
    return int(importlib.import_module("rooms._appliance").serve(sys.stdin.buffer, sys.stdout.buffer))


if __name__ == "__main__":
    sys.exit(main())
