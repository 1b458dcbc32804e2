# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine tells a host about many VMs at once: which host is the active one of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Callable

from ._change import held, told
from ._errors import ResilientVmError, sentence
from ._layout import Layout

__all__ = ["lines"]


def lines(names: Iterable[str], holder: str, layout_of: Callable[[str], Layout]) -> Iterator[str]:
    """For each VM ``<vm> `` and what ``told`` says of it, or why there is nothing to say.

    ``holder`` is whose key asks: it is told about VMs that it is a host of. To ask is to be up, and nobody shall say
    that of another machine.
    """
    for vm in names:
        try:
            layout = layout_of(vm)
            state = held(layout)
            if holder not in (state.active, state.standby):
                raise ResilientVmError(f"{holder} is no host of {layout.name}")
            yield f"{vm} {told(layout)}"
        except (ResilientVmError, OSError) as error:
            yield f"{vm} {sentence(error)}"
