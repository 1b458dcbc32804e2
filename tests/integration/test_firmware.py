# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM with UEFI firmware and a TPM has both wherever it goes: in its images, as a twin, taken over, and back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.world import STORE, Played, World

pytestmark = pytest.mark.soak

VM, TWIN, STRANGER = "sealed", "sealed-then", "sealed-other"
_STATE = "/var/lib/libvirt/swtpm/{}/tpm2/tpm2-00.permall"


class Sealed:
    """The VM, and what its firmware and its TPM hold on a host."""

    def __init__(self, world: World, inventory: Path) -> None:
        self.world, self.inventory = world, inventory

    def play(self, name: str, *options: str, expect: int = 0, **variables: Any) -> Played:
        return self.world.play(name, "--limit", VM, *options, inventory=[self.inventory], expect=expect, **variables)

    def marked(self, host: str, vm: str = VM) -> bool:
        return self.world.nvram_is_marked(host, self.world.nvram(host, vm))

    def tpm(self, host: str, vm: str = VM) -> bytes:
        identity = self.world.on(host, f"virsh domuuid {vm}")
        return bytes.fromhex(self.world.on(host, f"od -An -v -tx1 {_STATE.format(identity)}").replace("\n", " "))


def alike(one: bytes, other: bytes) -> float:
    """The share of bytes that are the same: what a TPM counts differs after a boot, its seeds and keys do not."""
    return sum(a == b for a, b in zip(one, other, strict=False)) / max(len(one), len(other))


@pytest.fixture(scope="module")
def sealed(machines: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    inventory = machines.inventory_file(tmp_path_factory.mktemp("inventory") / "sealed.json", {VM: {}})
    running = machines.on("a", "virsh list --name").split()
    sealed = Sealed(machines, inventory)
    for vm in (VM, STRANGER):
        machines.lab("guest", "create", "a", vm, "--kind", "uefi", "--tpm", "--rate", "0", "--start")
        machines.lab("guest", "stop", vm, "--on", "a")
    machines.mark_nvram("a", VM)
    machines.lab("guest", "start", VM, "--on", "a")
    machines.lab("guest", "wait", VM, "--on", "a")
    machines.protect(inventory, VM)
    machines.in_guest(VM, "echo written > /disk/vda/marker; sync")
    sealed.play("daily")
    yield sealed
    machines.lab("up", "a")
    for host in "ab":
        machines.on(host, f"virsh destroy {VM}", check=False)
    machines.lab("guest", "remove", STRANGER, "--on", "a")
    machines.back_to_work([vm for vm in running if vm != VM])


def test_an_image_and_a_generation_have_both(sealed: Sealed) -> None:
    world, [newest] = sealed.world, sealed.world.images(VM)
    for host, folder in (("c", "images"), ("b", "generations")):
        here = f"{STORE}/{VM}/{folder}/{newest}"
        assert world.nvram_is_marked(host, f"{here}/nvram.fd")
        assert "tpm2-00.permall" in world.on(host, f"tar -tf {here}/tpm.tar")
    # What tells a TPM from another one, for the tests that follow.
    assert alike(sealed.tpm("a"), sealed.tpm("a", STRANGER)) < 0.9


def test_a_drill_boots_it_with_copies_of_both(sealed: Sealed) -> None:
    world, [newest] = sealed.world, sealed.world.images(VM)
    before = world.on("b", f"cd {STORE}/{VM}; find generations -type f | xargs sha256sum")
    sealed.play("drill")
    assert f"image {newest} proven by a drill" in " ".join(sealed.play("status").output.split())
    assert world.on("b", f"cd {STORE}/{VM}; find generations -type f | xargs sha256sum") == before
    assert world.on("b", "ls -A /var/lib/libvirt/swtpm; ls -A /var/lib/libvirt/qemu/nvram") == ""


def test_a_new_vm_beside_it_has_copies_of_both(sealed: Sealed) -> None:
    world = sealed.world
    wish = {"restore_to": "beside", "restore_point": "latest", "restore_host": "b", "restore_name": TWIN}
    sealed.play("restore", **wish)
    try:
        assert sealed.marked("b", TWIN) and alike(sealed.tpm("a"), sealed.tpm("b", TWIN)) > 0.9
        sealed.play("restore", restore_start=True, **wish)
        world.lab("guest", "wait", TWIN, "--on", "b")
        assert world.in_guest(TWIN, "cat /disk/vda/marker", on="b") == "written"
        assert world.nvram("a", VM) != world.nvram("b", TWIN)
    finally:
        world.on("b", f"virsh destroy {TWIN}; virsh undefine {TWIN} --nvram --tpm; rm -r {STORE}/{VM}/restored")


def test_it_is_taken_over_and_goes_back_with_both(sealed: Sealed) -> None:
    world, tpm = sealed.world, sealed.tpm("a")
    world.lab("crash", "a")
    asked = sealed.play("failover", expect=1)
    word = re.search(r"resilient_vm_confirm=(\S+)", asked.output)
    assert word, asked.output
    sealed.play("failover", confirm=word.group(1))
    world.lab("guest", "wait", VM, "--on", "b")
    assert world.in_guest(VM, "cat /disk/vda/marker", on="b") == "written"
    assert sealed.marked("b") and alike(tpm, sealed.tpm("b")) > 0.9
    world.lab("up", "a")
    sealed.play("reprotect")
    world.in_guest(VM, "echo more > /disk/vda/marker; sync", on="b")
    sealed.play("switchover", switch_to="a")
    world.lab("guest", "wait", VM, "--on", "a")
    assert world.in_guest(VM, "cat /disk/vda/marker") == "more"
    assert sealed.marked("a") and alike(tpm, sealed.tpm("a")) > 0.9
    newest = world.images(VM)[-1]
    assert world.check_image(VM, newest) == world.check_image(VM, newest, "b")
