# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ours, driven on the machines without Ansible: from opening the snapshot to the image published and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from integration.world import STORE

from .machines import REMOTE, Bench, Done, Hand

__all__ = ["Ours", "Taken"]

_CUSTOMER = "acme"


def _module_request(**given: Any) -> dict[str, Any]:
    """What the module image_transfer would hand to its transfer, all its defaults included."""
    from ansible_collections.edgecloud.resilient_vm.plugins.modules.image_transfer import argument_spec

    checked = ArgumentSpecValidator(argument_spec()).validate({"customer": _CUSTOMER, "vm": "any", **given})
    if checked.error_messages:
        raise RuntimeError("; ".join(checked.error_messages))
    return {name: value for name, value in checked.validated_parameters.items() if name not in ("root", "now")}


@dataclass(frozen=True)
class Taken:
    """An image that was taken: its snapshot, the transfer's own result, and what it took."""

    snapshot: Mapping[str, Any]
    result: Mapping[str, Any]
    seconds: float
    open_seconds: float

    @property
    def id(self) -> str:
        return str(self.snapshot["id"])

    @property
    def base(self) -> dict[str, Any]:
        """This image as the base whose checkpoint the next snapshot counts from."""
        names = ("size_bytes", "checkpoint")
        disks = {disk["target"]: {name: disk[name] for name in names} for disk in self.snapshot["disks"]}
        return {"image_id": self.id, "checkpoint": self.snapshot["checkpoint"], "disks": disks}


class Ours:
    """One protected VM. Every step is a new process, as it is under Ansible. ``wishes``: of image_transfer's options,
    those that are not to be their defaults."""

    def __init__(self, bench: Bench, vm: str, **wishes: Any) -> None:
        self._bench = bench
        self.vm = vm
        self._wishes = wishes
        self.failure = ""

    def _step(self, hand: Hand, step: str, **asked: Any) -> tuple[Any, Done]:
        document = json.dumps({"customer": _CUSTOMER, "vm": self.vm, **asked})
        done = hand.run(["/usr/bin/python3", "-I", f"{REMOTE}/ours.py", step], document)
        return json.loads(done.out), done

    def image(self, image_id: str) -> str:
        """The disk of an image on C."""
        return f"{STORE}/{self.vm}/images/{image_id}/vda.raw"

    def generation(self, image_id: str) -> str:
        return f"{STORE}/{self.vm}/generations/{image_id}/vda.raw"

    def open(self, base: Mapping[str, Any] | None = None, now: str | None = None) -> tuple[dict[str, Any], Done]:
        return self._step(self._bench.a, "open", domain=self.vm, base=base, now=now)

    def close(self, keep: str | None = "") -> None:
        """Close the snapshot. ``keep``: the one checkpoint that stays; "" none, None all."""
        self._step(self._bench.a, "close", keep_checkpoint=keep)

    def _request(self, hop: str, image_id: str) -> dict[str, Any]:
        host = {"fetch": "a", "refresh": "b"}[hop]
        peer = {"name": host, "address": self._bench.address(host)}
        return {**_module_request(hop=hop, image_id=image_id, peer=peer, **self._wishes), "vm": self.vm}

    def transfer(self, hop: str, image_id: str) -> tuple[dict[str, Any], Done]:
        return self._step(self._bench.c, "transfer", **self._request(hop, image_id))

    def begin_fetch(self, image_id: str) -> None:
        """Start copying the open snapshot without waiting; C's hand is busy until ``end_fetch``."""
        words = ["/usr/bin/python3", "-I", f"{REMOTE}/ours.py", "transfer"]
        self._bench.c.begin(words, json.dumps(self._request("fetch", image_id)))

    def end_fetch(self) -> dict[str, Any] | None:
        """The result of what ``begin_fetch`` began, or None when it failed; ``failure`` then says why."""
        done = self._bench.c.end(check=False)
        self.failure = done.err.strip()[-2000:]
        return json.loads(done.out) if done.out else None

    def take(self, base: Mapping[str, Any] | None = None, now: str | None = None, keep: bool = True) -> Taken:
        """Take an image: open, fetch; the time ends there. Then the snapshot is closed, its checkpoint kept or not."""
        snapshot, opened = self.open(base, now)
        result, fetched = self.transfer("fetch", snapshot["id"])
        if not result["published"]:
            raise RuntimeError(f"image {snapshot['id']} of {self.vm} was not published: {result}")
        self.close((snapshot["checkpoint"] or "") if keep else "")
        return Taken(snapshot, result, fetched.ended - opened.began, opened.seconds)

    def refresh(self, image_id: str) -> tuple[dict[str, Any], float]:
        """Bring B to an image; the result and the seconds."""
        result, done = self.transfer("refresh", image_id)
        return result, done.seconds

    def prune(self, **wish: Any) -> tuple[list[str], float]:
        """Erase what is old enough, and sync nothing more than ours does; what went and the seconds."""
        answer, done = self._step(self._bench.c, "prune", **wish)
        return list(answer["erased"]), done.seconds

    def forget(self, image_id: str) -> None:
        """Remove an image, or ``*``, from C without a rule."""
        self._bench.c.sh(f"rm -rf {STORE}/{self.vm}/images/{image_id}")
