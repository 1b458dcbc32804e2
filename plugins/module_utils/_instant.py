# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``resilient-vm instant``: a host runs any retained day of a VM as a new one, at once, without the control node.

It makes what the restore playbook makes. Whether it may, and which image is meant, the backup storage says.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable

from . import _at_once, _beside, _borrow, _clock, _restore_point
from ._ask_storage import Storage, prepared, say, user
from ._beside import Found, Twin
from ._claim import Claim, lent_image
from ._errors import ResilientVmError
from ._files import read_json
from ._human import human_size
from ._laid_plan import LENDING
from ._layout import Layout
from ._process import Runner, run
from ._restore_settings import INSTANT_FORMAT, NAME
from ._restored_files import RECORD, Wish, check_room

__all__ = ["Instant", "as_typed", "main"]

_DAYS_AGO = re.compile(r"-\d+d")


@dataclass(frozen=True)
class Instant:
    """One new machine on this host."""

    layout: Layout
    host: str
    user: str
    plan: Mapping[str, Any]
    storage: Storage
    run: Runner = run
    tell: Callable[[str], object] = say

    def go(self, point: str, twin: Twin) -> None:
        """Have it run, or go on with it. Raises ResilientVmError where it can't."""
        with _borrow.making(self.layout):
            self._go(point, twin)

    def _go(self, point: str, twin: Twin) -> None:
        path = os.path.join(self.layout.restored, twin.name)
        record = read_json(os.path.join(path, RECORD)) or {}
        found = self._look(twin, self._wish(path, {"id": record.get("image", "")}))
        loan = _borrow.begun(self.layout) or {}
        # What is begun is gone on with; another day needs another name.
        image_id = record.get("image") or loan.get("image")
        self._check_same(image_id, point, twin.name)
        if found.uuid is not None and not record.get("borrows"):
            self._tell_done(found, image_id, twin.name)
            return
        storage = self.plan["backup_storage"]
        answer = self.storage.ask(Claim("borrow", who=self.user, point=image_id or point, name=twin.name))
        image = lent_image(answer, storage)
        wish = self._wish(path, image)
        try:
            if image_id not in (None, wish.image_id):
                raise ResilientVmError(f"{storage} lends image {wish.image_id}, and {image_id} was asked for")
            if found.uuid is None:
                check_room(self.layout, wish, self.layout.directory)
            _at_once.examine(self.layout, wish)
        except BaseException:
            if found.uuid is None:
                _at_once.decline(self.layout, wish)
            raise
        _at_once.make(self.layout, wish, twin, found, self.plan["transfer_bytes_per_second"], self.run)
        self.tell(
            f"{twin.name} runs on {self.host}: image {wish.image_id} of {self.layout.name}, its data as of "
            f"{image['instant']}; {self._coming(wish, found, storage)}"
        )

    def _look(self, twin: Twin, wish: Wish) -> Found:
        """What is here of it, before anybody is asked."""
        if twin.name in (self.plan["vm"], self.plan["domain"]):
            raise ResilientVmError(f"{twin.name} is the protected VM's own name; choose another for the new one")
        found = _beside.examine(self.layout, wish, twin, self.run)
        _at_once.give_up_others(self.layout, twin.name)
        _at_once.refuse_second(self.layout, twin.name)
        return found

    def _check_same(self, image_id: str | None, point: str, name: str) -> None:
        """Whoever names a day or an image means that one, and not what an earlier command was for."""
        if image_id is None or _restore_point.is_relative(point):
            return
        zone = _clock.zone(self.plan["timezone"])
        if point not in (image_id, _clock.calendar_day(_clock.instant(image_id), zone).isoformat()):
            raise ResilientVmError(f"{name} is made of image {image_id}, which is not {point}; choose another --name")

    def _tell_done(self, found: Found, image_id: str | None, name: str) -> None:
        what = f"made of image {image_id} of {self.layout.name}"
        if not found.defined:
            raise ResilientVmError(
                f"{name} is a copy, {what}, that was cut off before it was a VM; run the restore playbook that makes it"
            )
        self.tell(f"{name} is on {self.host} already, {what}; all its data is there")

    def _wish(self, path: str, image: Mapping[str, Any]) -> Wish:
        return Wish(
            image["id"],
            path,
            INSTANT_FORMAT,
            image.get("disks", []),
            image.get("definition", []),
            bytes_allocated=image.get("bytes_allocated", 0),
            reserve_bytes=self.plan["machine_settings"][self.host]["reserve_bytes"],
        )

    def _coming(self, wish: Wish, found: Found, storage: str) -> str:
        if found.uuid is None:
            return f"{human_size(wish.bytes_allocated)} follow from {storage}"
        done = _at_once.progress(self.layout, wish, Found(found.uuid, defined=True, running=True), self.run)
        if done.arrived:
            return "all of it is there"
        return f"{100 * done.done_bytes / max(done.total_bytes, 1):.0f} % of it are there"


def _name(word: str) -> str:
    if re.fullmatch(NAME, word) is None:
        raise argparse.ArgumentTypeError(f"{word!r} is no name of letters, digits and _.-")
    return word


def _point(word: str) -> str:
    if not _restore_point.is_well_formed(word.strip()):
        raise argparse.ArgumentTypeError(f"{word.strip()!r} is none; name {_restore_point.FORMS}")
    return word.strip()


def as_typed(sentence: str) -> str:
    """A sentence of the playbook's as this command says it: settings are its options."""
    said = re.sub(r"restore (it )?with resilient_vm_restore_mode=copy", "run the restore playbook", sentence)
    return said.replace("another resilient_vm_restore_name", "another --name")


def _network(word: str) -> tuple[str, str]:
    old, equals, new = word.partition("=")
    if not (old and equals and new):
        raise argparse.ArgumentTypeError(f"{word!r} is not like br-office=br-test")
    return old, new


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resilient-vm instant",
        description="Run any retained day of a VM on this host as a new VM, at once, when there is no control node.",
    )
    parser.add_argument("vm", metavar="CUSTOMER/VM")
    parser.add_argument("point", metavar="POINT", type=_point, help=_restore_point.FORMS)
    parser.add_argument("--name", required=True, type=_name, help="name of the new VM")
    parser.add_argument(
        "--network",
        action="append",
        default=[],
        type=_network,
        metavar="OLD=NEW",
        help="which network, bridge or device of this host it gets for the one it had; none by default",
    )
    return parser


def main(arguments: list[str], layout_of: Callable[[str], Layout], host: str) -> int:
    """Run it; 0 when it runs. What is refused is raised, 1; what can't be understood ends with 2."""
    # With a blank before it, -8d is no option.
    words = [f" {word}" if _DAYS_AGO.fullmatch(word) else word for word in arguments]
    given = _parser().parse_args(words)
    layout = layout_of(given.vm)
    plan, storage = prepared(layout, host, "instant", run, LENDING)
    command = Instant(layout, host, user(), plan, storage)
    try:
        command.go(given.point, Twin(given.name, dict(given.network), start=True))
    except ResilientVmError as error:
        raise ResilientVmError(as_typed(str(error))) from error
    return 0
