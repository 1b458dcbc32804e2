# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directions in which transfers go: hop → what is asked of the other machine's mover."""

from __future__ import annotations

__all__ = ["COPIES", "HOPS"]

COPIES = {"fetch": "send", "refresh": "receive", "restore": "restore"}
HOPS = {**COPIES, "mend": "mend"}
