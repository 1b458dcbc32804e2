# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image of the backup storage pinned by hand: it stays whatever its age, until the pin is taken away or runs out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from . import _clock, _restore_point
from ._errors import ResilientVmError
from ._files import fsync_directory, moment, read_json, write_json
from ._store import Store, StoredImage

__all__ = ["Wish", "pin"]


@dataclass(frozen=True)
class Wish:
    """What image_pin was asked for. ``until`` empty: for good. ``present`` False: the pin goes."""

    restore_point: str
    timezone: str = "UTC"
    reason: str = ""
    until: str = ""
    present: bool = True


def pin(store: Store, wish: Wish, now: datetime, dry: bool) -> tuple[str, dict[str, Any] | None, dict[str, Any] | None]:
    """Lay or take away the pin. The image's id, and the pin by hand it had before and has after."""
    if wish.present and not wish.reason.strip():
        raise ResilientVmError(f"a pin on an image of {store.layout.name} needs a reason; set resilient_vm_pin_reason")
    until = _clock.parse(wish.until, "resilient_vm_pin_until") if wish.until else None
    if wish.present and until is not None and until <= now:
        raise ResilientVmError(
            f"resilient_vm_pin_until {wish.until} of {store.layout.name} is over, it is {_clock.iso(now)} now; "
            "name a later time, or none for a pin that stays"
        )
    after = {"reason": wish.reason.strip(), "until": _clock.iso(until) if until else None} if wish.present else None
    if not os.path.isdir(store.layout.pins):
        raise ResilientVmError(f"{store.layout.directory} is not laid out on this machine; run the site playbook")
    if dry:
        image_id = _meant(store, wish, now)
        return image_id, _told(store, image_id), after
    # Under the lock, because who erases images decides under it.
    with moment(store.layout.lock, "image_pin"):
        image_id = _meant(store, wish, now)
        before = _told(store, image_id)
        if before != after:
            _lay(store, image_id, after)
    return image_id, before, after


def _meant(store: Store, wish: Wish, now: datetime) -> str:
    candidates = [
        _restore_point.Candidate(image.id, image.manifest.epoch if image.manifest else 0, _wrong(image, wish))
        for image in store.images()
    ]
    return _restore_point.find(wish.restore_point, store.layout.name, candidates, _clock.zone(wish.timezone), now)


def _wrong(image: StoredImage, wish: Wish) -> str:
    """A damaged image isn't worth keeping; a pin it has can be taken away all the same."""
    if not wish.present:
        return ""
    mark: Mapping[str, Any] = next(iter(image.damaged), {})
    return image.problem or (f"its disk {mark['disk']} is damaged at byte {mark['offset_bytes']}" if mark else "")


def _file(store: Store, image_id: str) -> str:
    return os.path.join(store.layout.pins, f"{image_id}.by-hand.json")


def _told(store: Store, image_id: str) -> dict[str, Any] | None:
    document = read_json(_file(store, image_id))
    if document is None:
        return None
    until = document["until"]
    return {"reason": document["purpose"], "until": None if until is None else _clock.iso(_clock.of_epoch(until))}


def _lay(store: Store, image_id: str, wanted: Mapping[str, Any] | None) -> None:
    path = _file(store, image_id)
    if wanted is None:
        os.unlink(path)
        fsync_directory(store.layout.pins)
        return
    until = _clock.parse(wanted["until"]).timestamp() if wanted["until"] else None
    owner = os.stat(store.layout.pins)
    document = {"image": image_id, "purpose": wanted["reason"], "until": until, "reading": False}
    write_json(path, document, mode=0o660, owner=(owner.st_uid, owner.st_gid))
