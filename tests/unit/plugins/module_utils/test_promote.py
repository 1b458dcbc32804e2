# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what a host says and makes before it runs a VM that it takes over."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from xml.etree import ElementTree

import pytest
from unit.engine_fakes import IDS, Disk, Snapshot, blocks, make_layout, transfer
from unit.libvirt_fakes import World, said

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _promote
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._address import Sighting
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._state import State
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store

NOW = datetime(2026, 1, 14, 11, 30, tzinfo=timezone.utc)
STATE = State("acme", "erp", "erp", "u", 1, "a", "b", "protected", "2026-01-14T02:00:00Z", "site")


@pytest.fixture
def host(tmp_path: Path) -> Layout:
    """Host b, which stands by."""
    layout = Layout("acme", "erp", str(tmp_path))
    Path(layout.directory).mkdir(parents=True)
    Path(layout.lock).touch()
    holds(layout, STATE)
    return layout


def holds(layout: Layout, state: State) -> None:
    Path(layout.state).write_text(json.dumps(state.as_dict()))


def promotion(layout: Layout, epoch: int = 2) -> _promote.Promotion:
    def run(*_words: object, **_options: object) -> None:
        raise AssertionError("nothing is to be started")

    return _promote.Promotion(layout, "erp", epoch, {}, run, None, "b")  # type: ignore[arg-type]


def test_an_intent_is_said_once_and_taken_back_once(host: Layout) -> None:
    assert _promote.intend(host, 2, NOW, dry=True) and not os.path.exists(host.intent)
    assert _promote.intend(host, 2, NOW)
    assert json.loads(Path(host.intent).read_text()) == {"epoch": 2, "when": "2026-01-14T11:30:00Z"}
    assert not _promote.intend(host, 2, NOW)
    assert not _promote.withdraw(host, 3), "somebody else's"
    assert _promote.withdraw(host, 2, dry=True) and os.path.exists(host.intent)
    assert _promote.withdraw(host, 2)
    assert not _promote.withdraw(host, 2)


def test_no_intent_where_it_is_decided_already_or_a_change_was_missed(host: Layout) -> None:
    assert not _promote.intend(host, 1, NOW)
    with pytest.raises(ResilientVmError, match="it has missed a change; run the site playbook"):
        _promote.intend(host, 3, NOW)
    assert not os.path.exists(host.intent)


def test_no_intent_for_a_host_that_was_confirmed_since_it_was_looked_at(host: Layout) -> None:
    Path(host.asked).touch()
    os.utime(host.asked, (NOW.timestamp(),) * 2)
    with pytest.raises(ResilientVmError, match="a asked at 2026-01-14T11:30:00Z whether it may run acme/erp"):
        _promote.intend(host, 2, NOW, unasked_since=NOW)
    assert not os.path.exists(host.intent)
    assert _promote.intend(host, 2, NOW, unasked_since=NOW + timedelta(seconds=1))


@pytest.mark.parametrize(("active", "epoch"), [("a", 2), ("b", 1), ("b", 3)])
def test_nothing_is_laid_unless_this_host_is_the_active_one_at_that_epoch(
    host: Layout, active: str, epoch: int
) -> None:
    holds(host, replace(STATE, active=active, standby="c", epoch=epoch))
    with pytest.raises(ResilientVmError, match="b may not run acme/erp: the active host is"):
        promotion(host).carry_out()
    assert not os.path.lexists(host.running) and not os.path.lexists(host.running + ".new")


def test_disks_of_an_earlier_time_are_never_started_from(host: Layout) -> None:
    holds(host, replace(STATE, active="b", standby="a", epoch=4))
    os.mkdir(host.running)
    Path(host.running, _promote.RECORD).write_text('{"epoch": 2}')
    with pytest.raises(ResilientVmError, match="holds disks of an earlier time; move it aside"):
        promotion(host, 4).carry_out()


def test_disks_that_a_machine_may_have_lived_on_since_are_not_called_useless(host: Layout) -> None:
    """As after resolve, which raises the epoch where the machine stays."""
    holds(host, replace(STATE, active="b", standby="a", epoch=4))
    os.mkdir(host.running)
    Path(host.running, _promote.RECORD).write_text('{"epoch": 2, "uuid": "3c6b"}')
    xml = f"<domain><devices><disk><source file='{host.running}/vda.qcow2'/></disk></devices></domain>"
    world = World({"virsh domstate": said("shut off (shutdown)"), "virsh dumpxml": said(xml)})
    taken = replace(promotion(host, 4), run=world)
    with pytest.raises(ResilientVmError) as refused:
        taken.carry_out()
    assert "it was given at epoch 2" in str(refused.value) and "start it with: virsh start erp" in str(refused.value)
    # A machine that has its disks elsewhere, as one that stands by does.
    world.answers["virsh dumpxml"] = said(xml.replace("/running/", "/generations/20260114T020000Z/"))
    with pytest.raises(ResilientVmError, match="holds disks of an earlier time; move it aside"):
        taken.carry_out()


def test_a_host_without_a_generation_says_so(host: Layout) -> None:
    holds(host, replace(STATE, active="b", standby="a", epoch=2))
    with pytest.raises(ResilientVmError, match="b holds no generation of acme/erp"):
        promotion(host).carry_out()


def test_a_machine_with_a_generation_id_gets_another_one_and_no_other_machine_gets_any() -> None:
    old = "6e1f3c0a-3a5f-4c50-9f7e-3a3f0d9a2c11"
    renewed = ElementTree.fromstring(_promote._renewed(f"<domain><name>erp</name><genid>{old}</genid></domain>"))
    assert renewed.findtext("genid") not in (None, "", old)
    assert renewed.findtext("name") == "erp"
    assert _promote._renewed("<domain><name>erp</name></domain>") == "<domain><name>erp</name></domain>"


def test_the_guest_is_up_when_somebody_listens_at_its_address(host: Layout) -> None:
    """A port that is closed is no service, whoever answers for it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = replace(
            promotion(host), guest_address=f"127.0.0.1:{server.getsockname()[1]}", sleep=lambda _pause: None
        )
        assert asked.wait_for_port(0) == "answers"
    assert asked.wait_for_port(0) == "silent"
    assert set(asked.seconds) == {"port"}
    assert promotion(host).wait_for_port(0) == "not asked"


@pytest.mark.parametrize(("despite", "own"), [(False, False), (False, True), (True, True)])
def test_it_is_not_started_where_another_has_its_address(
    host: Layout, monkeypatch: pytest.MonkeyPatch, despite: bool, own: bool
) -> None:
    """At the last moment, with everything made: the gate was opened, and nothing runs yet."""
    holds(host, replace(STATE, active="b", standby="a", epoch=2))
    os.mkdir(host.running)
    Path(host.running, _promote.RECORD).write_text('{"epoch": 2, "uuid": "u"}')
    Path(host.running, "domain.xml").write_text("<domain/>")
    seen = Sighting("192.0.2.80", ("vmbr0",), "52:54:00:00:00:02", "vmbr0", own)
    monkeypatch.setattr(_promote._address, "look", lambda *_asked: seen)
    monkeypatch.setattr(_promote, "define", lambda *_words: None)
    world = World({"virsh domstate": said("shut off (unknown)\n")})
    asked = replace(promotion(host), run=world, gate=Open(), guest_address="192.0.2.80:443", despite=despite)
    with pytest.raises(ResilientVmError, match="erp is not started on b: 52:54:00:00:00:02 answers at"):
        asked.carry_out()
    assert not [words for words in world.calls if "start" in words]


@pytest.mark.parametrize(
    ("state", "sentence"),
    [("running (booted)", "erp is running on b already"), ("shut off (saved)", "virsh managedsave-remove")],
)
def test_nothing_is_made_of_a_generation_beside_another_life_of_the_machine(
    host: Layout, state: str, sentence: str
) -> None:
    """Its TPM would be put back to the generation's while it runs."""
    made = make_layout(Path(host.root), "generations")
    transfer(Snapshot(IDS[0], [Disk("vda", blocks(2))], None), Store(made, "generations"))
    os.symlink(f"generations/{IDS[0]}", made.current)
    holds(host, replace(STATE, active="b", standby="a", epoch=2, uuid=None))
    asked = replace(promotion(host), run=World({"virsh domstate": said(state)}), gate=Open())
    with pytest.raises(ResilientVmError, match=sentence):
        asked.carry_out()
    assert not os.path.lexists(host.running) and not os.path.lexists(host.running + ".new")


class Open:
    """A gate that lets everything through."""

    def open(self, _name: str) -> None: ...


def test_a_generation_of_another_machine_is_not_started(host: Layout) -> None:
    """Its UUID becomes the name of a folder of root's, and of a domain, which may be another customer's."""
    made = make_layout(Path(host.root), "generations")
    transfer(Snapshot(IDS[0], [Disk("vda", blocks(2))], None), Store(made, "generations"))
    os.symlink(f"generations/{IDS[0]}", made.current)
    holds(host, replace(STATE, active="b", standby="a", epoch=2, uuid="3c6bb72f-2a19-44b9-af47-a8ee60341a79"))
    with pytest.raises(ResilientVmError, match=r"is of machine .*, and this one is 3c6bb72f-.*; erase that generation"):
        promotion(host).carry_out()
    assert not os.path.lexists(host.running) and not os.path.lexists(host.running + ".new")
