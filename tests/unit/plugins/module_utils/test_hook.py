# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the hook by which libvirt asks the gate."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _hook, _transitions

UUID = "6e1f3c0a-3a5f-4c50-9f7e-3a3f0d9a2c11"
XML = f"<domain type='kvm'><name>erp</name><uuid>{UUID}</uuid></domain>".encode()
BOOT = "0f0e0d0c-1111-4222-8333-444455556666"
STATE = {"schema": 1, "customer": "acme", "vm": "erp", "active": "a", "epoch": 3, "phase": "protected"}


class Host:
    """Host a in a folder: registered, active, confirmed since its boot."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for folder in ("gate", "confirmed"):
            (place / folder).mkdir()
        (place / "boot_id").write_text(BOOT + "\n")
        self.entry = place / "gate" / f"{UUID}.json"
        self.state = place / "state.json"
        self.confirmation = place / "confirmed" / f"{UUID}.json"
        self.write(self.entry, {"customer": "acme", "vm": "erp", "host": "a", "state": str(self.state)})
        self.write(self.state, STATE)
        self.write(self.confirmation, {"boot_id": BOOT, "epoch": 3})

    @staticmethod
    def write(path: Path, document: Any) -> None:
        path.write_text(json.dumps(document))

    def asks(self, operation: str = "prepare", xml: bytes = XML) -> int:
        return _hook.main(
            ["erp", operation, "begin", "-"],
            xml,
            str(self.place / "gate"),
            str(self.place / "confirmed"),
            str(self.place / "boot_id"),
        )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("operation", _hook.GUARDED)
def test_the_confirmed_active_host_may_start_it(host: Host, operation: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert host.asks(operation) == 0
    assert capsys.readouterr() == ("", "")


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "another host is active": (
        {"state": {**STATE, "active": "b"}},
        "the active host of acme/erp is b since epoch 3, not a",
    ),
    "not confirmed": ({"confirmation": None}, "no other machine has confirmed since the boot of a that it still is"),
    "confirmed before this boot": ({"confirmation": {"boot_id": "other", "epoch": 3}}, "no other machine has confirm"),
    "confirmed for another epoch": ({"confirmation": {"boot_id": BOOT, "epoch": 2}}, "no other machine has confirmed"),
    "damaged confirmation": ({"confirmation": "{"}, "no other machine has confirmed"),
    "no state": ({"state": None}, "state.json is missing or damaged; run the site playbook"),
    "damaged state": ({"state": '{"active": "a"'}, "state.json is missing or damaged"),
    "a state without a phase": (
        {"state": {"customer": "acme", "vm": "erp", "active": "a", "epoch": 3}},
        "looking failed (KeyError: 'phase')",
    ),
    "another VM's state": ({"state": {**STATE, "vm": "crm"}}, "is another VM's; run the site playbook"),
    "damaged entry": ({"entry": "nonsense"}, f"{UUID}.json is missing or damaged"),
    "an entry that names nothing": ({"entry": {}}, "looking failed (KeyError: 'state'); run the site playbook"),
    "restoring": ({"state": {**STATE, "phase": "restoring"}}, "is in phase restoring; bring that to its end first"),
}


@pytest.mark.parametrize("operation", _hook.GUARDED)
@pytest.mark.parametrize("fault", FAULTS)
def test_in_doubt_it_is_closed_and_says_so_in_one_sentence(
    host: Host, fault: str, operation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, sentence = FAULTS[fault]
    for name, content in changes.items():
        path: Path = getattr(host, name)
        if content is None:
            path.unlink()
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert host.asks(operation) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(_hook.SAYS) and sentence in printed.err and printed.err.count("\n") == 1


@pytest.mark.parametrize("operation", ["reconnect", "started", "stopped", "release", "attach", "something new"])
def test_what_is_no_start_always_passes(host: Host, operation: str) -> None:
    host.state.unlink()
    assert host.asks(operation) == 0
    assert host.asks(operation, b"") == 0


def test_a_machine_of_another_uuid_passes_whatever_its_name(host: Host) -> None:
    host.state.unlink()
    assert host.asks(xml=XML.replace(UUID.encode(), b"00000000-0000-4000-8000-000000000000")) == 0


@pytest.mark.parametrize("xml", [b"", b"<domain>", b"<domain><name>erp</name></domain>"])
def test_a_definition_that_says_not_who_it_is_does_not_pass(host: Host, xml: bytes) -> None:
    assert host.asks(xml=xml) == 1


def test_without_any_protected_vm_it_lets_all_pass(tmp_path: Path) -> None:
    assert _hook.main(["erp", "start", "begin", "-"], XML, str(tmp_path / "none"), str(tmp_path), "/dev/null") == 0


def test_it_knows_the_phases_of_the_table() -> None:
    assert _hook.CLOSED == _transitions.CLOSED


@given(
    phase=st.sampled_from(list(_transitions.PHASES)),
    active=st.sampled_from(["a", "b"]),
    epoch=st.integers(1, 3),
    boot=st.sampled_from([BOOT, "other"]),
    confirmed=st.one_of(st.none(), st.integers(1, 3)),
)
def test_it_opens_for_the_confirmed_active_host_only(
    phase: str, active: str, epoch: int, boot: str, confirmed: int | None
) -> None:
    entry = {"customer": "acme", "vm": "erp", "host": "a", "state": "state.json"}
    state = {**STATE, "phase": phase, "active": active, "epoch": epoch}
    confirmation = None if confirmed is None else {"boot_id": boot, "epoch": confirmed}
    may = active == "a" and phase not in _transitions.CLOSED and boot == BOOT and confirmed == epoch
    assert (_hook.verdict(entry, state, confirmation, BOOT) == "") == may


@pytest.mark.usefixtures("host")
def test_as_a_program_it_stands_alone(tmp_path: Path) -> None:
    """As it is laid: no import but the standard library's, one exit code, nothing on stdout."""
    program = tmp_path / "50-resilient-vm"
    text = Path(_hook.__file__).read_text().replace(_hook.REGISTRY, str(tmp_path / "gate"))
    program.write_text(text.replace(_hook.CONFIRMED, str(tmp_path / "none")))
    words = [sys.executable, "-I", str(program), "erp", "prepare", "begin", "-"]
    done = subprocess.run(words, input=XML, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"no other machine has confirmed since the boot of a" in done.stderr
