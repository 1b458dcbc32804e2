# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A look for other machines, and one that goes on behind the module that began it.

A silent machine takes as long as one has patience with it; the playbook asks others meanwhile. Ansible's own way to do
that carries the module as a file, which takes five connections where a module takes one.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from . import _clock
from ._address import sighting
from ._errors import ResilientVmError
from ._files import read_json, write_atomic
from ._look import Target, look, way_out
from ._process import Runner

__all__ = ["begin", "outcome", "seen"]

_PREFIX = "/run/resilient-vm-look-"
_JOB = re.compile(r"[0-9a-f]{32}")
# One whose playbook was killed is of no use to anybody.
_FORGOTTEN_SECONDS = 600.0
_POLL_SECONDS = 0.02
# Beside its patience: a machine that has much to do starts late.
_LATE_SECONDS = 20.0


def seen(wanted: Mapping[str, Any], run: Runner) -> dict[str, Any]:
    """What M(vm_look) tells: when it began, how each target was reached, and who has the guest's address."""
    began = _clock.iso(_clock.now())
    targets = [Target.of(each) for each in wanted["targets"]]
    if wanted["gateway"]:
        targets += way_out()
    guest = wanted["guest"]
    with ThreadPoolExecutor(1) as beside:
        address = beside.submit(sighting, guest["address"], guest["domain"], run) if guest else None
        found = {"began": began, "seen": look(targets, run, wanted["patience_seconds"])}
        return {**found, "address": address.result()} if address else found


def begin(find: Callable[[], Mapping[str, Any]], prefix: str = _PREFIX) -> str:
    """Have ``find`` answer in a process of its own; the name that ``outcome`` wants.

    All that it needs must be imported: the module's own files are gone when the module has answered. Raises
    ResilientVmError when this machine has no room for one process more.
    """
    job = uuid.uuid4().hex
    try:
        _forget(prefix)
        child = os.fork()
    except OSError as error:
        raise ResilientVmError(
            f"this machine can't look for others ({error.strerror}); see to it and run again"
        ) from error
    if child == 0:
        _apart(find, prefix + job)
    os.waitpid(child, 0)
    return job


def outcome(job: str, patience_seconds: float, prefix: str = _PREFIX) -> dict[str, Any]:
    """What was found, once; waits for it. Raises ResilientVmError when nothing was, or it went wrong."""
    if not _JOB.fullmatch(job):
        raise ResilientVmError(f"{job!r} is no look that was begun; give what host_info returned as looking")
    deadline = time.monotonic() + patience_seconds + _LATE_SECONDS
    while time.monotonic() < deadline:
        found = read_json(prefix + job)
        if found is not None:
            os.unlink(prefix + job)
            if "msg" in found:
                raise ResilientVmError(f"looking from this machine failed: {found['msg']}; run again")
            return dict(found)
        time.sleep(_POLL_SECONDS)
    raise ResilientVmError("the look that was begun on this machine has left no answer; run again")


def _apart(find: Callable[[], Mapping[str, Any]], path: str) -> NoReturn:
    """Never returns. Away from the connection, or that would stay open as long as this lasts."""
    try:
        os.setsid()
        if os.fork() == 0:
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nothing, descriptor)
            try:
                answer = find()
            except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for word of it
                answer = {"msg": f"{type(error).__name__}: {error}"}
            write_atomic(path, json.dumps(answer).encode(), 0o600)
    finally:
        os._exit(0)


def _forget(prefix: str) -> None:
    for path in glob.glob(prefix + "*"):
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_mtime < time.time() - _FORGOTTEN_SECONDS:
                os.unlink(path)
