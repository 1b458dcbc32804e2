# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about host keys as one machine pins another's."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._doors import Peer, merge_known_hosts
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError

HOST_KEY = "ssh-ed25519 " + "A" * 68


@pytest.mark.parametrize(
    "given",
    [
        {"address": "192.0.2.1", "host_keys": [HOST_KEY + "\n* " + HOST_KEY]},
        {"address": "192.0.2.1 * ", "host_keys": [HOST_KEY]},
        {"address": "a,b", "host_keys": [HOST_KEY]},
    ],
)
def test_what_another_machine_calls_its_host_key_pins_no_other_machine(given: dict[str, Any]) -> None:
    with pytest.raises(ResilientVmError):
        Peer.of("a", given)


def test_another_port_is_pinned_as_ssh_looks_it_up() -> None:
    pinned = merge_known_hosts("", [Peer("a", "192.0.2.11", 2222, (HOST_KEY,))])
    assert pinned.splitlines()[1:] == [f"a,[192.0.2.11]:2222 {HOST_KEY}"]


def test_a_rebuilt_machine_has_its_new_host_key_only_and_others_keep_theirs() -> None:
    new = HOST_KEY.replace("A", "N")
    old = f"a,192.0.2.11 {HOST_KEY}\nz {HOST_KEY}\n"
    pinned = merge_known_hosts(old, [Peer("a", "192.0.2.11", 22, (new,))])
    assert pinned.splitlines()[1:] == [f"a,192.0.2.11 {new}", f"z {HOST_KEY}"]
