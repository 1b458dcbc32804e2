# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM that writes down which day it is: three days of images to restore from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from integration.world import STORE, Played, World

__all__ = ["DAYS", "DIARY", "ODD", "TARGETS", "Diary", "image_of"]

DIARY = "diary"
DAYS = (1, 2, 3)
TARGETS = ("vda", "vdb")
# Files that a restore of single files must get right, or leave alone.
ODD = r"""
PATH=/bin; umask 022; for name in chmod chown mkfifo; do ln -sf busybox /bin/$name; done
mkdir -p /disk/vda/odd/private && cd /disk/vda/odd
printf 'tuesday\0\377' > plain; chown 1000:1001 plain; chmod 604 plain
printf 'new line' > "new
line"; printf latin > "$(printf 'ca\351')"; printf utf > 'café'
ln -s /etc/shadow away; ln -s ../odd/plain near; ln plain same
cat plain > lends; chmod 4755 lends; mknod null c 1 3; mkfifo pipe
chown 7:8 private; chmod 2711 private; printf inside > private/file; chmod 0 private/file
"""
# What a restore must never touch: images, generations, state, definitions of machines, what runs.
_TREE = r"""
cd /var/lib/resilient-vm/acme/diary
find images generations state.json current standby.json ! -name lock -printf '%p %s %m %U %T@\n' 2>/dev/null
find incoming restores pins -mindepth 1 -type f 2>/dev/null
systemctl list-units --all --plain --no-legend 'resilient-vm-*acme.diary*'
ls -aR /srv restored 2>/dev/null
command -v virsh > /dev/null || exit 0
virsh list --all; virsh checkpoint-list diary --name 2>/dev/null || true
"""


def image_of(day: int) -> str:
    return f"202601{day:02}T020000Z"


@dataclass
class Diary:
    """A VM that writes down which day it is, and its restores."""

    world: World
    inventory: Path

    def daily(self, day: int) -> None:
        self.world.in_guest(DIARY, f"echo day {day} > /disk/vda/marker; echo day {day} > /disk/vdb/marker; sync")
        now = f"2026-01-{day:02}T02:00:00Z"
        self.world.play("daily", "--limit", DIARY, inventory=[self.inventory], now=now)

    def restore(self, *options: str, expect: int = 0, **wish: Any) -> Played:
        wish.setdefault("to", "files")
        variables = {f"restore_{name}": value for name, value in wish.items()}
        variables.setdefault("now", "2026-01-03T12:00:00Z")
        return self.world.play(
            "restore", "--limit", DIARY, *options, inventory=[self.inventory], expect=expect, **variables
        )

    def tree(self) -> dict[str, str]:
        return {host: "\n".join(sorted(self.world.on(host, _TREE).splitlines())) for host in ("a", "b", "c")}

    def roots(self) -> dict[str, dict[str, str]]:
        """Digests of all images, computed from their files."""
        return {image_id: self.world.check_image(DIARY, image_id) for image_id in self.world.images(DIARY)}

    def check_disks(self, host: str, folder: str, day: int, form: str = "raw") -> None:
        """What lies there is the image of that day, and a whole file system with that day's marker in it."""
        on = self.world.on
        for target in TARGETS:
            path = f"{folder}/{target}.{form}"
            assert on(host, f"stat -c '%a %U' {path}") == "600 root"
            raw = f"/root/{target}.restored"
            on(host, f"qemu-img convert -f {form} -O raw {path} {raw}")
            kept = on("c", f"sha256sum < {STORE}/{DIARY}/images/{image_of(day)}/{target}.raw")
            assert on(host, f"sha256sum < {raw}") == kept
            assert on(host, f"debugfs -R 'cat /marker' {raw} 2>/dev/null") == f"day {day}"
            on(host, f"e2fsck -fn {raw} && rm {raw}")
