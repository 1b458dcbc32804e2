# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule of retention, carried out on the images of one VM."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass

from . import _clock
from ._errors import ResilientVmError
from ._files import locked
from ._layout import Layout
from ._retention import Image, Policy, Verdict, decide, newest_of
from ._store import Store, StoredImage

__all__ = ["Wish", "prune", "seen"]


@dataclass(frozen=True)
class Wish:
    """What image_prune was asked for, for one VM."""

    retention_days: int = 14
    minimum: int = 3
    timezone: str = "UTC"
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    newest_id: str | None = None
    standby_generation: str | None = None


def seen(image: StoredImage) -> Image:
    """A stored image as the rule sees it. One without a usable manifest is never the newest."""
    epoch = image.manifest.epoch if image.manifest else 0
    return Image(image.id, epoch, image.complete, tuple(image.pinned_by), image.reading)


def prune(layout: Layout, wish: Wish, dry: bool = False) -> list[Verdict]:
    """Erase what the rule says, unless ``dry``; a verdict for every image, oldest first."""
    if wish.retention_days < 1 or wish.minimum < 1:
        raise ResilientVmError(
            f"retention of {wish.retention_days} days and at least {wish.minimum} images for {layout.name} can't be; "
            "both are 1 or more"
        )
    periods = (wish.keep_weekly, wish.keep_monthly, wish.keep_yearly)
    if min(periods) < 0:
        raise ResilientVmError(
            f"images of {min(periods)} weeks, months or years of {layout.name} can't be kept; 0 is none"
        )
    policy = Policy(wish.retention_days, wish.minimum, _clock.zone(wish.timezone), *periods)
    store = Store(layout)
    if not os.path.isdir(store.folder):
        raise ResilientVmError(f"{store.folder} is not there; run the site playbook", path=store.folder)
    with ExitStack() as stack:
        if not dry:
            # Held over the decision too: a pin laid in between would count for nothing.
            stack.enter_context(locked(layout.lock, "image_prune"))
            store.finish_erasing()
        images = [seen(image) for image in store.images()]
        verdicts = _verdicts(images, policy, wish, dry)
        if not dry:
            for verdict in verdicts:
                if verdict.erase:
                    store.erase(verdict.image.id)
    return verdicts


def _verdicts(images: list[Image], policy: Policy, wish: Wish, dry: bool) -> list[Verdict]:
    newest = newest_of(images)
    if wish.newest_id is None or (newest is not None and newest.id == wish.newest_id):
        return decide(images, policy, newest, wish.standby_generation)
    if dry and wish.newest_id not in {image.id for image in images}:
        coming = Image(wish.newest_id, newest.epoch if newest else 1)
        verdicts = decide([*images, coming], policy, coming, wish.standby_generation)
        return [verdict for verdict in verdicts if verdict.image != coming]
    return decide(images, policy, None, wish.standby_generation)
