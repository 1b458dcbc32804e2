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
    if vault.world.on("a", f"virsh domstate {VM}") != "running":
        # Another test cut the power of its host, and with that lost its bitmaps.
        vault.start_guests()
        vault.next_day()
        vault.cycle()
    yield vault
    vault.start_guests()


@pytest.mark.soak
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


@pytest.mark.soak
@pytest.mark.parametrize("how", ["destroy", "stop"])
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
    assert f"domain {VM} stopped" in " ".join(played.output.split()), played.output
    assert owned.image_id not in owned.world.images(VM)
    owned.intact(before)
    owned.converges()
    assert owned.told() == ("offline", "bitmap", "")


@pytest.mark.soak
def test_a_managed_save_beside_an_open_snapshot(owned: Vault) -> None:
    """Libvirt has it wait for the end of the backup, or refuses it after 30 seconds; it never spoils the image."""
    before = owned.before()
    owned.next_day()
    with owned.copying("fetch") as play:
        owned.world.on("a", f"virsh managedsave {VM}", check=False)
    played = owned.ended(play)
    assert played.code == 0, played.output
    assert owned.told() == ("crash", "bitmap", "")
    owned.intact(before)
    owned.settled()
    # The image of a saved machine is that of a stopped one: its disks, not its memory.
    owned.world.on("a", f"virsh domstate {VM} | grep -q 'shut off' || virsh managedsave {VM}")
    owned.day += 1
    owned.converges()
    assert owned.told() == ("offline", "bitmap", "")


@pytest.mark.soak
def test_an_owners_external_snapshot_beside_an_open_one(owned: Vault) -> None:
    """As above; then the disk is another file, in this image or the next."""
    create = f"virsh snapshot-create-as {VM} owner --disk-only --no-metadata"
    before = owned.before()
    owned.next_day()
    with owned.copying("fetch") as play:
        owned.world.on("a", create, check=False)
    played = owned.ended(play)
    assert played.code == 0, played.output
    assert owned.told() == ("crash", "bitmap", "")
    owned.intact(before)
    owned.settled()
    owned.world.on("a", f"virsh domblklist {VM} | grep -q '[.]owner$' || {create}")
    try:
        owned.next_day()
        owned.converges()
    finally:
        owned.world.on("a", f"virsh blockcommit {VM} vda --active --pivot --wait")
        owned.world.on("a", f"rm /var/lib/libvirt/images/{VM}-vda.owner")
