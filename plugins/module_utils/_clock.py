# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instants and days: UTC on the wire and in names, calendar days in the time zone the owner chose."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Any

from ._errors import ResilientVmError

__all__ = ["calendar_day", "image_id", "instant", "iso", "now", "of_epoch", "parse", "seconds_ahead", "zone"]

# Spelled out rather than left to datetime.fromisoformat: that takes no "Z" before Python 3.11 and
# very much more than ISO 8601's common form after it.
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6})\d*)?)?(?:(Z|z)|([+-])(\d\d):?(\d\d)?)"
)
_ID = re.compile(r"\d{8}T\d{6}Z")
_UTC_NAMES = ("UTC", "Etc/UTC")


def parse(text: str, name: str = "time") -> datetime:
    """The instant an ISO 8601 text names, in UTC. ``name`` says in the message whose text it is."""
    match = _ISO.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ResilientVmError(
            f"{name} {text!r} is not an ISO 8601 time with Z or an offset; write it like 2026-01-14T02:00:00Z"
        )
    year, month, day, hour, minute = (int(part) for part in match.groups()[:5])
    second = int(match.group(6) or 0)
    microsecond = int((match.group(7) or "").ljust(6, "0"))
    offset = timedelta(hours=int(match.group(10) or 0), minutes=int(match.group(11) or 0))
    try:
        local = datetime(
            year, month, day, hour, minute, second, microsecond, timezone(-offset if match.group(9) == "-" else offset)
        )
        return local.astimezone(timezone.utc)
    except (ValueError, OverflowError) as error:
        raise ResilientVmError(f"{name} {text!r} is not a time that exists ({error}); correct it") from error


def now(override: str | None = None) -> datetime:
    """The clock in UTC; ``override`` (resilient_vm_now) replaces it when it is not empty."""
    if override:
        return parse(override, "resilient_vm_now")
    return datetime.now(timezone.utc)


def of_epoch(seconds: float) -> datetime:
    """The instant so many seconds after 1970 began, in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc)


def image_id(when: datetime) -> str:
    """The id of an image of that instant: ``20260114T020000Z``. Ids sort as their instants do."""
    return when.astimezone(timezone.utc).strftime("%Y%m%dT%H%M%SZ")


def instant(image_id: str) -> datetime:
    """The instant an image id names."""
    if not isinstance(image_id, str) or not _ID.fullmatch(image_id):
        raise ResilientVmError(f"{image_id!r} is not an image id; an id looks like 20260114T020000Z")
    try:
        return datetime.strptime(image_id, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    except ValueError as error:
        raise ResilientVmError(
            f"{image_id!r} is not an image id ({error}); an id looks like 20260114T020000Z"
        ) from error


def iso(when: datetime) -> str:
    """An instant as written in documents: ``2026-01-14T02:00:00Z``."""
    return when.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def zone(name: str, whose: str = "resilient_vm_timezone") -> tzinfo:
    """The time zone of that name. ``whose`` says in the message which setting it is."""
    if name in _UTC_NAMES:
        # The default must work on a machine without a time zone database.
        return timezone.utc
    # Here, so that whoever needs no zone also runs where Python came without one.
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError) as error:
        if not available_timezones():
            raise ResilientVmError(
                f"{whose} is {name!r}, which can't be looked up: this machine has no time zone database; "
                "install the package tzdata (or Python's tzdata) on it, or use UTC"
            ) from error
        raise ResilientVmError(
            f"{whose} is {name!r}, which is not a time zone; use a name like UTC or Europe/Amsterdam"
        ) from error


def calendar_day(when: datetime, zone: tzinfo) -> date:
    """The calendar day an instant falls on in a time zone."""
    return when.astimezone(zone).date()


def seconds_ahead(fact: Mapping[str, Any], override: str | None) -> float:
    """How far a machine's clock is ahead of the control node's, as that was while the machine answered."""
    clock = parse(fact["clock"])
    begin, end = (parse(override or edge) for edge in fact["between"])
    if clock < begin:
        return (clock - begin).total_seconds()
    return max((clock - end).total_seconds(), 0.0)
