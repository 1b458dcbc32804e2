# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an administrator would use otherwise: whole commands, started on C, which end with the copy on C's disk."""

from __future__ import annotations

from dataclasses import dataclass

from .machines import PEERS, Bench, Guest

__all__ = ["PeerCopy", "Peers"]

# QEMU makes the socket, as an account of its own.
_SOCKET = "/var/tmp/bench.sock"
_SCRATCH = "/var/lib/libvirt/images/bench.scratch"
_BACKUP = f"""\
<domainbackup mode='pull'><server transport='unix' socket='{_SOCKET}'/><disks>
<disk name='vda' backup='yes' type='file'><driver type='qcow2'/><scratch file='{_SCRATCH}'/></disk>
</disks></domainbackup>"""
# A pull-mode backup on A, its socket brought to C, one program that copies from it, and all of it ended again.
_THROUGH_NBD = """\
control={peers}/control local={peers}/nbd.sock
rm -f "$local"
ssh -f -N -M -S "$control" -L "$local:{socket}" a
trap 'ssh -q -S "$control" -O exit a' EXIT
ssh -S "$control" a "rm -f {scratch} {socket}; virsh -q backup-begin {vm} /dev/stdin" <<< "{backup}"
began=$EPOCHREALTIME
{copy}
ended=$EPOCHREALTIME
ssh -S "$control" a "virsh -q domjobabort {vm}; rm -f {scratch}"
echo "$began $ended"
"""
_COPIES = {
    "nbdcopy": 'nbdcopy --flush "nbd+unix:///vda?socket=$local" {out}',
    "qemu-img": 'qemu-img convert -f raw -O raw -t writeback "nbd+unix:///vda?socket=$local" {out}; sync {out}',
}


@dataclass(frozen=True)
class PeerCopy:
    """A peer's copy: where it lies on C and what its whole command took.

    ``copy_seconds`` is its copying program alone, where something has to begin before and end after it.
    """

    path: str
    seconds: float
    copy_seconds: float | None = None

    @property
    def figures(self) -> dict[str, float]:
        copying = {} if self.copy_seconds is None else {"copy_seconds": self.copy_seconds}
        return {"seconds": self.seconds, **copying}


class Peers:
    """The peers, copying one guest's disk."""

    def __init__(self, bench: Bench, guest: Guest) -> None:
        self._c = bench.c
        self._guest = guest

    def _out(self, name: str) -> str:
        return f"{PEERS}/{self._guest.name}-{name}"

    def through_nbd(self, program: str) -> PeerCopy:
        """A whole copy by nbdcopy or qemu-img from a backup job of the running guest."""
        out = self._out(f"{program}.raw")
        self._c.sh(f"rm -f {out}")
        copy = _COPIES[program].format(out=out)
        words = {"peers": PEERS, "socket": _SOCKET, "scratch": _SCRATCH, "backup": _BACKUP, "vm": self._guest.name}
        done = self._c.sh(_THROUGH_NBD.format(copy=copy, **words))
        began, ended = (float(word) for word in done.out.split()[-2:])
        return PeerCopy(out, done.seconds, ended - began)

    def rsync(self, anew: bool = False) -> PeerCopy:
        """The disk's file as it lies on A; the guest must be quiet, which flatters rsync."""
        out = self._out("rsync.qcow2")
        if anew:
            self._c.sh(f"rm -f {out}")
        # -I: never taken as equal by its time stamp.
        words = ["rsync", "--inplace", "--fsync", "-I", f"a:{self._guest.disk}", out]
        return PeerCopy(out, self._c.run(words).seconds)

    def rsync_to_standby(self, image: str) -> PeerCopy:
        """An image on C to B, into the copy that the last one left."""
        out = self._out("rsync.raw")
        words = ["rsync", "--inplace", "--sparse", "--fsync", "-I", image, f"b:{out}"]
        return PeerCopy(out, self._c.run(words).seconds)

    def ssh_stream(self) -> PeerCopy:
        """The limit of one ssh connection: the file's bytes, unchecked."""
        out = self._out("stream.qcow2")
        self._c.sh(f"rm -f {out}")
        done = self._c.sh(f"ssh a cat {self._guest.disk} | dd of={out} bs=1M conv=fsync status=none")
        return PeerCopy(out, done.seconds)

    def reflink(self) -> PeerCopy:
        """The limit of a copy on C itself, of what rsync left there: nothing is read or sent."""
        out = self._out("reflink.qcow2")
        self._c.sh(f"rm -f {out}")
        done = self._c.sh(f"cp --reflink=always {self._out('rsync.qcow2')} {out}; sync {out}")
        return PeerCopy(out, done.seconds)

    # virtnbdbackup

    @property
    def _folder(self) -> str:
        return self._out("virtnbdbackup")

    def virtnbdbackup(self, level: str) -> PeerCopy:
        """``full`` into a new folder, or ``inc`` into the one that is there."""
        if level == "full":
            self._c.sh(f"rm -rf {self._folder}")
        words = ["virtnbdbackup", "-U", "qemu+ssh://root@a/system", "-I", "a", "-d", self._guest.name]
        begun = self._c.run([*words, "-l", level, "-o", self._folder])
        synced = self._c.sh(f"sync {self._folder}/*")
        return PeerCopy(self._folder, synced.ended - begun.began)

    def restored(self) -> str:
        """A disk made of what virtnbdbackup kept, to be compared."""
        out = self._out("restored")
        # It insists on a libvirt, which C has none of; the test driver is one without machines.
        restore = f"virtnbdrestore -U test:///default -a restore -i {self._folder} -o {out}"
        # It leaves before the server it writes through has written all.
        settle = "while pgrep -x qemu-nbd > /dev/null; do sleep 0.1; done"
        self._c.sh(f"rm -rf {out}; mkdir {out}; {restore}; {settle}")
        return f"{out}/{self._guest.name}-vda.qcow2"
