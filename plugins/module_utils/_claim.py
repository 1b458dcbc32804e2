# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host may ask of the backup storage without the control node: five questions, one JSON line each. Pure.

Which VM, and who asks, is never in the line: the key's entry says that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Callable, NoReturn

from ._change import Request
from ._errors import ResilientVmError
from ._manifest import IMAGE_ID, SHA256, check_names, matches
from ._relay import MAX_BYTES
from ._restore_settings import NAME

__all__ = ["PROTOCOL", "Claim", "lent_image", "line", "parse", "request_of"]

PROTOCOL = 1
_MAX_EPOCH = 999_999_999
# A report is nested as far as its evidence.
_MAX_DEPTH = 5
_WHO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_NONCE = re.compile(r"[0-9a-f]{8}")
_POINT = re.compile(r"[A-Za-z0-9-]{1,20}")
_TWIN = re.compile(NAME)
_INSTANT = re.compile(r"\d{4}(-\d\d){2}T\d\d(:\d\d){2}(\.\d{1,9})?Z")
_MAX_SIZE = 1 << 60


@dataclass(frozen=True)
class Claim:
    """``ask``: look (whom do you see?), word (what must the operator's word end in?), take (let me run it), finish (it
    runs, and this is how it went), borrow (lend me the image that ``point`` means, for a new machine ``name``)."""

    ask: str
    epoch: int = 0
    nonce: str = ""
    who: str = ""
    # The evidence of a take, the report of a finish. As the host tells it: kept in the journal, and nothing goes by it.
    told: dict[str, Any] = field(default_factory=dict)
    point: str = ""
    name: str = ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_epoch(value: Any) -> bool:
    return _is_number(value) and 1 <= value <= _MAX_EPOCH


def _is_told(value: Any) -> bool:
    return isinstance(value, dict) and _shallow(value)


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "epoch": _is_epoch,
    "nonce": partial(matches, _NONCE),
    "who": partial(matches, _WHO),
    "told": _is_told,
    "point": partial(matches, _POINT),
    "name": partial(matches, _TWIN),
}
# What each question consists of, no more and no less.
_QUESTIONS: dict[str, tuple[str, ...]] = {
    "look": (),
    "word": ("epoch",),
    "take": ("epoch", "nonce", "who", "told"),
    "finish": ("epoch", "who", "told"),
    "borrow": ("point", "name", "who"),
}


# The steps that are taken for it, and which of them goes by the operator's word.
_STEPS = {"take": "fail_over", "finish": "finish_failover"}
_BY_WORD = "take"


def request_of(claim: Claim, host: str, evidence: Mapping[str, Any], unwitnessed: bool = False) -> Request:
    """The step that is taken when a host has its take, or its finish; ``unwitnessed``: it takes it by itself."""
    return Request(
        _STEPS[claim.ask],
        claim.epoch,
        f"{claim.who}@{host}",
        f"takeover on {host}",
        evidence,
        nonce=claim.nonce if claim.ask == _BY_WORD else None,
        unwitnessed=unwitnessed,
    )


def line(claim: Claim) -> str:
    """The question as it travels."""
    values = {name: getattr(claim, name) for name in _QUESTIONS[claim.ask]}
    return json.dumps({"protocol": PROTOCOL, "ask": claim.ask, **values}) + "\n"


def parse(data: bytes) -> Claim:
    """The question in a line. Raises ResilientVmError, which repeats nothing of it, for anything else."""
    found = _document(data)
    if not _is_number(found.get("protocol")) or found["protocol"] != PROTOCOL:
        raise ResilientVmError(f"only claims of protocol {PROTOCOL} are understood here; run the site playbook")
    ask = found.get("ask")
    names = _QUESTIONS.get(ask) if isinstance(ask, str) else None
    if names is None or set(found) != {"protocol", "ask", *names}:
        _refuse()
    values = {name: found[name] for name in names}
    if not all(_FIELDS[name](value) for name, value in values.items()):
        _refuse()
    return Claim(str(ask), **values)


def lent_image(answer: Mapping[str, Any], storage: str) -> dict[str, Any]:
    """The image in the answer to ``borrow``, before root does anything by it. Raises ResilientVmError for any other."""
    image: Any = answer.get("image")
    try:
        fit = (
            set(image) == {"id", "instant", "bytes_allocated", "disks", "definition"}
            and matches(IMAGE_ID, image["id"])
            and matches(_INSTANT, image["instant"])
            and _is_size(image["bytes_allocated"])
            and image["disks"]
            and len({disk["target"] for disk in image["disks"]}) == len(image["disks"])
            and all(_is_size(disk["size_bytes"]) and disk["size_bytes"] > 0 for disk in image["disks"])
            and all(matches(SHA256, disk["root_digest"]) for disk in image["disks"])
            and all(matches(SHA256, entry["sha256"]) for entry in image["definition"])
        )
        if fit:
            check_names(
                [disk["target"] for disk in image["disks"]],
                [entry["name"] for entry in image["definition"]],
                f"{storage}'s answer",
            )
            return dict(image)
    except (TypeError, KeyError, AttributeError):
        # Something in it is of another kind.
        pass
    raise ResilientVmError(f"what {storage} says it lends is no image; look at resilient-vm-claim@* in its journal")


def _is_size(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= _MAX_SIZE


def _document(data: bytes) -> Mapping[str, Any]:
    if len(data) > MAX_BYTES or not data.endswith(b"\n") or b"\n" in data[:-1]:
        _refuse()
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        _refuse()
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object that names nothing twice: two readers would take different ones."""
    found = dict(pairs)
    if len(found) != len(pairs):
        _refuse()
    return found


def _refuse(_constant: str = "") -> NoReturn:
    raise ResilientVmError(f"this is no claim; it is one of {', '.join(_QUESTIONS)}, as the commands of a host ask it")


def _shallow(value: Any, left: int = _MAX_DEPTH) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(left > 0 and _shallow(each, left - 1) for each in inner)
