# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what people read."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._human import limits_text, progress_text

GIB = 1 << 30


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({}, "image 20260114T020000Z to the backup storage"),
        (
            {"waiting": "for its window, which opens at 2026-01-14T22:00:00Z"},
            "image 20260114T020000Z to the backup storage: waiting for its window, which opens at 2026-01-14T22:00:00Z",
        ),
        (
            {
                "disk": "vda",
                "found_by": "allocation",
                "done_bytes": 3 * GIB,
                "total_bytes": 12 * GIB,
                "bytes_sent": 2 * GIB,
                "bytes_per_second": 10 << 20,
                "seconds_left": 921,
            },
            "image 20260114T020000Z to the backup storage, disk vda 25 %, 3.0 GiB of 12.0 GiB (all data), "
            "2.0 GiB sent, 10.0 MiB/s, 15 min left",
        ),
        (
            {"disk": "vda", "found_by": "bitmap", "done_bytes": 5, "total_bytes": 4, "seconds_left": 3},
            "image 20260114T020000Z to the backup storage, disk vda 100 %, 5 bytes of 4 bytes "
            "(changes by dirty bitmap), less than a minute left",
        ),
    ],
)
def test_progress(facts: dict[str, Any], text: str) -> None:
    assert progress_text({"hop": "fetch", "image_id": "20260114T020000Z", **facts}) == text


def test_progress_of_a_transfer_that_has_said_nothing_yet() -> None:
    assert progress_text({"image_id": "20260114T020000Z", "hop": None}) == "image 20260114T020000Z"


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"rate": 0, "machine_rate": 0, "window": None}, "limits: none; compression: off"),
        (
            {"rate": 10 << 20, "machine_rate": 1 << 30, "window": "22:00-06:00", "timezone": "Europe/Amsterdam"},
            "limits: 10.0 MiB/s, 1.0 GiB/s for all copies on that machine, from 22:00 to 06:00 (Europe/Amsterdam); "
            "compression: off",
        ),
    ],
)
def test_limits(limits: dict[str, Any], text: str) -> None:
    assert limits_text(limits, "off") == text


def test_several_connections_are_told_and_why_there_were_not_more() -> None:
    assert limits_text({}, "off", 4) == "limits: none; compression: off; connections: 4"
    assert limits_text({}, "off", 2, "refused") == "limits: none; compression: off; connections: 2 (refused)"
