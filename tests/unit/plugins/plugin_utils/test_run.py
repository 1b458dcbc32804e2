# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Since when a run has been there."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.plugin_utils import _run

# As Linux wrote it, but for the name.
STAT = "4711 (a ) b (x) S 1 4711 4711 0 -1 4194560 9 0 0 0 5 2 0 0 20 0 1 0 {} 5000000 700 18446744073709551615 1 1\n"


def test_the_start_is_read_behind_whatever_name_a_program_has() -> None:
    assert _run.started(STAT.format(123456), 100) == 1234.56


@pytest.mark.parametrize("text", ["", "4711 (x) S 1", STAT.format("soon")])
def test_a_text_that_is_none_is_told(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        _run.started(text, 100)


def test_a_run_began_when_its_process_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    before = time.time()
    with subprocess.Popen(["sleep", "60"]) as child:
        monkeypatch.setattr(os, "getppid", lambda: child.pid)
        time.sleep(0.2)
        assert before - 0.02 <= _run.begun() <= time.time() - 0.15
        child.kill()


def test_where_the_system_does_not_tell_it_began_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getppid", lambda: "nobody")
    before = time.time()
    assert before <= _run.begun() <= time.time()
