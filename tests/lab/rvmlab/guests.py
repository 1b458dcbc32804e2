# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making guests on a machine and doing to them what their owner, or bad luck, would do."""

from __future__ import annotations

import base64
import json
import shlex
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from . import cgroups
from .config import MACHINES, Lab, LabError
from .domain import IMAGES, Disk, Guest, domain_xml
from .guestkit import CMDLINE, MIB, UEFI_DATA_START, data_disk, system_disk
from .machine import in_machine, run_in, running
from .shell import run, until

__all__ = ["agent", "boot_raw", "counters", "create", "execute", "listing", "locate", "remove", "stop", "virsh", "wait"]

SERIAL_LOG = "/var/log/libvirt/qemu/{name}-serial.log"
UP_MESSAGE = "is up after"


def virsh(lab: Lab, host: str, *words: str, stdin: str | None = None) -> str:
    """Run virsh on a machine and return what it printed."""
    return run_in(lab, host, ["virsh", "--quiet", *words], stdin=stdin).stdout.strip()


def state(lab: Lab, host: str, name: str) -> str | None:
    """Return libvirt's word for a guest's state, or None when the machine does not know it."""
    done = run_in(lab, host, ["virsh", "--quiet", "domstate", name], check=False)
    if done.returncode == 0:
        return done.stdout.strip()
    if "failed to get domain" in done.stderr:
        return None
    raise LabError(f"libvirt on machine {host} does not answer: {done.stderr.strip()}")


def locate(lab: Lab, name: str, wanted: str | None) -> str:
    """Return the machine to talk to about a guest: the one asked for, where it runs, or the only one that knows it."""
    if wanted:
        return wanted
    hosts = [host for host, machine in MACHINES.items() if machine.libvirt and running(lab, host)]
    states = {host: found for host in hosts if not cgroups.frozen(lab, host) and (found := state(lab, host, name))}
    active = [host for host, found in states.items() if found != "shut off"]
    candidates = active or list(states)
    if not candidates:
        raise LabError(f"no running machine knows a guest {name}")
    if len(candidates) > 1:
        raise LabError(f"guest {name} is on {' and '.join(candidates)}; say which with --on")
    return candidates[0]


def inside(lab: Lab, host: str, path: str) -> Path:
    """Return a path of a machine as the box sees it."""
    pid = cgroups.pid_one(lab, host)
    if pid is None:
        raise LabError(f"machine {host} is down")
    return Path(f"/proc/{pid}/root") / path.lstrip("/")


def create(lab: Lab, host: str, guest: Guest) -> None:
    """Make a guest's disks on a machine and define it there."""
    if not MACHINES[host].libvirt:
        raise LabError(f"machine {host} has no libvirt; guests live on a and b")
    if state(lab, host, guest.name) is not None:
        raise LabError(f"machine {host} has a guest {guest.name} already; `lab guest remove {guest.name}` removes it")
    for disk in guest.disks:
        make_disk(lab, host, guest, disk)
    virsh(lab, host, "define", "/dev/stdin", stdin=domain_xml(guest, CMDLINE))
    # libvirt syncs the definition but not its folder; a guest shall be there after a power cut, as one made long ago.
    run_in(lab, host, ["sync", "-f", "/etc/libvirt", IMAGES])


def make_disk(lab: Lab, host: str, guest: Guest, disk: Disk) -> None:
    """Make one disk of a guest."""
    target = inside(lab, host, disk.path(guest.name))
    size = disk.size_mib * MIB
    if disk.content == "blank":
        run(["qemu-img", "create", "-q", "-f", disk.format, target, str(size)])
        return
    template = data_disk(lab, size) if disk.content == "data" else system_disk(lab, guest.firmware, size)
    with tempfile.TemporaryDirectory(dir=lab.state) as scratch:
        raw = Path(scratch) / "disk.raw"
        run(["cp", "--sparse=always", "--reflink=auto", template, raw])
        if disk.content == "system":
            settings = Path(scratch) / "lab.conf"
            settings.write_text("".join(f"LAB_{key}={value}\n" for key, value in guest.settings.items()))
            start = UEFI_DATA_START if guest.firmware == "uefi" else 0
            run(["debugfs", "-w", "-R", f"write {settings} lab.conf", f"{raw}?offset={start}"])
        run(["qemu-img", "convert", "-f", "raw", "-O", disk.format, raw, target])


def agent(lab: Lab, host: str, name: str, command: str, **arguments: object) -> object:
    """Send one command to a guest's agent and return its answer."""
    request = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})
    return json.loads(virsh(lab, host, "qemu-agent-command", name, request))["return"]


def execute(lab: Lab, host: str, name: str, words: Sequence[str]) -> tuple[int, bytes, bytes]:
    """Run a command in a guest and return its exit code, output and error output."""
    arguments = {"path": words[0], "arg": list(words[1:]), "capture-output": True}
    started = agent(lab, host, name, "guest-exec", **arguments)
    while True:
        status = agent(lab, host, name, "guest-exec-status", pid=started["pid"])  # type: ignore[index]
        if status["exited"]:  # type: ignore[index]
            break
        time.sleep(0.05)
    fields: dict[str, object] = status  # type: ignore[assignment]
    out, err = (base64.b64decode(str(fields.get(key, ""))) for key in ("out-data", "err-data"))
    return int(str(fields.get("exitcode", 128 + int(str(fields.get("signal", 0)))))), out, err


def wait(lab: Lab, host: str, name: str, seconds: float) -> None:
    """Wait until a guest's agent answers, or for a guest without one until its console says it is up."""
    has_agent = "org.qemu.guest_agent.0" in virsh(lab, host, "dumpxml", name)
    log_file = SERIAL_LOG.format(name=name)
    ping = ["virsh", "--quiet", "qemu-agent-command", name, '{"execute":"guest-ping"}', "--timeout", "2"]
    look = ping if has_agent else ["grep", "--quiet", UP_MESSAGE, log_file]
    if not until(lambda: run_in(lab, host, look, check=False).returncode == 0, seconds=seconds, pause=0.3):
        tail = run_in(lab, host, ["tail", "-n", "3", log_file], check=False).stdout.strip() or "nothing"
        found = state(lab, host, name)
        raise LabError(f"guest {name} ({found}) is not up after {seconds:.0f} s; its console ends with: {tail}")


def stop(lab: Lab, host: str, name: str, seconds: float) -> None:
    """Ask a guest to shut down and wait until it has."""
    virsh(lab, host, "shutdown", name)
    if not until(lambda: state(lab, host, name) == "shut off", seconds=seconds, pause=0.1):
        remedy = f"`lab guest destroy {name}` pulls its plug"
        raise LabError(f"guest {name} did not shut down within {seconds:.0f} s; {remedy}")


def kill(lab: Lab, host: str, name: str) -> None:
    """Kill a guest's QEMU process."""
    script = f"kill -9 $(cat /run/libvirt/qemu/{shlex.quote(name)}.pid)"
    run_in(lab, host, ["sh", "-ec", script])
    if not until(lambda: state(lab, host, name) == "shut off", seconds=20):
        raise LabError(f"libvirt on {host} did not notice that the QEMU of {name} is gone")


def remove(lab: Lab, host: str, name: str) -> None:
    """Remove a guest with its definition and its disks."""
    if state(lab, host, name) != "shut off":
        virsh(lab, host, "destroy", name)
    options = ("--nvram", "--tpm", "--managed-save", "--snapshots-metadata", "--checkpoints-metadata")
    virsh(lab, host, "undefine", name, *options)
    for image in inside(lab, host, IMAGES).glob(f"{name}-vd[a-z].*"):
        image.unlink()


def listing(lab: Lab) -> list[str]:
    """Return one line about every guest of the running machines."""
    lines = []
    for host, machine in MACHINES.items():
        if machine.libvirt and running(lab, host) and not cgroups.frozen(lab, host):
            for name in virsh(lab, host, "list", "--all", "--name").split():
                guest = Guest.of_kind(name, "tiny")
                lines.append(f"{name}  on {host}  {state(lab, host, name)}  {guest.address}")
    return lines


def counters(lab: Lab, host: str | None, images: Sequence[str]) -> list[int]:
    """Return the writer's counter on raw disk images of the box or of a machine, without mounting them."""
    where = in_machine(lab, host) if host else []
    found = []
    for image in images:
        for start in (0, UEFI_DATA_START):
            done = run([*where, "debugfs", "-R", "cat /counter", f"{image}?offset={start}"], check=False)
            if done.stdout.strip().isdigit():
                found.append(int(done.stdout))
                break
        else:
            raise LabError(f"{image} holds no counter: {' '.join(done.stderr.split())}")
    return found


BOOT_SCRIPT = """
serial=$(mktemp) seconds=$1 message=$2
shift 2
"$@" -serial "file:$serial" < /dev/null > "$serial.qemu" 2>&1 &
qemu=$!
trap 'kill $qemu 2> /dev/null; wait $qemu 2> /dev/null; rm -f "$serial" "$serial".*' EXIT
end=$(($(date +%s) + seconds))
until grep -qs "$message" "$serial"; do
  if ! kill -0 $qemu 2> /dev/null || [ "$(date +%s)" -gt $end ]; then
    cat "$serial.qemu" "$serial"
    exit 1
  fi
  sleep 0.1
done
grep "$message" "$serial"
"""


def boot_raw(lab: Lab, host: str, images: Sequence[str], *, uefi: bool, seconds: int) -> str:
    """Boot raw images with a plain QEMU on a machine, leaving them unchanged, and return the guest's word."""
    words = ["qemu-system-x86_64", "-machine", "q35,accel=tcg", "-m", "256", "-display", "none", "-nic", "none"]
    for image in images:
        words += ["-drive", f"file={image},format=raw,if=virtio,snapshot=on"]
    if uefi:
        # A snapshot of the pristine variables: what the firmware learnt before must not be needed to boot.
        words += ["-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"]
        words += ["-drive", "if=pflash,format=raw,snapshot=on,file=/usr/share/OVMF/OVMF_VARS_4M.fd"]
    script = ["sh", "-c", BOOT_SCRIPT, "boot-raw", str(seconds), UP_MESSAGE, *words]
    done = run_in(lab, host, script, check=False)
    if done.returncode != 0:
        raise LabError(f"{images[0]} did not boot within {seconds} s: {' '.join(done.stdout.split()[-40:])}")
    return done.stdout.strip()
