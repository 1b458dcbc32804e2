# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three real machines as tests see them: run a playbook, look at the disks, break something."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.rvmlab.config import Lab, LabError
from lab.rvmlab.machine import as_in_machine

__all__ = ["ROOT", "Played", "World"]

ROOT = Path(__file__).resolve().parents[2]
STORE = "/var/lib/resilient-vm/acme"
_CHECKER = Path(__file__).with_name("check_image.py")
_STATS = re.compile(r"^(\S+)\s*: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.M)
_RECAP = "recap | Say what came of each VM"
_FAILED = "FAILED: "
_NVRAM_MARK = "these variables and no others"


@dataclass(frozen=True)
class Played:
    """How a playbook ended."""

    code: int
    output: str

    @property
    def changed(self) -> int:
        return sum(int(match.group(2)) for match in _STATS.finditer(self.output))

    @property
    def recap(self) -> dict[str, list[str]]:
        """What the recap of daily says of each VM, line by line."""
        told: dict[str, list[str]] = {}
        text = self.output.partition(_RECAP)[2].partition("\nTASK [")[0]
        for line in text.splitlines():
            if match := re.fullmatch(r" {8}(\S+): (?:ok|FAILED)", line):
                told[match.group(1)] = []
            elif told and line.startswith(" " * 12):
                told[next(reversed(told))].append(line.strip())
        return told

    def refusals(self, vm: str) -> list[str]:
        """The sentences that say why a VM's run is red."""
        return [line.removeprefix(_FAILED) for line in self.recap[vm] if line.startswith(_FAILED)]


class World:
    """One lab, three machines, and the playbooks of this checkout."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self._lab = Lab.from_environment({**os.environ, "RVM_LAB_STATE": str(state)})
        self.environment = {
            **os.environ,
            "RVM_LAB_STATE": str(state),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
        }

    # the lab

    def _lab_command(self, words: Sequence[str]) -> list[str]:
        if words[0] == "exec":
            # Without the program's start, which takes longer than most of what is asked of a machine.
            return [*as_in_machine(self._lab, words[1]), *words[2:]]
        return [str(ROOT / "tests/lab/lab"), *words]

    def lab(self, *words: str, timeout: float = 600, check: bool = True, stdin: str | None = None) -> str:
        try:
            command = self._lab_command(words)
        except LabError as error:
            if check:
                raise AssertionError(f"lab {' '.join(words)} failed: {error}") from error
            return ""
        done = subprocess.run(
            command,
            env=self.environment,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"lab {' '.join(words)} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
        return done.stdout

    def lab_process(self, *words: str) -> subprocess.Popen[str]:
        """A command of the lab that goes on beside the test until its input is closed."""
        return subprocess.Popen(
            self._lab_command(words),
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )

    def on(self, host: str, command: str, check: bool = True, timeout: float = 300) -> str:
        """Run a shell command as root on a machine, not over its network; returns what it printed."""
        return self.lab("exec", host, "sh", "-c", command, check=check, timeout=timeout).strip()

    def spoil(self, host: str, path: str, offset: int) -> None:
        """Invert the bits of one byte of a file: whatever it was, it is another one now."""
        script = (
            "import sys; stream = open(sys.argv[1], 'r+b'); at = int(sys.argv[2]); stream.seek(at); "
            "byte = stream.read(1)[0]; stream.seek(at); stream.write(bytes([byte ^ 255]))"
        )
        self.lab("exec", host, "python3", "-c", script, path, str(offset))

    def nvram(self, host: str, vm: str) -> str:
        """Where the variables of a VM's UEFI firmware lie."""
        return self.on(host, f"virsh dumpxml {vm} | grep -o '/[^<>]*fd</nvram>' | sed 's,</nvram>,,'")

    def mark_nvram(self, host: str, vm: str) -> None:
        """Lay a mark at the end of them, in space that the firmware uses for nothing; only while it is off."""
        script = (
            "import os, sys; variables = open(sys.argv[1], 'r+b'); mark = sys.argv[2].encode(); "
            "variables.seek(-len(mark), os.SEEK_END); variables.write(mark)"
        )
        self.lab("exec", host, "python3", "-c", script, self.nvram(host, vm), _NVRAM_MARK)

    def nvram_is_marked(self, host: str, path: str) -> bool:
        # What lies there otherwise is no text.
        found = self.on(host, f"tail -c {len(_NVRAM_MARK)} {path} | grep -caxF '{_NVRAM_MARK}' || true")
        return found == "1"

    def in_guest(self, vm: str, command: str, on: str = "a") -> str:
        return self.lab("guest", "exec", "--on", on, vm, "sh", "-c", command).strip()

    # playbooks

    def start_play(
        self, name: str, *options: str, inventory: Sequence[Path] = (), **variables: Any
    ) -> subprocess.Popen[str]:
        words = [f"playbooks/{name}.yml", *options]
        if variables:
            words += ["-e", json.dumps({f"resilient_vm_{key}": value for key, value in variables.items()})]
        return self._start_playbook(["tests/lab/inventory/", *inventory], *words)

    def _start_playbook(self, inventory: Sequence[str | Path], *words: str) -> subprocess.Popen[str]:
        sources = [word for source in inventory for word in ("-i", str(source))]
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("ansible-playbook")), *sources, *words],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @staticmethod
    def _played(process: subprocess.Popen[str], name: str, expect: int | None, timeout: float = 600) -> Played:
        with process:
            try:
                output, _nothing = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        if expect is not None and (process.returncode == 0) != (expect == 0):
            raise AssertionError(f"{name} ended with {process.returncode}, expected {expect}:\n{output}")
        return Played(process.returncode, output)

    def play(
        self,
        name: str,
        *options: str,
        expect: int | None = 0,
        inventory: Sequence[Path] = (),
        timeout: float = 600,
        **variables: Any,
    ) -> Played:
        """Run a playbook as a user would. ``expect``: 0 success, 1 any failure, None either."""
        process = self.start_play(name, *options, inventory=inventory, **variables)
        return self._played(process, name, expect, timeout)

    def protect(self, inventory: Path, *vms: str) -> None:
        """Set the machines up for some VMs, whatever else an inventory names."""
        self.play("site", "--limit", ",".join((*vms, "lab_machines")), inventory=[inventory])

    def lab_inventory(self) -> str:
        """The lab's inventory as one JSON document in the YAML inventory's form, to be changed by a test."""
        words = [str(Path(sys.executable).with_name("ansible-inventory")), "-i", "tests/lab/inventory/", "--list"]
        done = subprocess.run(words, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=True)
        listed = json.loads(done.stdout)
        hostvars = listed["_meta"]["hostvars"]
        groups = ("production", "standby", "backup_storage", "protected_vms")
        children = {group: {"hosts": {name: hostvars[name] for name in listed[group]["hosts"]}} for group in groups}
        for group in children.values():
            for values in group["hosts"].values():
                values.pop("resilient_vm_customer", None)
        return json.dumps({"all": {"children": children, "vars": {"resilient_vm_customer": "acme"}}})

    def play_with(self, inventory: Path, name: str, *options: str, expect: int | None = 0) -> Played:
        """Run a playbook on another inventory than the lab's."""
        return self._played(self._start_playbook([inventory], f"playbooks/{name}.yml", *options), name, expect)

    def play_file(self, playbook: Path, *options: str) -> Played:
        """Run a playbook of the test's own on the lab's inventory."""
        process = self._start_playbook(["tests/lab/inventory/"], str(playbook), *options)
        return self._played(process, playbook.name, 0)

    def play_module(self, host: str, module: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Call one of our modules on a machine, as the playbooks do; its result."""
        words = [str(Path(sys.executable).with_name("ansible")), host, "-i", "tests/lab/inventory/"]
        words += ["-m", f"edgecloud.resilient_vm.{module}", "-a", json.dumps(dict(arguments))]
        done = subprocess.run(
            words,
            cwd=ROOT,
            env={**self.environment, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        result: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
        return result

    def back_to_work(self, running: Sequence[str]) -> None:
        """After a power cut of a: start what ran there and was never set to start with its host, and wait for it."""
        self.on("a", "resilient-vm gate")
        for name in sorted(set(running) - set(self.on("a", "virsh list --name").split())):
            self.lab("guest", "start", name, "--on", "a")
            self.lab("guest", "wait", name, "--on", "a")

    # what is on the disks

    def used(self, host: str) -> int:
        """Bytes the filesystem of a machine's images and generations counts as used."""
        folder = "/var/lib/resilient-vm"
        return int(self.on(host, f"sync -f {folder}; df -B1 --output=used {folder} | tail -1"))

    def images(self, vm: str) -> list[str]:
        return self._ids("c", f"{STORE}/{vm}/images")

    def generations(self, vm: str) -> list[str]:
        return self._ids("b", f"{STORE}/{vm}/generations")

    def _ids(self, host: str, folder: str) -> list[str]:
        return self.on(host, f"ls {folder} 2>/dev/null || true").split()

    def current(self, vm: str) -> str:
        return self.on("b", f"basename $(readlink {STORE}/{vm}/current)")

    def manifest(self, vm: str, image_id: str, host: str = "c") -> dict[str, Any]:
        folder = "images" if host == "c" else "generations"
        document: dict[str, Any] = json.loads(self.on(host, f"cat {STORE}/{vm}/{folder}/{image_id}/manifest.json"))
        return document

    def check_image(self, vm: str, image_id: str, host: str = "c") -> dict[str, str]:
        """Root digest of each disk, computed from the raw files by a program that shares no code with the product.

        Fails when a raw file, its digest file and the manifest do not agree.
        """
        folder = "images" if host == "c" else "generations"
        path = f"{STORE}/{vm}/{folder}/{image_id}"
        printed = self.lab("exec", host, "python3", "-", path, stdin=_CHECKER.read_text())
        roots: dict[str, str] = json.loads(printed)
        return roots

    def check_newest(self, vm: str, formats: Mapping[str, str]) -> None:
        """The newest image is what the disks of a (quiet) VM hold now, on C and on B, and nothing is left over.

        ``formats`` are those of its disks by target.
        """
        newest = self.images(vm)[-1]
        for target, image_format in formats.items():
            source = self.on("a", f"virsh domblklist {vm} | awk '$1 == \"{target}\" {{print $2}}'")
            live = self.on(
                "a",
                f"cd /var/lib/resilient-vm && qemu-img convert -U -f {image_format} -O raw {source} live-{vm}"
                f" && sha256sum < live-{vm} && rm live-{vm}",
            )
            assert self.on("c", f"sha256sum < {STORE}/{vm}/images/{newest}/{target}.raw") == live
        assert self.check_image(vm, newest) == self.check_image(vm, newest, "b")
        assert self.current(vm) == newest
        self.nothing_open(vm)

    def nothing_open(self, vm: str) -> None:
        """No snapshot, job, scratch file, unit or working directory of a VM is left anywhere."""
        opened = f"/run/resilient-vm/acme/{vm}"
        incoming = f"ls {STORE}/{vm}/incoming"
        lists = {
            "a": f"if [ -e {opened} ]; then ls {opened}; fi; ls {STORE}/{vm}/scratch; virsh domjobinfo {vm} 2>&1"
            " | grep Backup || true",
            "b": incoming,
            "c": incoming,
        }
        units = f"systemctl list-units --all --plain --no-legend 'resilient-vm-*acme.{vm}*'"
        for host, listing in lists.items():
            assert self.on(host, f"set -e; {listing}; {units}") == "", host

    @staticmethod
    def wait_until(true: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for something that is bound to happen; says what did not."""
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                raise AssertionError(f"after {seconds:g} s still not: {what}")
            time.sleep(0.2)

    @staticmethod
    def inventory_file(
        path: Path,
        vms: Mapping[str, Mapping[str, Any]] | None = None,
        machines: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Path:
        """An inventory source with more protected VMs, or more variables of machines (JSON is YAML)."""
        groups = {"protected_vms": {"hosts": {name: dict(values) for name, values in (vms or {}).items()}}}
        hosts = {name: dict(values) for name, values in (machines or {}).items()}
        path.write_text(json.dumps({"all": {"children": groups, "hosts": hosts}}))
        return path
