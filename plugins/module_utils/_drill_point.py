# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which image a drill boots when nobody named one, and what drills say of a VM. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["alarm", "proof", "proven", "rotating"]


def rotating(images: Iterable[str], drills: Iterable[Mapping[str, Any]]) -> str | None:
    """The image whose turn it is: the newest one never tried, else the one tried longest ago; None without any.

    The newest first, because a takeover would start from it, and because the oldest may be gone tomorrow: as many
    nights as images are kept later, each of those kept has been tried. A failed try counts as one, so that a broken
    day does not keep the others from theirs.
    """
    tried = {drill["image"]: drill["ended"] for drill in drills}
    untried = [image for image in images if image not in tried]
    if untried:
        return max(untried)
    return min((image for image in images if image in tried), key=lambda image: (tried[image], image), default=None)


def proven(drills: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The newest drill that passed, or None."""
    passed = [drill for drill in drills if drill["passed"]]
    return max(passed, key=lambda drill: (drill["ended"], drill["image"]), default=None)


def alarm(vm: str, drills: Sequence[Mapping[str, Any]]) -> str:
    """Why status is red: of the images that were tried, the newest one failed. "" when it passed, or there was none.

    An older day that works is no comfort, and a newer one that works ends the alarm.
    """
    newest = max(drills, key=lambda drill: str(drill["image"]), default=None)
    if newest is None or newest["passed"]:
        return ""
    wrong = "; ".join(check["said"] for check in newest["checks"] if not check["passed"])
    return (
        f"the drill of image {newest['image']} of {vm} failed at {newest['ended']}: {wrong}; look at "
        f"{newest['evidence']} on {newest['host']}, then run the drill playbook again"
    )


def proof(passed: Mapping[str, Any] | None, images_proven: int, images: int) -> str:
    """A line for people: when an image was last proven by booting it, which, by what, how long it took."""
    if passed is None:
        return "no image proven by a drill yet"
    checks = ", ".join(check["check"] for check in passed["checks"])
    return (
        f"image {passed['image']} proven by a drill at {passed['ended']} ({checks}), ready after "
        f"{passed['seconds_to_ready']:.0f} s; {images_proven} of {images} images proven"
    )
