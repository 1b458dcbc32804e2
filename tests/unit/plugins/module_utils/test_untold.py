# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about hosts that were not told: of another phase of the same epoch, never of an epoch that they missed."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._untold import untold

DECIDED = {"epoch": 2, "active": "a", "phase": "protected"}


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({}, []),
        ({"phase": "switching"}, ["b"]),
        ({"phase": "restoring"}, ["b"]),
        ({"epoch": 1, "phase": "switching"}, []),
        ({"epoch": 3, "phase": "failed_over"}, []),
        ({"active": "b", "phase": "switching"}, []),
    ],
)
def test_a_host_in_another_phase_is_to_be_told(changed: dict[str, Any], wanted: list[str]) -> None:
    assert untold(DECIDED, {"a": DECIDED, "b": {**DECIDED, **changed}}) == wanted


def test_a_host_without_an_answer_is_not() -> None:
    assert untold(DECIDED, {"a": None}) == []
    assert untold({}, {"a": DECIDED}) == []
