# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pin laid by the playbook keeps an image, is told, and goes."""

from __future__ import annotations

from integration.vault import VM, Vault
from integration.world import STORE, Played


def test_an_image_is_pinned_told_and_let_go(vault: Vault) -> None:
    world = vault.world
    image_id = world.images(VM)[-1]

    def pin(*options: str, expect: int = 0, **wish: str) -> Played:
        settings = {f"pin_{name}": value for name, value in {"point": image_id, **wish}.items()}
        words = ("pin", "--limit", VM, *options)
        return world.play(*words, inventory=[vault.extra], expect=expect, now=vault.now, **settings)

    assert "needs a reason; set resilient_vm_pin_reason" in pin(expect=1).output
    assert pin("--check", reason="the auditors").changed == 1
    assert world.on("c", f"ls {STORE}/{VM}/pins") == ""
    assert pin(reason="the auditors").changed == 1
    assert pin(reason="the auditors").changed == 0
    status = world.play("status", "--limit", VM, inventory=[vault.extra], now=vault.now)
    assert f"pinned: {image_id} (the auditors)" in status.output
    assert world.on("c", f"stat -c %U {STORE}/{VM}/pins/*") == "rvm-acme"
    assert pin(state="absent").changed == 1
    assert world.on("c", f"ls {STORE}/{VM}/pins") == ""
