# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Twenty VMs in one run, one of them broken: nineteen are protected, the run is red, the recap says which and why.

Then some of the twenty are forgotten, and the others stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.world import STORE, World

NAMES = [f"small{number:02d}" for number in range(1, 21)]
BROKEN = "small13"
RUNNING = NAMES[:3]
DISK = f"/var/lib/libvirt/images/{BROKEN}-vda.qcow2"


@pytest.fixture(scope="module")
def many(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    extra = world.inventory_file(tmp_path_factory.mktemp("inventory") / "many.json", {name: {} for name in NAMES})
    for name in NAMES:
        start = ["--start"] if name in RUNNING else []
        world.lab("guest", "create", "a", name, "--kind", "tiny", *start)
    world.play("site", inventory=[extra])
    yield extra
    for name in NAMES:
        world.lab("guest", "remove", name, "--on", "a")


def held(world: World, host: str, folder: str) -> dict[str, list[str]]:
    """What a machine holds of each VM that has anything there: images on C, generations on B."""
    paths = world.on(host, f"cd {STORE} && find small*/{folder} -mindepth 1 -maxdepth 1 | sort").split()
    found: dict[str, list[str]] = {}
    for path in paths:
        vm, _folder, image_id = path.split("/")
        found.setdefault(vm, []).append(image_id)
    return found


@pytest.mark.soak
def test_one_broken_vm_does_not_stop_the_others_and_is_named(world: World, many: Path) -> None:
    world.on("a", f"mv {DISK} {DISK}.lost")
    try:
        played = world.play("daily", "--limit", ",".join(NAMES), inventory=[many], expect=1, timeout=900)
    finally:
        world.on("a", f"mv {DISK}.lost {DISK}")
    assert list(played.recap) == NAMES
    for name in NAMES:
        assert (played.refusals(name) == []) == (name != BROKEN)
    (sentence,) = played.refusals(BROKEN)
    assert f"disk vda ({DISK}) of acme/{BROKEN}" in sentence
    assert f"1 of 20 VMs failed: {BROKEN}" in played.output
    images = held(world, "c", "images")
    assert {name: len(ids) for name, ids in images.items()} == {name: 1 for name in NAMES if name != BROKEN}
    assert held(world, "b", "generations") == images
    world.play("daily", "--limit", BROKEN, inventory=[many])
    assert len(world.images(BROKEN)) == 1


@pytest.mark.soak
def test_a_vm_is_forgotten_with_or_without_its_images_and_runs_on(world: World, many: Path) -> None:
    """Of two VMs that run and have images, one keeps them on the backup storage."""
    kept, erased, other = RUNNING
    images, generations = held(world, "c", "images"), held(world, "b", "generations")
    running = {vm: world.on("a", f"virsh dumpxml {vm}; cat /run/libvirt/qemu/{vm}.pid") for vm in RUNNING}
    for vm in RUNNING:
        assert "resilient-vm-" in world.on("a", f"virsh checkpoint-list {vm} --name")
    world.play("unprotect", "--limit", kept, inventory=[many])
    world.play("unprotect", "--limit", erased, inventory=[many], erase_images=True)
    for vm in (kept, erased):
        assert world.on("a", f"virsh checkpoint-list {vm} --name") == ""
        assert vm not in world.on("b", "virsh list --all --name").split()
        for host in ("a", "b", "c"):
            assert vm not in world.on(host, f"cat {STORE}/.ssh/authorized_keys; ls /etc/resilient-vm/keys || true")
        for host in ("a", "b"):
            assert world.on(host, f"ls {STORE}/{vm} 2>&1 || true").endswith("No such file or directory")
    assert {vm: world.on("a", f"virsh dumpxml {vm}; cat /run/libvirt/qemu/{vm}.pid") for vm in RUNNING} == running
    assert world.on("c", f"ls {STORE}/{erased} 2>&1 || true").endswith("No such file or directory")
    for image_id in images[kept]:
        world.check_image(kept, image_id)
    assert held(world, "c", "images") == {vm: ids for vm, ids in images.items() if vm != erased}
    assert held(world, "b", "generations") == {vm: ids for vm, ids in generations.items() if vm not in (kept, erased)}
    # What is left of the others is whole: the next run has no more to do than the one before.
    assert "resilient-vm-" in world.on("a", f"virsh checkpoint-list {other} --name")
    assert world.play("daily", "--limit", other, inventory=[many]).changed == 0
