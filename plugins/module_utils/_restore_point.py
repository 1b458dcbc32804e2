# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which image a restore point means: an image id, a date, ``latest`` or ``-8d``. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Any

from . import _clock
from ._errors import ResilientVmError

__all__ = ["FORMS", "Candidate", "candidate", "find", "is_relative", "is_well_formed"]

FORMS = "an image id like 20260114T020000Z, a date like 2026-01-14, latest, or -8d for eight days ago"

_ID = re.compile(r"\d{8}T\d{6}Z")
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)")
_AGO = re.compile(r"-(\d{1,4})d")


@dataclass(frozen=True)
class Candidate:
    """An image that may be meant; ``wrong`` is why it can't be restored, "" when it can."""

    id: str
    epoch: int = 1
    wrong: str = ""

    @property
    def order(self) -> tuple[int, str]:
        return self.epoch, self.id


def is_well_formed(wish: str) -> bool:
    """Whether a text can mean a restore point at all."""
    return wish == "latest" or any(form.fullmatch(wish) for form in (_ID, _DATE, _AGO))


def is_relative(wish: str) -> bool:
    """Whether it means another image as time goes by."""
    return wish == "latest" or _AGO.fullmatch(wish) is not None


def candidate(image: Mapping[str, Any]) -> Candidate:
    """An image as the backup storage tells of it (its summary)."""
    wrong = str(image["problem"])
    if not wrong and image["damaged"]:
        mark = image["damaged"][0]
        wrong = f"its disk {mark['disk']} is damaged at byte {mark['offset_bytes']}"
    return Candidate(image["id"], image.get("epoch", 0), wrong)


def find(wish: str, vm: str, images: Iterable[Candidate], zone: tzinfo, now: datetime) -> str:
    """The id of the image that ``wish`` means. Days are calendar days in ``zone``.

    Raises ResilientVmError with one sentence when it means none, several, or one that can't be restored.
    """
    history = sorted(images, key=lambda image: image.id)
    if not history:
        raise ResilientVmError(f"there is no image of {vm}; run the daily playbook, and restore from then on")
    if wish == "latest":
        return _latest(vm, history)
    if _ID.fullmatch(wish):
        return _by_id(wish, vm, history)
    return _of_day(_day(wish, vm, zone, now), wish, vm, history, zone, now)


def _latest(vm: str, history: Sequence[Candidate]) -> str:
    whole = [image for image in history if not image.wrong]
    if not whole:
        newest = max(history, key=lambda image: image.order)
        raise ResilientVmError(f"no image of {vm} can be restored, {newest.id} because {newest.wrong}")
    return max(whole, key=lambda image: image.order).id


def _by_id(wish: str, vm: str, history: Sequence[Candidate]) -> str:
    found = next((image for image in history if image.id == wish), None)
    if found is None:
        raise ResilientVmError(f"there is no image {wish} of {vm}; {_range(history)}")
    if found.wrong:
        raise ResilientVmError(f"image {wish} of {vm} can't be restored: {found.wrong}; {_others(history)}")
    return found.id


def _day(wish: str, vm: str, zone: tzinfo, now: datetime) -> date:
    given = _DATE.fullmatch(wish)
    ago = _AGO.fullmatch(wish)
    try:
        if given:
            return date(*(int(part) for part in given.groups()))
        if ago:
            return _clock.calendar_day(now, zone) - timedelta(days=int(ago.group(1)))
    except (ValueError, OverflowError) as error:
        raise ResilientVmError(f"restore point {wish!r} of {vm} is no day that exists; name {FORMS}") from error
    raise ResilientVmError(f"restore point {wish!r} of {vm} is none; name {FORMS}")


def _of_day(day: date, wish: str, vm: str, history: Sequence[Candidate], zone: tzinfo, now: datetime) -> str:
    named = wish if wish == day.isoformat() else f"{wish} ({day})"
    of_day = [image for image in history if _day_of(image, zone) == day]
    whole = [image for image in of_day if not image.wrong]
    if len(whole) == 1:
        return whole[0].id
    if whole:
        ids = ", ".join(image.id for image in whole)
        raise ResilientVmError(f"{vm} has several images of {named}: {ids}; name one of them by its id")
    if of_day:
        first = of_day[0]
        raise ResilientVmError(
            f"image {first.id} of {vm}, of {named}, can't be restored: {first.wrong}; {_others(history)}"
        )
    today = _clock.calendar_day(now, zone)
    if day > today:
        raise ResilientVmError(f"{named} is in the future, today is {today}; {_range(history)}")
    if day < _day_of(history[0], zone):
        raise ResilientVmError(f"no image of {vm} of {named} is kept any more; {_range(history)}")
    near = [image.id for image in history if _day_of(image, zone) < day][-1:]
    near += [image.id for image in history if _day_of(image, zone) > day][:1]
    raise ResilientVmError(f"there is no image of {vm} of {named}; the nearest are {' and '.join(near)}")


def _day_of(image: Candidate, zone: tzinfo) -> date:
    return _clock.calendar_day(_clock.instant(image.id), zone)


def _range(history: Sequence[Candidate]) -> str:
    if len(history) == 1:
        return f"the only one is {history[0].id}"
    return f"the images go from {history[0].id} to {history[-1].id}"


def _others(history: Sequence[Candidate]) -> str:
    whole = [image.id for image in history if not image.wrong]
    return f"name another one: {', '.join(whole)}" if whole else "no other one can be either"
