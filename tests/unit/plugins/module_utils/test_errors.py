# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module says when it can't go on, whatever kept it."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail

MEND = "free space or mend the filesystem, and run again"


class Module:
    """As Ansible's, which ends the process."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {}

    def fail_json(self, **said: Any) -> None:
        self.said = said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ResilientVmError("no such day", day="tuesday"), {"msg": "no such day", "day": "tuesday", "erased": []}),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/srv/x"),
            {"msg": f"No space left on device at /srv/x on this machine; {MEND}", "erased": []},
        ),
        (
            TimeoutError(),
            {"msg": f"TimeoutError on this machine; {MEND}", "erased": []},
        ),
    ],
)
def test_one_sentence_whatever_it_was(error: ResilientVmError | OSError, said: dict[str, Any]) -> None:
    module = Module()
    with pytest.raises(SystemExit):
        fail(module, error, erased=[])
    assert module.said == said
