# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things lie in a checkout."""

from __future__ import annotations

from pathlib import Path

__all__ = ["COLLECTION", "DEV", "ROOT", "TREE"]

ROOT = Path(__file__).resolve().parents[3]
# All that ./test and the lab keep; git ignores it, and removing it is the way to start afresh.
DEV = ROOT / ".dev"
# A copy of the checkout under the collection's full name, for tools that insist on it (see tree.py).
TREE = DEV / "tree"
COLLECTION = TREE / "ansible_collections/edgecloud/resilient_vm"
