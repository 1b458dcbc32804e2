# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab of the benchmarks' own: machines, guests with data on their disks, and hands that run programs there."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from integration.world import ROOT, STORE, World
from lab.rvmlab.config import MACHINES

__all__ = ["MIB", "PEERS", "REMOTE", "Bench", "Done", "Guest", "Hand"]

MIB = 1 << 20
# Where the benchmarks' programs lie on the machines, and on C what the peers write: the disk ours writes to.
REMOTE = "/run/bench"
PEERS = "/var/lib/resilient-vm/bench"
_IMAGES = "/var/lib/libvirt/images"
# Peers get the cipher that ours asks for, which is over twice as fast as their default.
_SSH_CONFIG = """\
Host a b c
  User root
  Ciphers aes128-gcm@openssh.com
  StrictHostKeyChecking yes
  UserKnownHostsFile /root/.ssh/known_hosts
"""


@dataclass(frozen=True)
class Done:
    """A program that ended well on a machine; times are of the clock all machines share."""

    out: str
    err: str
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True)
class Guest:
    """A guest on A: ``data_mib`` of one kind of data on a disk of ``size_mib``. A twin has another one's disk.

    One that does not boot runs all the same, and has no kernel beside its disk that a peer would copy too.
    """

    name: str
    size_mib: int
    data_mib: int = 0
    content: str = "mixed"
    twin_of: str | None = None
    boots: bool = True

    @property
    def disk(self) -> str:
        return f"{_IMAGES}/{self.name}-vda.qcow2"


class Hand:
    """One process on a machine that runs programs there, so that no measured time holds the way into the machine."""

    def __init__(self, world: World, host: str) -> None:
        self.host = host
        words = [str(ROOT / "tests/lab/lab"), "exec", host, "/usr/bin/python3", f"{REMOTE}/hand.py"]
        self._process = subprocess.Popen(
            words, env=world.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._asked: list[str] = []

    def begin(self, argv: Sequence[str], stdin: str | None = None) -> None:
        """Start a program; ``end`` waits for it."""
        self._asked = list(argv)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"argv": self._asked, "input": stdin}) + "\n")
        self._process.stdin.flush()

    def end(self, check: bool = True) -> Done:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"machine {self.host} went away while it ran {self._asked}")
        answer = json.loads(line)
        code = answer.pop("code")
        if check and code != 0:
            said = (answer["err"].strip() or answer["out"].strip())[-2000:]
            raise RuntimeError(f"{' '.join(self._asked)} failed ({code}) on machine {self.host}:\n{said}")
        return Done(**answer)

    def run(self, argv: Sequence[str], stdin: str | None = None, check: bool = True) -> Done:
        self.begin(argv, stdin)
        return self.end(check)

    def sh(self, script: str, check: bool = True) -> Done:
        return self.run(["bash", "-ec", script], check=check)

    def close(self) -> None:
        assert self._process.stdin is not None
        if not self._process.stdin.closed:
            self._process.stdin.close()
            self._process.wait(timeout=60)


@dataclass
class Bench:
    """The lab with what the cases need, and the size everything is derived from."""

    world: World
    size_mib: int
    seed: int = 1
    vms: int = 100
    hands: dict[str, Hand] = field(default_factory=dict)
    inventory: Path = field(init=False)
    _others: list[Hand] = field(default_factory=list)
    _made: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.inventory = self.world.state / "bench.json"

    @property
    def a(self) -> Hand:
        return self.hands["a"]

    @property
    def b(self) -> Hand:
        return self.hands["b"]

    @property
    def c(self) -> Hand:
        return self.hands["c"]

    def another(self, host: str) -> Hand:
        """One more hand on a machine, for what happens while the first one is busy; closed with the others."""
        hand = Hand(self.world, host)
        self._others.append(hand)
        return hand

    def address(self, host: str) -> str:
        return MACHINES[host].address

    # setting up

    def up(self) -> None:
        """Start the machines and put the benchmarks' programs and the peers' keys on them."""
        # Room for peers' copies of several disks beside the images.
        self.world.lab("up", "--disk", "a=64G", "--disk", "c=96G", timeout=1800)
        key, known = ((self.world.state / name).read_text() for name in ("id_ed25519", "known_hosts"))
        for host in MACHINES:
            for program in sorted((ROOT / "tests/bench/remote").glob("*.py")):
                self._put(host, f"{REMOTE}/{program.name}", program.read_text())
            self._put(host, "/root/.ssh/id_ed25519", key)
            self._put(host, "/root/.ssh/known_hosts", known)
            self._put(host, "/root/.ssh/config", _SSH_CONFIG)
            self.hands[host] = Hand(self.world, host)

    def _put(self, host: str, path: str, text: str) -> None:
        folder = str(Path(path).parent)
        script = f"umask 077; mkdir -p {folder}; cat > {path}"
        self.world.lab("exec", host, "sh", "-ec", script, stdin=text)

    def make(self, guests: Sequence[Guest]) -> None:
        """Make guests that are not there yet, a twin after the one it takes after, and protect them."""
        there = {line.split()[0] for line in self.world.lab("guest", "list").splitlines()}
        for guest in guests:
            if guest.name in there:
                continue
            size = str(guest.size_mib)
            self.world.lab("guest", "create", "a", guest.name, "--kind", "blank", "--size", size)
            if guest.twin_of is not None:
                source = f"{_IMAGES}/{guest.twin_of}-vda.qcow2"
                self.a.sh(f"cp --reflink=always {source} {guest.disk}; qemu-img resize -q {guest.disk} {size}M")
            elif guest.data_mib:
                fill = ["python3", f"{REMOTE}/fill.py", guest.disk, str(guest.data_mib), guest.content, str(self.seed)]
                self.a.run(fill)
            if not guest.boots:
                drop = "/<kernel>/d; /<initrd>/d; /<cmdline>/d"
                self.a.sh(f"virsh dumpxml {guest.name} | sed '{drop}' > {REMOTE}/xml; virsh -q define {REMOTE}/xml")
            self.a.sh(f"sync -f {guest.disk}")
        self._made.update(guest.name for guest in guests)
        self.protect(sorted(self._made))

    def protect(self, names: Sequence[str]) -> None:
        """Run the site playbook, unless it has run for these VMs with these sources."""
        sources = hashlib.sha256(b"".join(path.read_bytes() for path in sorted((ROOT / "plugins").rglob("*.py"))))
        wanted = {sources.hexdigest(), *names}
        stamp = self.inventory.with_suffix(".site")
        self.world.inventory_file(self.inventory, {name: {} for name in names})
        if not stamp.exists() or not wanted <= set(stamp.read_text().split()):
            self.world.play("site", "--limit", "all:!erp:!web", inventory=[self.inventory], timeout=3600)
            stamp.write_text("\n".join(sorted(wanted)))

    def only_running(self, guests: Sequence[Guest]) -> None:
        """Start exactly these guests anew: an idle one costs a share of a processor, a used one may have jobs."""
        for line in self.world.lab("guest", "list").splitlines():
            if "shut off" not in line:
                self.world.lab("guest", "destroy", line.split()[0], "--on", "a")
        for guest in guests:
            self.world.lab("guest", "start", guest.name, "--on", "a")
        for guest in guests:
            if guest.boots:
                self.world.lab("guest", "wait", guest.name, "--on", "a")

    def close(self) -> None:
        for hand in (*self.hands.values(), *self._others):
            hand.close()

    # what cases do between measured things

    def scatter(self, guest: str, blocks: int, span_mib: int, seed: int) -> int:
        """Overwrite scattered blocks of 64 KiB of a running guest's disk; the bytes written."""
        words = [f"{REMOTE}/scatter.py", guest, str(blocks), str(span_mib * MIB), str(seed)]
        return int(self.a.run(["python3", *words]).out)

    def settle(self) -> None:
        """Have all that was written reach the disks; the machines of a lab share one kernel."""
        self.a.sh("sync")

    def digest(self, host: str, path: str) -> str:
        """Digest of what a disk file holds, computed by a program that shares no code with ours or a peer."""
        kind = "qcow2" if path.endswith(".qcow2") else "raw"
        return self.hands[host].run(["python3", f"{REMOTE}/digest.py", kind, path]).out.strip()

    def check(self, host: str, path: str, wanted: str, what: str) -> None:
        """Fail unless a copy is right: a wrong one has no time."""
        found = self.digest(host, path)
        if found != wanted:
            raise RuntimeError(f"{what}: {path} on machine {host} is not what machine a holds; nothing was measured")

    def clean(self) -> None:
        """Forget all images, generations and peers' copies, so that the next case begins with nothing."""
        self.c.sh(f"rm -rf {PEERS} {STORE}/*/images/* {STORE}/*/incoming/* {STORE}/*/pins/*; mkdir -p {PEERS}")
        self.b.sh(f"rm -rf {PEERS} {STORE}/*/generations/* {STORE}/*/incoming/* {STORE}/*/current; mkdir -p {PEERS}")
        for host in ("b", "c"):
            self.hands[host].sh("sync -f /var/lib/resilient-vm")

    def facts(self) -> dict[str, Any]:
        """What a reader must know of where figures come from."""
        versions = self.c.sh(
            "qemu-img --version | head -1; rsync --version | head -1; nbdcopy --version;"
            " echo virtnbdbackup $(virtnbdbackup --version); ssh -V 2>&1; uname -r"
        )
        commit = subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
        processor = next(
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        )
        return {
            "processor": processor,
            "memory_mib": int(Path("/proc/meminfo").read_text().split()[1]) // 1024,
            "versions": versions.out.strip().splitlines(),
            "commit": commit.stdout.strip(),
            "python": sys.version.split()[0],
        }
