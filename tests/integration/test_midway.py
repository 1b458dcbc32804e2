# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VM's owner does in the middle of a copy is the owner's right; the image is right, or there is none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from integration.vault import VM, Vault


@pytest.fixture
def owned(vault: Vault) -> Iterator[Vault]:
    """The VM, running again at the end whatever its owner did to it."""
    yield vault
    vault.start_guests()


def test_a_stopped_vm_that_is_started_wins(owned: Vault) -> None:
    before = owned.before()
    owned.next_day()
    owned.world.lab("guest", "stop", VM, "--on", "a")
    with owned.copying("fetch") as play:
        owned.world.on("a", f"virsh start {VM}")
    played = owned.ended(play)
    assert played.code != 0
    assert "its start wins" in played.output, played.output
    assert owned.image_id not in owned.world.images(VM)
    owned.intact(before)
    owned.world.lab("guest", "wait", VM, "--on", "a")
    owned.converges()
    assert owned.told() == ("crash", "bitmap", "")


@pytest.mark.parametrize("how", ["destroy", pytest.param("stop", marks=pytest.mark.soak)])
def test_a_vm_that_is_powered_off_takes_its_snapshot_with_it(owned: Vault, how: str) -> None:
    before = owned.before()
    owned.next_day()
    with owned.copying("fetch") as play:
        if how == "destroy":
            owned.world.on("a", f"virsh destroy {VM}")
        else:
            owned.world.lab("guest", "stop", VM, "--on", "a")
    played = owned.ended(play)
    assert played.code != 0
    assert f"domain {VM} stopped" in played.output, played.output
    assert owned.image_id not in owned.world.images(VM)
    owned.intact(before)
    owned.converges()
    assert owned.told() == ("offline", "bitmap", "")


@pytest.mark.soak
def test_a_managed_save_beside_an_open_snapshot(owned: Vault) -> None:
    """Libvirt lets it wait for the backup job, or refuses it; it never spoils the image."""
    before = owned.before()
    owned.next_day()
    with owned.copying("fetch") as play:
        owned.world.on("a", f"virsh managedsave {VM}", check=False)
    owned.ended(play)
    owned.intact(before)
    owned.converges()


@pytest.mark.soak
def test_an_owners_external_snapshot_beside_an_open_one(owned: Vault) -> None:
    before = owned.before()
    owned.next_day()
    with owned.copying("fetch") as play:
        owned.world.on("a", f"virsh snapshot-create-as {VM} owner --disk-only --no-metadata", check=False)
    owned.ended(play)
    owned.intact(before)
    owned.converges()
