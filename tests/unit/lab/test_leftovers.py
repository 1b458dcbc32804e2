# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is removed of a killed lab, and what is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab.rvmlab.leftovers import Found, Step, mounts_below, plan


@pytest.mark.parametrize(
    "found, steps",
    [
        pytest.param(Found(), [], id="a clean box needs nothing"),
        pytest.param(
            Found(
                healthy=frozenset("abc"),
                grouped=frozenset("abc"),
                loops={"a": ["/dev/loop0"]},
                namespaces=("rvm-1-sw",),
                masters=True,
            ),
            [],
            id="a lab that runs keeps everything",
        ),
        pytest.param(
            Found(grouped=frozenset("b"), namespaces=("rvm-1-b", "rvm-1-sw"), masters=True),
            [Step("machine", "b"), Step("masters", ""), Step("network", "")],
            id="processes go before the network",
        ),
        pytest.param(
            Found(healthy=frozenset("a"), grouped=frozenset("ab"), namespaces=("rvm-1-a",), masters=True),
            [Step("machine", "b")],
            id="the network stays while a machine needs it",
        ),
        pytest.param(
            Found(loops={"c": ["/dev/loop4", "/dev/loop5"]}, mounts=("/s/c/mnt/data",)),
            [
                Step("machine", "c"),
                Step("mount", "/s/c/mnt/data"),
                Step("loop", "/dev/loop4"),
                Step("loop", "/dev/loop5"),
            ],
            id="a mount goes before its loop device",
        ),
    ],
)
def test_plan(found: Found, steps: list[Step]) -> None:
    assert plan(found) == steps


def test_mounts_below_a_folder_come_innermost_first() -> None:
    table = (
        "/dev/vda / ext4 rw 0 0\n"
        "x /srv/lab/a/mnt xfs rw 0 0\n"
        "x /srv/lab/a/mnt/deep overlay rw 0 0\n"
        "x /srv/lab-other xfs rw 0 0\n"
        "x /srv/lab/with\\040blank xfs rw 0 0\n"
    )
    assert mounts_below(Path("/srv/lab"), table) == (
        "/srv/lab/with blank",
        "/srv/lab/a/mnt/deep",
        "/srv/lab/a/mnt",
    )
