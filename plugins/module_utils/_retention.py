# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images go and which stay, and why each one: the one rule that ever erases something. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo

from . import _clock

__all__ = ["Image", "NextErase", "Policy", "Verdict", "decide", "newest_of", "next_erase"]


@dataclass(frozen=True)
class Image:
    """What the rule needs to know of an image. A damaged or unreadable one isn't complete."""

    id: str
    epoch: int = 1
    complete: bool = True
    pinned_by: tuple[str, ...] = ()
    reading: bool = False

    @property
    def order(self) -> tuple[int, str]:
        return self.epoch, self.id


@dataclass(frozen=True)
class Policy:
    """The owner's wish: calendar days, the images that stay anyway, and whose calendar.

    ``weekly``, ``monthly``, ``yearly``: of so many of the last weeks (ISO 8601), months and years that have a complete
    image, the newest one of each stays beyond its days.
    """

    days: int
    minimum: int
    zone: tzinfo
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0

    @property
    def floor(self) -> int:
        return min(self.days, self.minimum)

    def day(self, image: Image) -> date:
        return _clock.calendar_day(_clock.instant(image.id), self.zone)

    def ruled(self, images: Iterable[Image]) -> dict[Image, str]:
        """The images that stay for a week, a month or a year, and why."""
        whole = sorted((image for image in images if image.complete), key=lambda image: image.order)
        found: dict[Image, str] = {}
        for count, kind, label in (
            (self.yearly, "years", _year),
            (self.monthly, "months", _month),
            (self.weekly, "weeks", _week),
        ):
            if not count:
                continue
            # Later ones take the place of earlier ones.
            newest = {label(self.day(image)): image for image in whole}
            for period in sorted(newest)[-count:]:
                found[newest[period]] = f"the newest image of {period}, and those of {count} {kind} are kept"
        return found


def _week(day: date) -> str:
    year, week, _weekday = day.isocalendar()
    return f"{year}-W{week:02}"


def _month(day: date) -> str:
    return f"{day:%Y-%m}"


def _year(day: date) -> str:
    return f"{day:%Y}"


@dataclass(frozen=True)
class Verdict:
    """What becomes of one image."""

    image: Image
    erase: bool
    reason: str


@dataclass(frozen=True)
class NextErase:
    """The image that goes next, with the first image of that day or later."""

    image: Image
    day: date


def newest_of(images: Iterable[Image]) -> Image | None:
    """The newest complete image: highest (epoch, id)."""
    return max((image for image in images if image.complete), key=lambda image: image.order, default=None)


def decide(
    images: Sequence[Image], policy: Policy, newest: Image | None, standby_generation: str | None = None
) -> list[Verdict]:
    """A verdict for every image, oldest first.

    Without a newest image nothing is erased: a night without an image must not cost one.
    ``standby_generation`` is the id of what the standby host has now, when it has nothing newer.
    """
    remaining = sum(image.complete for image in images)
    ruled = policy.ruled(images)
    verdicts = []
    # By age alone: were epochs in the order, the minimum could take an image that fewer days would have left.
    for image in sorted(images, key=lambda image: image.id):
        keep = _reason_to_keep(image, policy, newest, standby_generation)
        if not keep and remaining - image.complete < policy.floor:
            keep = f"only {remaining} complete images are left, and {policy.floor} stay whatever their age"
        if keep or newest is None:
            verdicts.append(Verdict(image, False, keep))
            continue
        # Counted out also when it stays for a week, a month or a year: the minimum must not spare fewer for that.
        remaining -= image.complete
        state = "" if image.complete else "not complete and "
        reason = ruled.get(image, f"{state}{_age(image, policy, newest)}, {policy.days} are kept")
        verdicts.append(Verdict(image, image not in ruled, reason))
    return verdicts


def _age(image: Image, policy: Policy, newest: Image) -> str:
    days = (policy.day(newest) - policy.day(image)).days
    return f"{days} {'day' if days == 1 else 'days'} older than the newest image {newest.id}"


def _reason_to_keep(image: Image, policy: Policy, newest: Image | None, standby_generation: str | None) -> str:
    """Why an image stays, or "" when only the minimum could keep it. The minimum comes last on purpose:
    it is the one reason that depends on what becomes of other images."""
    if newest is None:
        return "there is no newest image to count from"
    if image.id == newest.id:
        return "the newest image"
    if (policy.day(newest) - policy.day(image)).days < policy.days:
        if image.order > newest.order or image.id > newest.id:
            return f"not older than the newest complete image {newest.id}"
        return f"{_age(image, policy, newest)}, {policy.days} are kept"
    if image.pinned_by:
        return f"pinned by {', '.join(image.pinned_by)}"
    if image.reading:
        return "being read"
    if image.id == standby_generation:
        return "the standby's generation is based on it and the standby has nothing newer"
    return ""


def next_erase(images: Sequence[Image], policy: Policy) -> NextErase | None:
    """Which image goes next and on which day, when one image a day is taken from now on and the standby follows.

    None when nothing goes within the days that are kept, a week more and the minimum.
    """
    newest = newest_of(images)
    free = [image for image in images if not image.pinned_by and not image.reading]
    if newest is None or not free:
        return None
    today = policy.day(newest)
    first = max(min(map(policy.day, free)) + timedelta(days=policy.days), today + timedelta(days=1))
    # What stays for a week, a month or a year now may go on any day; what does not goes when it is old enough.
    ruled = policy.ruled(images)
    certain = [policy.day(image) + timedelta(days=policy.days) for image in free if image not in ruled]
    last = max(min(certain, default=today + timedelta(days=policy.days + 7)), first)
    future = [_noon(newest.epoch, today + timedelta(days=ahead), policy) for ahead in range(1, (first - today).days)]
    # The age is reached on the first of these days; the minimum is refilled on the last at the latest.
    for day in (first + timedelta(days=ahead) for ahead in range((last - first).days + policy.floor + 1)):
        future.append(_noon(newest.epoch, day, policy))
        verdicts = decide([*images, *future], policy, future[-1])
        gone = next((verdict.image for verdict in verdicts if verdict.erase and verdict.image in images), None)
        if gone is not None:
            return NextErase(gone, day)
    return None


def _noon(epoch: int, day: date, policy: Policy) -> Image:
    return Image(_clock.image_id(datetime.combine(day, time(12), policy.zone)), epoch)
