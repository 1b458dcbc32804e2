# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill on the host that stands by: a twin of the VM as one image has it, booted where it can reach nothing.

The twin is a transient domain, which no power cut of the host leaves behind, and a unit holds it: when that ends, be it
by a playbook, by a takeover or because its time is over, the twin and its disks go.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid as uuids
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable
from xml.etree import ElementTree

from . import _definition, _standby_xml, _units
from ._beside import new_mac
from ._beside_xml import beside
from ._change import held
from ._errors import ResilientVmError
from ._files import fsync_directory, fsync_tree, moment, read_json, write_json
from ._layout import Layout
from ._png import as_png
from ._process import Runner
from ._restored_files import RECORD, Wish, check_room, lay
from ._virsh import Virsh

__all__ = ["AGENT", "Told", "Twin", "begin", "boot", "end", "examine", "finish", "released", "twin_xml"]

AGENT = "guest agent"
_PING = '{"execute": "guest-ping"}'
_XML = "twin.xml"
_SERIAL = "serial.log"
_SERIAL_BYTES = 256 << 10


@dataclass(frozen=True)
class Twin:
    """What vm_drill was asked for beside the image. ``host`` is this machine's name."""

    name: str
    host: str
    ready_text: str = ""
    wait_seconds: float = 300.0
    expire_seconds: int = 3600

    @property
    def check(self) -> str:
        """By what it is seen to be ready."""
        return f"{self.ready_text!r} on the serial console" if self.ready_text else AGENT


@dataclass(frozen=True)
class Told:
    """How a drill went, as the control node saw it."""

    checks: Sequence[Mapping[str, Any]]
    seconds: float
    host: str
    ended: str


def examine(layout: Layout, wish: Wish, twin: Twin, run: Runner) -> None:
    """Refuse what can't be, before anything is touched."""
    _refuse_in_use(layout, twin)
    known, ours = Virsh(run).domains().get(twin.name), (read_json(os.path.join(layout.drill, RECORD)) or {}).get("uuid")
    if known is not None and known != ours:
        raise ResilientVmError(
            f"this host has a VM {twin.name} already, which no drill made; rename it, and run the drill again",
            uuid=known,
        )
    check_room(layout, wish, layout.directory)


def _refuse_in_use(layout: Layout, twin: Twin) -> None:
    """A drill is for a host that stands by, at rest."""
    state = held(layout)
    if state.active == twin.host or state.phase != "protected":
        raise ResilientVmError(
            f"{layout.name} is {state.phase} with {state.active} as its active host; a drill is only for a VM for "
            f"which {twin.host} stands by: run it when that is so again"
        )
    intent = read_json(layout.intent)
    if intent is not None and intent["epoch"] > state.epoch:
        raise ResilientVmError(
            f"{layout.name} is being taken over here, to epoch {intent['epoch']}; run failover again, which goes on "
            "with it or takes it back, then the drill"
        )


def begin(layout: Layout, wish: Wish, twin: Twin, run: Runner, swtpm: str = _definition.SWTPM) -> str:
    """Lay the twin's disks and start the unit that holds them; its UUID. What a former drill left goes first."""
    end(layout, run, swtpm)
    identity = str(uuids.uuid4())
    # QEMU's account must get through to the disks, which libvirt hands to it.
    lay(layout, wish, run, mode=0o711, note={"name": twin.name, "uuid": identity})
    try:
        with open(os.path.join(wish.path, _definition.XML), encoding="utf-8") as stream:
            xml = stream.read()
        disks = {disk["target"]: wish.file(disk["target"]) for disk in wish.disks}
        made = beside(xml, twin.name, identity, wish.path, disks, wish.format, {}, new_mac)
        text = twin_xml(made, os.path.join(wish.path, _SERIAL), twin, layout.name)
        with open(os.path.join(wish.path, _XML), "x", encoding="utf-8", opener=_private) as stream:
            stream.write(text)
        _definition.unpack_tpm(os.path.join(wish.path, _definition.TPM), identity, swtpm)
        # Who takes the VM over says so under the lock, and ends what was begun before.
        with moment(layout.lock, "a drill"):
            _refuse_in_use(layout, twin)
            properties = [f"RuntimeMaxSec={twin.expire_seconds}", f"ExecStopPost={_units.MOVER} undrill {layout.name}"]
            _units.start(run, layout.unit("drill"), ["/bin/sleep", "infinity"], properties)
    except BaseException:
        released(layout, run, swtpm)
        raise
    return identity


def twin_xml(xml: str, serial: str, twin: Twin, vm: str) -> str:
    """The definition of a machine beside the VM, with what a drill looks at: a log of its console, and a picture."""
    root = ElementTree.fromstring(xml)
    devices = root.find("devices")
    if devices is None:
        raise ResilientVmError(f"the image's domain.xml of {vm} has no devices; name another restore point")
    console = devices.find("serial")
    if console is not None:
        ElementTree.SubElement(console, "log", file=serial, append="off")
    if twin.ready_text and console is None:
        raise ResilientVmError(
            f"{vm} has no serial console on which resilient_vm_drill_ready_text could appear; add one, or "
            "leave that unset"
        )
    if not twin.ready_text and devices.find("channel/target[@name='org.qemu.guest_agent.0']") is None:
        raise ResilientVmError(
            f"{vm} has no guest agent that could say that its twin is up; set resilient_vm_drill_ready_text to what it "
            "prints on its serial console"
        )
    if devices.find("video") is None and root.find("os/type[@arch='x86_64']") is not None:
        # Firmware and boot loader show there what they miss, on a machine that never gets so far as its console.
        ElementTree.SubElement(ElementTree.SubElement(devices, "video"), "model", type="vga")
    return _standby_xml.text(root)


def boot(
    layout: Layout,
    twin: Twin,
    identity: str,
    run: Runner,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[str, float]:
    """Start the twin and wait until it is ready: ("" or what is wrong with it, seconds)."""
    virsh, begun = Virsh(run), clock()
    done = virsh.call("create", os.path.join(layout.drill, _XML), timeout_seconds=120.0, check=False)
    if done.code != 0:
        return f"libvirt does not start it: {' '.join(done.stderr.split())}", round(clock() - begun, 2)
    while not _ready(layout, twin, identity, virsh):
        took = clock() - begun
        state = virsh.state(identity)[0]
        if state != "running":
            return f"it is {state or 'gone'} after {took:.0f} s and was not ready", round(took, 2)
        if took >= twin.wait_seconds:
            return f"not ready within {twin.wait_seconds:g} s ({twin.check})", round(took, 2)
        sleep(0.5)
    return "", round(clock() - begun, 2)


def _ready(layout: Layout, twin: Twin, identity: str, virsh: Virsh) -> bool:
    if twin.ready_text:
        return twin.ready_text.encode() in _serial(layout)
    return virsh.call("qemu-agent-command", identity, _PING, "--timeout", "5", check=False).code == 0


def _serial(layout: Layout) -> bytes:
    """The end of what the twin has printed; virtlogd keeps the file small."""
    try:
        with open(os.path.join(layout.drill, _SERIAL), "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _SERIAL_BYTES))
            return stream.read()
    except FileNotFoundError:
        return b""


def finish(
    layout: Layout,
    identity: str,
    told: Told,
    images: Collection[str],
    run: Runner,
    swtpm: str = _definition.SWTPM,
) -> dict[str, Any]:
    """Keep the evidence, and end the drill; its record. Evidence of images that are no more goes."""
    laid = read_json(os.path.join(layout.drill, RECORD))
    if laid is None or laid["uuid"] != identity:
        raise ResilientVmError(
            f"the drill of {layout.name} was ended before it was over: by a takeover, by another drill, or because "
            "resilient_vm_drill_expire_seconds had passed; run it again"
        )
    evidence = os.path.join(layout.drills, laid["image"])
    record = {
        "schema": 1,
        "image": laid["image"],
        "host": told.host,
        "ended": told.ended,
        "passed": all(check["passed"] for check in told.checks),
        "seconds_to_ready": told.seconds,
        "checks": [dict(check) for check in told.checks],
        "evidence": evidence,
    }
    work = os.path.join(layout.drills, ".new")
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work, 0o700)
    record["screen"] = _picture(Virsh(run), identity, work)
    with open(os.path.join(work, _SERIAL), "xb", opener=_private) as stream:
        stream.write(_serial(layout))
    write_json(os.path.join(work, "drill.json"), record, 0o600)
    fsync_tree(work)
    for name in os.listdir(layout.drills):
        if name == laid["image"] or (name not in images and name != ".new"):
            shutil.rmtree(os.path.join(layout.drills, name))
    os.rename(work, evidence)
    fsync_directory(layout.drills)
    end(layout, run, swtpm)
    return record


def _picture(virsh: Virsh, identity: str, work: str) -> str:
    """Keep a picture of the twin's screen; "screen.png", or why there is none."""
    raw = os.path.join(work, "screen")
    done = virsh.call("screenshot", identity, raw, check=False)
    try:
        if done.code != 0:
            return f"none: {' '.join(done.stderr.split())}"
        with open(raw, "rb") as stream:
            picture = as_png(stream.read())
    except ResilientVmError as error:
        return f"none: {error}"
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(raw)
    with open(os.path.join(work, "screen.png"), "xb", opener=_private) as stream:
        stream.write(picture)
    return "screen.png"


def end(layout: Layout, run: Runner, swtpm: str = _definition.SWTPM) -> bool:
    """End a drill at once, whoever began it; whether there was one."""
    _units.stop(run, layout.unit("drill"))
    return released(layout, run, swtpm)


def released(layout: Layout, run: Runner, swtpm: str = _definition.SWTPM) -> bool:
    """Take the twin and its disks away, after the unit that held them; whether there was anything."""
    record = read_json(os.path.join(layout.drill, RECORD))
    if record is None:
        return False
    virsh, identity = Virsh(run), record["uuid"]
    if virsh.state(identity)[0]:
        virsh.call("destroy", identity, timeout_seconds=60.0)
    shutil.rmtree(os.path.join(swtpm, identity), ignore_errors=True)
    shutil.rmtree(layout.drill)
    return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
