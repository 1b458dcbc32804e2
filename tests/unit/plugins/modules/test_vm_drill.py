# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about vm_drill, vm_drill_end and image_drill: a twin that can reach nothing, and nothing left of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from unit.engine_fakes import IDS, Disk, Snapshot, blocks, make_layout, restoring, transfer
from unit.libvirt_fakes import UUID, disk, domain, refused, said
from unit.libvirt_fakes import World as Libvirt

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _drill, _promote
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._drill_record import drills_of
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._restore_store import RestoreStore
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._state import State
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._stored_source import StoredSource
from ansible_collections.edgecloud.resilient_vm.plugins.modules import image_drill, vm_drill, vm_drill_end

Run = Callable[..., dict[str, Any]]
STATE = State("acme", "erp", "erp", UUID, 1, "a", "b", "protected", "2026-01-14T02:00:00Z", "site")
NETWORK = "<interface type='bridge'><mac address='52:54:00:01:02:03'/><source bridge='br-lan'/></interface>"
SERIAL = "<serial type='pty'><target port='0'/></serial>"
UNIT = "resilient-vm-drill-acme.erp.service"


class Machine(Snapshot):
    """A snapshot with the definition of a machine with a network and a console."""

    devices = (disk(), NETWORK, SERIAL)
    agent = True

    def definition(self) -> Any:
        system = "<type arch='x86_64'>hvm</type>"
        yield "domain.xml", domain(*self.devices, system=system, agent=self.agent).encode()


class Host:
    """Host b, which stands by, has got an image, and has a libvirt and a systemd that remember."""

    def __init__(self, tmp_path: Path) -> None:
        self.images = make_layout(tmp_path / "c")
        transfer(Machine(IDS[0], [Disk("vda", blocks(20))], None), Store(self.images))
        self.layout: Layout = make_layout(tmp_path / "b", "generations")
        Path(self.layout.restores).mkdir()
        Path(self.layout.lock).touch()
        self.holds("protected", "a")
        self.arrives()
        self.twin = ""
        self.active = False
        self.libvirt = Libvirt(
            {
                "virsh list --all --uuid --name": said(f"{UUID} erp\n"),
                "virsh create": self.create,
                "virsh domstate": lambda _words: (
                    said("running (booted)") if self.twin else refused("error: failed to get domain")
                ),
                "virsh qemu-agent-command": said("{}"),
                "virsh screenshot": self.screenshot,
                "virsh destroy": self.destroy,
                "systemd-run": self.start,
                "systemctl show": lambda _words: said("active" if self.active else "inactive"),
                "systemctl stop": self.stop,
            }
        )

    def holds(self, phase: str, active: str) -> None:
        document = {**STATE.as_dict(), "phase": phase, "active": active, "standby": "a" if active == "b" else "b"}
        Path(self.layout.state).write_text(json.dumps(document))

    def arrives(self) -> None:
        transfer(StoredSource(Store(self.images), IDS[0]), RestoreStore(self.layout))

    def create(self, words: list[str]) -> Any:
        self.twin = Path(words[1]).read_text()
        return said()

    def destroy(self, _words: list[str]) -> Any:
        self.twin = ""
        return said()

    @staticmethod
    def screenshot(words: list[str]) -> Any:
        Path(words[2]).write_bytes(b"P6\n1 1\n255\nabc")
        return said()

    def start(self, _words: list[str]) -> Any:
        self.active = True
        return said()

    def stop(self, _words: list[str]) -> Any:
        """As systemd does: what the unit was told to do at its end is done when this returns."""
        self.active = False
        _drill.released(self.layout, self.libvirt, "/nowhere")
        return said()

    @property
    def wish(self) -> dict[str, Any]:
        return restoring(self.images, self.layout, "erp-drill", host="b")

    def end(self, run_module: Run, begun: dict[str, Any], **changed: Any) -> dict[str, Any]:
        named = {name: self.wish[name] for name in ("root", "customer", "vm", "host")}
        given = {"uuid": begun["uuid"], "seconds": begun["seconds"], "checks": [begun["ready"]], "images": [IDS[0]]}
        return run_module(vm_drill_end, {**named, **given, "now": "2026-01-14T03:00:00Z", **changed})

    @property
    def left(self) -> list[str]:
        """What a drill may leave on the host: nothing but its evidence."""
        found = [self.layout.drill, os.path.join(self.layout.directory, ".drill.restoring")]
        return [path for path in found if os.path.lexists(path)] + ([self.twin] if self.twin or self.active else [])


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    monkeypatch.setattr(vm_drill, "run", made.libvirt)
    monkeypatch.setattr(vm_drill_end, "run", made.libvirt)
    monkeypatch.setattr(_drill, "boot", partial(_drill.boot, sleep=lambda _seconds: None))
    return made


def test_a_twin_is_booted_apart_tried_and_taken_away(run_module: Run, host: Host) -> None:
    planned = run_module(vm_drill, host.wish, check_mode=True, diff=True)
    assert planned["changed"] is True and not host.left
    begun = run_module(vm_drill, {**host.wish, "expire_seconds": 77}, diff=True)
    assert begun["diff"] == planned["diff"]
    assert begun["ready"]["check"] == "guest agent" and begun["ready"]["passed"]
    twin = ElementTree.fromstring(host.twin)
    assert (twin.findtext("name"), twin.findtext("uuid")) == ("erp-drill", begun["uuid"]) and begun["uuid"] != UUID
    assert [node.get("state") for node in twin.iterfind("devices/interface/link")] == ["down"]
    assert twin.find("devices/interface/source") is None
    assert twin.find("devices/serial/log[@append='off']") is not None
    assert twin.find("devices/video/model[@type='vga']") is not None
    held = next(call for call in host.libvirt.calls if call.startswith("systemd-run"))
    assert f"--unit={UNIT}" in held and "RuntimeMaxSec=77" in held and "undrill acme/erp" in held
    Path(host.layout.drill, "serial.log").write_bytes(b"is up\n")
    done = host.end(run_module, begun)
    assert done["drill"]["passed"] and done["drill"]["screen"] == "screen.png"
    kept = Path(host.layout.drills, IDS[0])
    assert sorted(os.listdir(kept)) == ["drill.json", "screen.png", "serial.log"]
    assert (kept / "serial.log").read_bytes() == b"is up\n"
    assert json.loads((kept / "drill.json").read_text()) == done["drill"]
    assert not host.left


def test_a_twin_that_never_answers_is_a_failed_drill_with_its_picture(run_module: Run, host: Host) -> None:
    host.libvirt.answers["virsh qemu-agent-command"] = refused("error: Guest agent is not responding")
    begun = run_module(vm_drill, {**host.wish, "wait_seconds": 0})
    assert begun["ready"] == {
        "check": "guest agent",
        "passed": False,
        "said": "not ready within 0 s (guest agent)",
    }
    record = host.end(run_module, begun)["drill"]
    assert record["passed"] is False and record["screen"] == "screen.png" and not host.left


def test_a_twin_that_dies_or_does_not_start_is_told(run_module: Run, host: Host) -> None:
    host.libvirt.answers["virsh qemu-agent-command"] = refused("error: no domain")
    host.libvirt.answers["virsh create"] = said()
    begun = run_module(vm_drill, host.wish)
    assert begun["ready"]["said"].startswith("it is gone after")
    host.libvirt.answers["virsh screenshot"] = refused("error: domain is not running")
    assert host.end(run_module, begun)["drill"]["screen"] == "none: error: domain is not running"
    host.arrives()
    host.libvirt.answers["virsh create"] = refused("error: no such emulator")
    assert "no such emulator" in run_module(vm_drill, host.wish)["ready"]["said"]


def test_what_a_killed_run_left_goes_before_the_next_begins(run_module: Run, host: Host) -> None:
    first = run_module(vm_drill, host.wish)
    host.arrives()
    second = run_module(vm_drill, host.wish)
    assert first["uuid"] != second["uuid"] and second["uuid"] in host.twin
    assert "was ended before it was over" in host.end(run_module, first)["msg"]
    assert host.end(run_module, second)["drill"]["passed"]


@pytest.mark.parametrize(
    ("phase", "active", "words"),
    [("protected", "b", "protected with b as its active host"), ("maintenance", "a", "a drill is only for a VM for")],
)
def test_only_a_host_that_stands_by_at_rest_drills(
    run_module: Run, host: Host, phase: str, active: str, words: str
) -> None:
    host.holds(phase, active)
    assert words in run_module(vm_drill, host.wish)["msg"] and not host.left


def test_who_says_meanwhile_that_he_takes_over_is_not_kept_from_it(run_module: Run, host: Host) -> None:
    Path(host.layout.intent).write_text('{"epoch": 2, "when": "2026-01-14T03:00:00Z"}')
    assert "is being taken over here, to epoch 2" in run_module(vm_drill, host.wish)["msg"]
    os.unlink(host.layout.intent)

    def laid(words: list[str]) -> Any:
        del words
        Path(host.layout.intent).write_text('{"epoch": 2, "when": "2026-01-14T03:00:00Z"}')
        return said("inactive")

    # Said after the first look, while the disks are laid.
    host.libvirt.answers["systemctl show"] = laid
    assert "is being taken over here" in run_module(vm_drill, host.wish)["msg"]
    assert not host.left and not host.libvirt.asked("systemd-run", "virsh create")


def test_a_takeover_ends_a_drill_before_anything_else(run_module: Run, host: Host) -> None:
    run_module(vm_drill, host.wish)
    assert host.left
    host.holds("failing_over", "b")
    state = json.loads(Path(host.layout.state).read_text())
    Path(host.layout.state).write_text(json.dumps({**state, "epoch": 2}))
    promotion = _promote.Promotion(host.layout, "erp", 2, {}, host.libvirt, None, "b")  # type: ignore[arg-type]
    with pytest.raises(_promote.ResilientVmError, match="b holds no generation"):
        promotion.carry_out()
    assert not host.left


@pytest.mark.parametrize(
    ("devices", "agent", "text", "words"),
    [
        ((disk(), SERIAL), False, None, "has no guest agent that could say that its twin is up"),
        ((disk(),), True, "login:", "has no serial console on which resilient_vm_drill_ready_text could appear"),
    ],
)
def test_a_vm_that_has_no_way_to_say_that_it_is_up_is_refused(
    run_module: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: Any, agent: bool, text: str, words: str
) -> None:
    monkeypatch.setattr(Machine, "devices", devices)
    monkeypatch.setattr(Machine, "agent", agent)
    host = Host(tmp_path)
    monkeypatch.setattr(vm_drill, "run", host.libvirt)
    assert words in run_module(vm_drill, {**host.wish, "ready_text": text})["msg"]
    assert not host.left


def test_a_text_on_the_console_says_that_it_is_ready(run_module: Run, host: Host) -> None:
    def create(words: list[str]) -> Any:
        Path(host.layout.drill, "serial.log").write_bytes(b"...\nerp login: ")
        return host.create(words)

    host.libvirt.answers["virsh create"] = create
    begun = run_module(vm_drill, {**host.wish, "ready_text": "login:"})
    assert begun["ready"]["passed"] and begun["ready"]["check"] == "'login:' on the serial console"
    assert not host.libvirt.asked("virsh qemu-agent-command")


def test_the_backup_storage_keeps_a_record_of_each_image_it_keeps(run_module: Run, host: Host) -> None:
    record = {"image": IDS[0], "ended": "2026-01-14T03:00:00Z", "passed": True, "checks": []}
    given = {"root": host.images.root, "customer": "acme", "vm": "erp"}
    gone = Path(host.images.drills, f"{IDS[1]}.json")
    gone.parent.mkdir()
    gone.write_text(json.dumps({**record, "image": IDS[1]}))
    assert drills_of(host.images, {IDS[0]}) == []
    assert run_module(image_drill, {**given, "drill": record}, check_mode=True)["changed"] is True and gone.exists()
    assert run_module(image_drill, {**given, "drill": record})["changed"] is True
    assert drills_of(host.images, {IDS[0]}) == [record] and not gone.exists()
    assert run_module(image_drill, {**given, "drill": record})["changed"] is False
    assert (
        "has been erased meanwhile" in run_module(image_drill, {**given, "drill": {**record, "image": IDS[1]}})["msg"]
    )
