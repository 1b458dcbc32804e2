# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the proof that libvirt asks the gate."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _hook
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._gate_proof import GateProof
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._registry import PROBE, Registry
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._tree import Tree


@dataclass
class Libvirt:
    """A libvirt that asks the hook that lies there, unless its daemon began before there was one."""

    place: Path
    asks: bool = True
    restarts: int = 0
    running: set[str] = field(default_factory=set)
    refuses: str = ""

    @property
    def proof(self) -> GateProof:
        registry = Registry(str(self.place / "gate"), str(self.place / "confirmed"))
        return GateProof(self.run, "qemu", registry, str(self.place / "hooks"), _hook.__file__, lambda _seconds: None)

    def run(self, argv: list[str], **_options: Any) -> Completed:
        if argv[:2] == ["systemctl", "show"]:
            return Completed(0, "active" if argv[-1] == "libvirtd.service" else "inactive", "")
        if argv[0] == "systemctl":
            assert argv[1:] == ["restart", "libvirtd.service"]
            self.restarts += 1
            self.asks = True
            return Completed(0, "", "")
        if argv[3] == "create":
            return self._create(Path(argv[4]).read_bytes())
        if argv[3] == "destroy":
            self.running.remove(argv[4])
        return Completed(0, "", "")

    def _create(self, definition: bytes) -> Completed:
        assert f"<uuid>{PROBE}</uuid>".encode() in definition
        if self.refuses:
            return Completed(1, "", self.refuses)
        hook = self.place / "hooks/qemu.d/50-resilient-vm"
        if self.asks and os.access(hook, os.X_OK):
            program = self.place / "program"
            program.write_text(hook.read_text().replace(_hook.REGISTRY, str(self.place / "gate")))
            words = ["python3", "-I", str(program), "probe", "prepare", "begin", "-"]
            done = subprocess.run(words, input=definition, capture_output=True, check=False)
            if done.returncode:
                return Completed(1, "", f"error: Hook script execution failed: {done.stderr.decode()}")
        self.running.add(PROBE)
        return Completed(0, "", "")

    def install(self, dry: bool = False) -> Tree:
        tree = Tree(dry, lambda _name: (os.getuid(), os.getgid()))
        self.new = self.proof.install(tree, "a")
        return tree


@pytest.fixture
def libvirt(tmp_path: Path) -> Libvirt:
    return Libvirt(tmp_path)


def test_check_do_check_do(libvirt: Libvirt) -> None:
    changed = [libvirt.install(dry).changed for dry in (True, False, True, False)]
    assert changed == [True, True, False, False]
    assert not libvirt.new
    assert os.access(libvirt.proof.hook, os.X_OK)


def test_a_refused_start_is_the_proof(libvirt: Libvirt) -> None:
    libvirt.install()
    assert libvirt.new
    assert libvirt.proof.prove(may_restart=True) is False
    assert libvirt.restarts == 0 and not libvirt.running
    assert sorted(os.listdir(libvirt.place / "confirmed")) == ["lock"]


def test_libvirt_is_restarted_when_it_does_not_ask_yet_and_only_then(libvirt: Libvirt) -> None:
    libvirt.asks = False
    libvirt.install()
    assert libvirt.proof.prove(may_restart=True) is True
    assert libvirt.proof.prove(may_restart=True) is False
    assert libvirt.restarts == 1 and not libvirt.running


@pytest.mark.parametrize("fault", ["no run bit", "no hook", "never asked", "no entry"])
def test_a_machine_that_got_through_is_stopped_and_told(libvirt: Libvirt, fault: str) -> None:
    libvirt.install()
    if fault == "no run bit":
        os.chmod(libvirt.proof.hook, 0o644)
    elif fault == "no hook":
        os.unlink(libvirt.proof.hook)
    elif fault == "no entry":
        os.unlink(libvirt.place / "gate" / f"{PROBE}.json")
    else:
        libvirt.asks = False
    with pytest.raises(ResilientVmError, match=r"starts machines that the gate refuses.*run the site playbook"):
        libvirt.proof.prove(may_restart=False)
    assert libvirt.restarts == 0 and not libvirt.running


def test_a_refusal_for_another_reason_proves_nothing(libvirt: Libvirt) -> None:
    libvirt.install()
    libvirt.refuses = "error: no emulator for this machine"
    with pytest.raises(ResilientVmError, match=r"refuses a throwaway domain for another reason.*no emulator"):
        libvirt.proof.prove(may_restart=True)


def test_the_throwaway_machine_is_refused_without_any_confirmation(libvirt: Libvirt) -> None:
    libvirt.install()
    entry = json.loads(Path(libvirt.proof.registry.path(PROBE)).read_text())
    state = json.loads(Path(entry["state"]).read_text())
    assert _hook.verdict(entry, state, {"boot_id": "x", "epoch": 1}, "x").startswith("the active host of resilient-vm/")
