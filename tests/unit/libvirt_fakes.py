# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A libvirt, a systemd and a host for tests: programs answered from a table, every call noted down."""

from __future__ import annotations

import pwd
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from unit.fakes_cycle import UUID

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _units
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed

NO_JOB = "error: Domain backup job id not found: no domain backup job present"
MARK = "@resilient-vm@"
QCOW2 = "<driver name='qemu' type='qcow2'/>"


def disk(target: str = "vda", inside: str = "", source: str = "", attributes: str = "type='file' device='disk'") -> str:
    place = source or f"<source file='/images/{target}.qcow2'/>"
    return f"<disk {attributes}>{inside or QCOW2}{place}<target dev='{target}' bus='virtio'/></disk>"


def domain(*devices: str, name: str = "erp", system: str = "<type>hvm</type>", agent: bool = True) -> str:
    channel = (
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>"
        if agent
        else ""
    )
    return (
        f"<domain type='kvm' id='4'><name>{name}</name><uuid>{UUID}</uuid><os>{system}</os>"
        f"<devices>{''.join(devices)}{channel}</devices></domain>"
    )


def said(stdout: str = "") -> Completed:
    return Completed(0, stdout, "")


def refused(stderr: str, code: int = 1) -> Completed:
    return Completed(code, "", stderr)


Answer = Completed | Exception | Callable[[list[str]], Completed]


@dataclass
class World:
    """Answers programs by the longest beginning of their words that is known; virsh without its connection."""

    answers: dict[str, Answer | list[Answer]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    # Calls of several commands, whose parts are among ``calls``.
    several: list[str] = field(default_factory=list)

    def __call__(
        self, argv: Sequence[str], timeout_seconds: float = 60.0, check: bool = True, stdin: str | None = None
    ) -> Completed:
        del timeout_seconds, stdin
        words = list(argv[3:]) if argv[0] == "virsh" else list(argv)
        if argv[0] == "virsh" and MARK in words[0] and not words[0].startswith("dumpxml"):
            self.several.append(words[0])
            return self._each(words[0].split(f"; echo {MARK}; "))
        said_words = ("virsh " if argv[0] == "virsh" else "") + " ".join(words)
        self.calls.append(said_words)
        known = [key for key in self.answers if said_words.startswith(key)]
        if not known:
            raise AssertionError(f"nobody expected: {said_words}")
        answer = self.answers[max(known, key=len)]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Exception):
            raise answer
        done = answer if isinstance(answer, Completed) else answer(words)
        if check and done.code != 0:
            raise ResilientVmError(f"{said_words} failed: {done.stderr}")
        return done

    def _each(self, commands: list[str]) -> Completed:
        """Several commands in one call: virsh goes on after one that failed, and tells the last one's code."""
        told = [self(["virsh", "-c", "", *command.split()], check=False) for command in commands]
        text = f"\n{MARK}\n".join(done.stdout for done in told)
        return Completed(told[-1].code, text, "\n".join(done.stderr for done in told))

    def asked(self, *beginnings: str) -> list[str]:
        """The calls among these, in order, each cut to the beginning it matched."""
        return [start for call in self.calls for start in beginnings if call.startswith(start)]


def facts_answer(
    xml: str,
    state: str = "running (booted)",
    sizes: str = "vda 1048576 524288 524288",
    checkpoints: str = "",
    job: str = "",
) -> Completed:
    table = f" Target Capacity Allocation Physical\n----\n {sizes}\n"
    text = f"\n{MARK}\n".join([xml, state, table, checkpoints, job])
    return Completed(0 if job else 1, text, "" if job else NO_JOB)


@dataclass
class Host:
    """A host with the site playbook's folders, on which nothing runs as root."""

    layout: Layout
    world: World
    path: Path


def make_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    layout = Layout("acme", "erp", root=str(tmp_path / "root"), runtime=str(tmp_path / "run"))
    for folder in (layout.scratch, layout.generations, layout.runtime):
        Path(folder).mkdir(parents=True)
    mover = tmp_path / "resilient-vm"
    mover.write_text("#!/bin/sh\n")
    mover.chmod(0o755)
    monkeypatch.setattr(_units, "MOVER", str(mover))
    me = pwd.getpwuid(0)
    monkeypatch.setattr("pwd.getpwnam", lambda _name: me)
    monkeypatch.setattr("os.chown", lambda *_args, **_kwargs: None)
    world = World(
        {
            "virsh list --all --uuid --name": said(f"{UUID} erp\n"),
            "virsh version": said("Running against daemon: 9.0.0\nRunning hypervisor: QEMU 7.2.22\n"),
            "virsh domjobinfo": said("Job type:         None\n"),
            "virsh backup-dumpxml": refused(NO_JOB),
            "virsh domstate": said("running (booted)\n"),
            "systemctl show": said("inactive\n"),
            "systemctl list-units": said(""),
            "systemctl stop": said(""),
            "systemd-run": said(""),
        }
    )
    return Host(layout, world, tmp_path)


def never(*_args: Any) -> None:
    """A sleep that takes no time."""
