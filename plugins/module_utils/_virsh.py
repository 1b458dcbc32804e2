# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The questions and orders this collection has for libvirt, through virsh and nothing else."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable
from xml.etree import ElementTree

from . import _answers, _domain
from ._domain import STOPPED
from ._errors import ResilientVmError
from ._process import Completed, Runner

__all__ = ["URI", "Details", "Facts", "Job", "Unreachable", "Virsh"]

URI = "qemu:///system"
OURS = "resilient-vm-"

_MARK = "@resilient-vm@"
_NO_DOMAIN = ("Domain not found", "failed to get domain")
_NO_JOB = "no domain backup job present"
_UNREACHABLE = (
    "failed to connect to the hypervisor",
    "Failed to connect socket",
    "End of file while reading data",
    "Cannot recv data",
    "Cannot write data",
    "client socket is closed",
    "Disconnected from",
)
# libvirt notices only after 30 s that a machine which shut itself down in the middle of a backup is off.
_ABORT_PAUSES = (0.1,) * 20 + (0.5,) * 90
# Five times within about a second and a half, as after a migration.
_ANNOUNCE = '{"execute": "announce-self", "arguments": {"initial": 50, "max": 550, "rounds": 5, "step": 100}}'


class Unreachable(ResilientVmError):
    """libvirtd gave no answer: nothing is known, nothing is wrong yet. It may be restarting."""


@dataclass(frozen=True)
class Job:
    """A backup job; ``socket`` is where a pull job answers, "" for any other."""

    socket: str = ""

    def within(self, folder: str) -> bool:
        return self.socket.startswith(folder.rstrip("/") + "/")


@dataclass(frozen=True)
class Facts:
    """One domain as it is now."""

    domain: _domain.Domain
    state: str
    reason: str
    sizes: Mapping[str, tuple[int, int]]  # target: (size, allocation) in bytes
    checkpoints: tuple[str, ...]
    job: Job | None

    @property
    def running(self) -> bool:
        return self.state not in STOPPED

    @property
    def own_checkpoints(self) -> tuple[str, ...]:
        return tuple(name for name in self.checkpoints if name.startswith(OURS))

    @property
    def foreign_checkpoints(self) -> tuple[str, ...]:
        return tuple(name for name in self.checkpoints if not name.startswith(OURS))


@dataclass(frozen=True)
class Details:
    """What opening a snapshot asks of a domain beside its facts."""

    busy: str  # what libvirt is busy with on a running domain: "" for nothing, else the operation's name
    sources: Mapping[str, Mapping[str, str]]  # checkpoint: {target: path of each disk it counts, as it was then}
    sizes: Mapping[str, Mapping[str, int]]  # checkpoint: {target: bytes changed since, where libvirt can tell}
    libvirt_version: str
    qemu_version: str


class Virsh:
    """virsh with a runner. Domains are named by UUID: virsh takes a name like "7" for a running domain's number."""

    def __init__(self, run: Runner, sleep: Callable[[float], None] = time.sleep) -> None:
        self._run = run
        self._sleep = sleep

    def call(self, *words: str, timeout_seconds: float = 60.0, check: bool = True) -> Completed:
        done = self._run(["virsh", "-c", URI, *words], timeout_seconds=timeout_seconds, check=False)
        if done.code != 0:
            _refuse_silence(done)
        if done.code != 0 and check:
            raise ResilientVmError(f"virsh {words[0]} failed: {_sentence(done)}", argv=list(words), code=done.code)
        return done

    def _several(self, *commands: str) -> tuple[list[str], Completed]:
        """The answers to several commands, "" where there was none, by one process: virsh takes its time to start."""
        done = self.call(f"; echo {_MARK}; ".join(commands), check=False)
        # The last one's code is told, and the connection may have broken before it.
        _refuse_silence(done)
        answers = [part.strip() for part in done.stdout.split(_MARK)]
        if len(answers) != len(commands):
            raise ResilientVmError(f"virsh {commands[0]} failed: {_sentence(done)}")
        return answers, done

    # questions

    def domains(self) -> dict[str, str]:
        """{name: UUID} of every domain."""
        found = {}
        for line in self.call("list", "--all", "--uuid", "--name").stdout.splitlines():
            uuid, _space, name = line.strip().partition(" ")
            if name:
                found[name.strip()] = uuid
        return found

    def versions(self) -> tuple[str, str]:
        """(libvirt's, QEMU's) version."""
        return _answers.versions(self.call("version", "--daemon").stdout)

    def autostarted(self) -> set[str]:
        """UUIDs of the domains that start with the host."""
        return set(self.call("list", "--all", "--autostart", "--uuid").stdout.split())

    def facts(self, uuid: str) -> Facts:
        """Everything about a domain by one process: a host has many domains."""
        answers, done = self._several(
            f"dumpxml {uuid}",
            f"domstate {uuid} --reason",
            f"domblkinfo {uuid} --all",
            f"checkpoint-list {uuid} --name --topological",
            f"backup-dumpxml {uuid}",
        )
        if not answers[0] or not answers[1]:
            raise ResilientVmError(f"virsh can't describe domain {uuid}: {_sentence(done)}")
        if not answers[4] and _NO_JOB not in done.stderr:
            raise ResilientVmError(f"virsh can't tell whether domain {uuid} has a backup job: {_sentence(done)}")
        state, reason = _answers.state(answers[1])
        return Facts(
            domain=self._resolved(_domain.parse(answers[0])),
            state=state,
            reason=reason,
            sizes=_answers.sizes(answers[2]),
            checkpoints=tuple(answers[3].split()),
            job=_job(answers[4]),
        )

    def _resolved(self, domain: _domain.Domain) -> _domain.Domain:
        volumes = {(disk.pool, disk.volume) for disk in domain.disks if disk.type == "volume"}
        paths = {}
        for pool, volume in volumes:
            paths[pool, volume] = self.call("vol-path", "--pool", pool, "--vol", volume, check=False).stdout.strip()
        return _domain.resolve_volumes(domain, paths)

    def details(self, uuid: str, running: bool, checkpoints: Sequence[str], sized: Sequence[str]) -> Details:
        """About a domain, these checkpoints of it and what changed since some, by one process."""
        answers, done = self._several(
            *([f"domjobinfo {uuid}"] if running else []),
            *(f"checkpoint-dumpxml {uuid} {name} --security-info" for name in checkpoints),
            *(f"checkpoint-dumpxml {uuid} {name} --size --no-domain" for name in sized),
            "version --daemon",
        )
        if not all((answers[0], answers[-1])):
            raise ResilientVmError(f"virsh can't tell what domain {uuid} is busy with: {_sentence(done)}")
        busy = _answers.busy(answers.pop(0)) if running else ""
        libvirt_version, qemu_version = _answers.versions(answers.pop())
        sources, sizes = answers[: len(checkpoints)], answers[len(checkpoints) :]
        return Details(
            busy=busy,
            sources={
                name: paths for name, xml in zip(checkpoints, sources) if (paths := _answers.counted(xml)) is not None
            },
            sizes={name: _answers.changed(xml) for name, xml in zip(sized, sizes)},
            libvirt_version=libvirt_version,
            qemu_version=qemu_version,
        )

    def look(self, uuid: str) -> tuple[tuple[str, str], Job | None]:
        """What ``state`` and ``job`` tell, by one process."""
        answers, done = self._several(f"domstate {uuid} --reason", f"backup-dumpxml {uuid}")
        return _told_state(answers[0], done), _told_job(answers[1], done)

    def state(self, uuid: str) -> tuple[str, str]:
        """("running", "booted") and the like; ("", "") when there is no such domain."""
        done = self.call("domstate", uuid, "--reason", check=False)
        return _told_state(done.stdout, done)

    def job(self, uuid: str) -> Job | None:
        """The backup job of a domain; None also when there is no such domain, or it does not run."""
        done = self.call("backup-dumpxml", uuid, check=False)
        return _told_job(done.stdout, done)

    def inactive_xml(self, uuid: str) -> str:
        """What the domain will be at its next start, passwords included: it has to start elsewhere."""
        return self.call("dumpxml", uuid, "--inactive", "--security-info").stdout

    def inactive(self, uuid: str) -> _domain.Domain:
        """The same, read, with the paths of storage pools' volumes."""
        return self._resolved(_domain.parse(self.inactive_xml(uuid)))

    def capabilities(self) -> str:
        """XML of what this host's QEMU can run."""
        return self.call("capabilities").stdout

    def networks(self) -> list[str]:
        """Names of the active networks."""
        return self.call("net-list", "--name").stdout.split()

    def bridge_of(self, network: str) -> str:
        """The bridge behind a network of libvirt's, or ""."""
        done = self.call("net-dumpxml", network, check=False)
        node = ElementTree.fromstring(done.stdout).find("bridge") if done.code == 0 else None
        return "" if node is None else node.get("name", "")

    def compare_cpu(self, file: str, virt_type: str, arch: str, machine: str) -> str:
        """What libvirt has against starting a machine with this <cpu> here; "" for nothing."""
        asked = [
            "hypervisor-cpu-compare",
            file,
            "--virttype",
            virt_type,
            "--arch",
            arch,
            "--machine",
            machine,
            "--error",
        ]
        done = self.call(*asked, check=False)
        return "" if done.code == 0 else _sentence(done).replace(file, "<cpu>")

    def pulled(self, uuid: str, target: str) -> int | None:
        """How far, in bytes of the disk, its pull or its copy is; None when there is none."""
        told = self.call("blockjob", uuid, target, "--info", "--raw").stdout
        found = re.search(r"^\s*cur=(\d+)", told, re.MULTILINE)
        return int(found.group(1)) if found else None

    # orders

    def freeze(self, uuid: str, timeout_seconds: float) -> int:
        """Freeze the guest's file systems through its agent; how many."""
        return _answers.count(self.call("domfsfreeze", uuid, timeout_seconds=timeout_seconds).stdout)

    def thaw(self, uuid: str, timeout_seconds: float) -> int:
        """Thaw the guest's file systems; how many were frozen until now."""
        return _answers.count(self.call("domfsthaw", uuid, timeout_seconds=timeout_seconds).stdout)

    def begin_backup(self, uuid: str, backup_file: str, checkpoint_file: str | None, timeout_seconds: float) -> str:
        """Begin a backup job; "" or why libvirt refused. Raises when libvirt gives no answer in time."""
        words = ["backup-begin", uuid, backup_file, *([checkpoint_file] if checkpoint_file else [])]
        done = self.call(*words, timeout_seconds=timeout_seconds, check=False)
        return "" if done.code == 0 else _sentence(done)

    def abort_backup(self, uuid: str, folder: str) -> bool:
        """End the backup job that answers inside a folder; False when there is none. Never another's job."""
        found, refusal = False, ""
        for pause in _ABORT_PAUSES:
            job = self.job(uuid)
            if job is None or not job.within(folder):
                return found
            if not found or refusal:
                # Refused when the job ends by itself at this moment, or while its QEMU does.
                done = self.call("domjobabort", uuid, check=False)
                found, refusal = True, "" if done.code == 0 else f" ({_sentence(done)})"
            self._sleep(pause)
        raise ResilientVmError(
            f"libvirt does not end the backup job of domain {uuid}{refusal}; look at virsh domjobinfo {uuid}"
        )

    def define(self, file: str) -> None:
        self.call("define", file)

    def define_text(self, xml: str, folder: str) -> None:
        """The same from a text, which only root may read: it holds passwords. ``folder`` is root's."""
        file = os.path.join(folder, ".new.xml")
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            stream.write(xml)
        try:
            self.define(file)
        finally:
            os.unlink(file)

    def pull(self, uuid: str, target: str, bytes_per_second: int) -> None:
        """Have a running machine's disk take in, beside its work, what it still reads from below it; 0: no limit."""
        self.call("blockpull", uuid, target, *_limit(bytes_per_second))

    def copy(self, uuid: str, target: str, path: str, kind: str, bytes_per_second: int) -> None:
        """Have a running machine's disk copied to a file, and the copy kept up with it; 0: no limit."""
        words = ["--dest", path, "--format", kind, "--transient-job", *_limit(bytes_per_second)]
        self.call("blockcopy", uuid, target, *words)

    def go_over(self, uuid: str, target: str) -> None:
        """Have the machine use the copy of a disk in its place, now and at its next start."""
        self.call("blockjob", uuid, target, "--pivot")

    def start(self, uuid: str) -> None:
        self.call("start", uuid, timeout_seconds=120.0)

    def undefine(self, uuid: str) -> None:
        """Forget a stopped domain. Its firmware's variables stay: they belong to the image, not to libvirt."""
        self.call("undefine", uuid, "--keep-nvram", "--managed-save", "--checkpoints-metadata", "--snapshots-metadata")

    def announce(self, uuid: str) -> str:
        """Have QEMU say, from each of a running machine's interfaces, where it is now; "" or why it could not.

        It is the one that knows the ports and their VLANs; that libvirt marks the machine as tainted changes nothing.
        """
        done = self.call("qemu-monitor-command", uuid, _ANNOUNCE, check=False)
        # An error of QEMU's is an answer like any other.
        return "" if done.code == 0 and '"error"' not in done.stdout else _sentence(done)

    def enable_autostart(self, uuid: str) -> None:
        self.call("autostart", uuid)

    def disable_autostart(self, uuid: str) -> None:
        self.call("autostart", uuid, "--disable")

    def resume(self, uuid: str) -> None:
        self.call("resume", uuid)

    def delete_checkpoint(self, uuid: str, name: str) -> None:
        """Forget a checkpoint and its bitmaps; when a bitmap is gone already, what libvirt remembers of it."""
        if self.call("checkpoint-delete", uuid, name, check=False).code != 0:
            self.call("checkpoint-delete", uuid, name, "--metadata")


def _limit(bytes_per_second: int) -> list[str]:
    return ["--bandwidth", str(bytes_per_second), "--bytes"] if bytes_per_second else []


def _sentence(done: Completed) -> str:
    text = done.stderr.strip() or done.stdout.strip() or f"exit code {done.code}"
    return "; ".join(line.strip().removeprefix("error: ") for line in text.splitlines() if line.strip())


def _refuse_silence(done: Completed) -> None:
    if any(text in done.stderr for text in _UNREACHABLE):
        raise Unreachable(f"libvirt does not answer on this host: {_sentence(done)}; look at systemctl status libvirtd")


def _told_state(text: str, done: Completed) -> tuple[str, str]:
    if text.strip():
        return _answers.state(text)
    if any(text in done.stderr for text in _NO_DOMAIN):
        return "", ""
    raise ResilientVmError(f"virsh domstate failed: {_sentence(done)}")


def _told_job(text: str, done: Completed) -> Job | None:
    if text.strip() or any(text in done.stderr for text in (_NO_JOB, "domain is not running", *_NO_DOMAIN)):
        return _job(text)
    raise ResilientVmError(f"virsh backup-dumpxml failed: {_sentence(done)}")


def _job(text: str) -> Job | None:
    if not text.strip():
        return None
    server = ElementTree.fromstring(text).find("server")
    return Job("" if server is None else server.get("socket", ""))
