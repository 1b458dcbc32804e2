# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.filter.for_people import for_people


@pytest.mark.parametrize(("result_format", "shown"), [("yaml", "one\ntwo"), ("json", ["one", "two"])])
def test_lines_are_a_text_where_the_output_keeps_line_breaks(
    monkeypatch: pytest.MonkeyPatch, result_format: str, shown: str | list[str]
) -> None:
    monkeypatch.setenv("ANSIBLE_CALLBACK_RESULT_FORMAT", result_format)
    assert for_people(["one", "two"]) == shown
