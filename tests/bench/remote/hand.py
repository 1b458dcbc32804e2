# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs programs on a machine, one after the other, and tells when each began and ended.

A request is a line of JSON on standard input (``argv``, ``input``), the answer a line on standard output. The clock is
the kernel's monotonic one, which all machines of a lab share: an operation may begin on one and end on another.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

for line in sys.stdin:
    request = json.loads(line)
    began = time.monotonic()
    done = subprocess.run(
        request["argv"],
        input=request["input"],
        stdin=subprocess.DEVNULL if request["input"] is None else None,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    answer = {"code": done.returncode, "out": done.stdout, "err": done.stderr}
    sys.stdout.write(json.dumps({**answer, "began": began, "ended": time.monotonic()}) + "\n")
    sys.stdout.flush()
