# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has that a machine needs to start, as far as the machine asks for it. Changes nothing."""

from __future__ import annotations

import os
import re
import shutil
import tempfile

from . import _fit, _virsh
from ._layout import Layout
from ._process import Runner

__all__ = ["Host"]

_MEMINFO = "/proc/meminfo"
_DEVICES = "/sys/class/net"


class Host:
    """This host; what is the same for all its machines is asked for once, and not before the first of them."""

    def __init__(self, run: Runner, meminfo: str = _MEMINFO, devices: str = _DEVICES) -> None:
        self._virsh = _virsh.Virsh(run)
        self._meminfo = meminfo
        self._devices = devices
        self._common: _fit.Abilities | None = None
        # Of those that were looked at, in turn.
        self._needs: list[_fit.Needs] = []

    def unfit(self, layout: Layout, uuid: str) -> list[str]:
        """Why this host could not start the machine it stands by with; one sentence each."""
        needs = _fit.needs_of(self._virsh.inactive_xml(uuid))
        self._needs.append(needs)
        common = self._asked()
        host = _fit.Abilities(
            guests=common.guests,
            networks=common.networks,
            devices=common.devices,
            memory_bytes=common.memory_bytes,
            huge_pages_bytes=common.huge_pages_bytes,
            cpu_refused=self._refused(needs),
            missing=tuple(path for path in needs.files if shutil.which(path) is None and not os.path.exists(path)),
        )
        found = _fit.findings(needs, host)
        if os.path.lexists(layout.running):
            found.append(
                f"{layout.running} holds disks of an earlier time; move it aside (nothing of it is used), so that new "
                "ones can be made there"
            )
        return found

    def crowded(self) -> str:
        """Why those that were looked at could not all run here at once, or ""."""
        return _fit.crowded(self._needs, self._asked()) if self._needs else ""

    def _asked(self) -> _fit.Abilities:
        if self._common is None:
            free, huge = self._memory()
            self._common = _fit.Abilities(
                guests=_fit.guests_of(self._virsh.capabilities()),
                networks=frozenset(self._virsh.networks()),
                devices=frozenset(os.listdir(self._devices)),
                memory_bytes=free,
                huge_pages_bytes=huge,
            )
        return self._common

    def _memory(self) -> tuple[int, int]:
        """Bytes that can be had without swapping, and in huge pages of the usual size."""
        with open(self._meminfo, encoding="ascii") as stream:
            found = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+)", stream.read(), re.MULTILINE)}
        huge = found.get("HugePages_Free", 0) * found.get("Hugepagesize", 0)
        return found["MemAvailable"] << 10, huge << 10

    def _refused(self, needs: _fit.Needs) -> str:
        if not needs.cpu:
            return ""
        with tempfile.NamedTemporaryFile("w", suffix=".xml", encoding="utf-8") as file:
            file.write(needs.cpu)
            file.flush()
            return self._virsh.compare_cpu(file.name, needs.virt_type, needs.arch, needs.machine)
