# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about a look that goes on behind the module that began it, in a process of its own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _looking
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed
from ansible_collections.edgecloud.resilient_vm.plugins.modules import host_info, vm_look

WANTED = {"targets": [], "gateway": False, "guest": None, "patience_seconds": 0.2}
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return str(tmp_path / "look-")


def ping(argv: list[str], **_options: Any) -> Completed:
    return Completed(int(argv[0] != "ping"), "", "")


def test_what_was_found_is_told_once(prefix: str, tmp_path: Path) -> None:
    job = _looking.begin(lambda: {"seen": {"a": ""}}, prefix)
    assert _looking.outcome(job, 5.0, prefix) == {"seen": {"a": ""}}
    assert list(tmp_path.iterdir()) == []


def test_it_waits_for_what_takes_its_time(prefix: str) -> None:
    def find() -> dict[str, Any]:
        time.sleep(0.3)
        return {"pid": os.getpid()}

    job = _looking.begin(find, prefix)
    assert not Path(prefix + job).exists()
    assert _looking.outcome(job, 5.0, prefix)["pid"] != os.getpid()


def test_it_holds_nothing_of_who_began_it(prefix: str, tmp_path: Path) -> None:
    """Or the connection would stay open until it is over: a reader of its output sees the end at once."""
    program = (
        "import os, sys, time\n"
        "from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _looking\n"
        "def find():\n"
        "    while not os.path.exists(sys.argv[2]):\n"
        "        time.sleep(0.01)\n"
        "    return {'seen': {}}\n"
        "print(_looking.begin(find, sys.argv[1]))\n"
    )
    go = tmp_path / "go"
    done = subprocess.run(
        [sys.executable, "-c", program, prefix, str(go)],
        env={**os.environ, "PYTHONPATH": str(Path(_looking.__file__).parents[5])},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=60,
    )
    job = done.stdout.strip()
    assert not Path(prefix + job).exists(), "it was waited for"
    go.touch()
    assert _looking.outcome(job, 5.0, prefix) == {"seen": {}}


def test_a_look_that_fails_says_why(prefix: str) -> None:
    def find() -> dict[str, Any]:
        raise ResilientVmError("libvirt is silent")

    with pytest.raises(ResilientVmError, match=r"from this machine failed: .*libvirt is silent; run again"):
        _looking.outcome(_looking.begin(find, prefix), 5.0, prefix)


def test_a_look_that_breaks_says_so_at_once(prefix: str) -> None:
    with pytest.raises(ResilientVmError, match="failed: KeyError: 'targets'; run again"):
        _looking.outcome(_looking.begin(lambda: _looking.seen({}, ping), prefix), 5.0, prefix)


def test_a_machine_without_room_for_it_says_so(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", full)
    with pytest.raises(ResilientVmError, match=r"can't look for others .Resource temporarily unavailable.; see to it"):
        _looking.begin(dict, prefix)


def test_one_that_never_answers_is_given_up(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_looking, "_LATE_SECONDS", 0.1)
    with pytest.raises(ResilientVmError, match="has left no answer; run again"):
        _looking.outcome("0" * 32, 0.1, prefix)


@pytest.mark.parametrize("job", ["", "../../etc/passwd", "0" * 31])
def test_only_what_was_begun_is_told(prefix: str, job: str) -> None:
    with pytest.raises(ResilientVmError, match="no look that was begun"):
        _looking.outcome(job, 0.1, prefix)


def test_what_nobody_asked_for_is_forgotten(prefix: str) -> None:
    old, young = Path(prefix + "1" * 32), Path(prefix + "2" * 32)
    for path in (old, young):
        path.write_text("{}")
    os.utime(old, (0, 0))
    _looking.outcome(_looking.begin(dict, prefix), 5.0, prefix)
    assert (old.exists(), young.exists()) == (False, True)


def test_a_look_tells_when_it_began_and_what_it_saw() -> None:
    found = _looking.seen({**WANTED, "targets": [{"name": "a", "address": "name.invalid", "port": 22}]}, ping)
    assert set(found) == {"began", "seen"} and set(found["seen"]) == {"a"}


def test_the_address_of_a_guest_is_asked_for_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_looking, "sighting", lambda address, domain, _run: {"address": address, "of": domain})
    found = _looking.seen({**WANTED, "guest": {"domain": "erp", "address": "192.0.2.80:443"}}, ping)
    assert found["address"] == {"address": "192.0.2.80:443", "of": "erp"}


def test_its_own_gateway_is_one_to_look_for(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [_looking.Target("its gateway", "name.invalid", 53)]
    monkeypatch.setattr(_looking, "way_out", lambda: there)
    assert set(_looking.seen({**WANTED, "gateway": True}, ping)["seen"]) == {"its gateway"}
    assert _looking.seen(WANTED, ping)["seen"] == {}


def test_one_module_begins_it_and_another_tells_of_it(
    run_module: Run, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, outcome = _looking.begin, _looking.outcome
    monkeypatch.setattr(_looking, "begin", lambda find: begin(find, prefix))
    monkeypatch.setattr(_looking, "outcome", lambda job, patience: outcome(job, patience, prefix))
    monkeypatch.setattr(host_info._host, "mover_version", lambda _run: None)
    asked = {"root": str(tmp_path), "libvirt": False, "vms": [], "look_for": {"targets": []}}
    began = run_module(host_info, asked)
    assert run_module(vm_look, {"job": began["looking"]})["seen"] == {}
    assert "looking" not in run_module(host_info, {**asked, "look_for": None})
    # What was begun is of use also when the rest can't be told.
    failed = run_module(host_info, {**asked, "now": "noon"})
    assert failed["failed"] and run_module(vm_look, {"job": failed["looking"]})["seen"] == {}


@pytest.mark.parametrize("given", [{}, {"job": ""}, {"targets": [], "job": "0" * 32}])
def test_it_looks_or_tells_of_a_look(run_module: Run, given: dict[str, Any]) -> None:
    assert run_module(vm_look, given)["failed"] is True


def test_nothing_is_looked_for_without_targets(run_module: Run, tmp_path: Path) -> None:
    asked = {"root": str(tmp_path), "libvirt": False, "vms": [], "look_for": {"gateway": True}}
    assert "targets" in run_module(host_info, asked)["msg"]
