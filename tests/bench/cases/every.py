# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All cases, in the order in which they run."""

from __future__ import annotations

from . import Case, changes, full, slow, store, whole

__all__ = ["CASES"]

CASES: list[Case] = [*full.CASES, *changes.CASES, *slow.CASES, *store.CASES, *whole.CASES]
