# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where everything lies: names of folders, files, accounts and units, the same on all machines."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from ._errors import ResilientVmError

__all__ = ["DEFAULT_ROOT", "DEFAULT_RUNTIME", "Layout", "account_name"]

DEFAULT_ROOT = "/var/lib/resilient-vm"
DEFAULT_RUNTIME = "/run/resilient-vm"

_CUSTOMER = re.compile(r"[a-z0-9][a-z0-9-]*")
# What libvirt, systemd unit names and file systems all take as it stands.
_VM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Linux user names end at 32 characters; "rvm-" takes four of them.
_CUSTOMER_LENGTH = 28


def account_name(customer: str) -> str:
    """The unprivileged data-plane account of a customer, on every machine."""
    return "rvm-" + customer


@dataclass(frozen=True)
class Layout:
    """All paths of one VM on one machine. Raises ResilientVmError for a name that cannot be a folder."""

    customer: str
    vm: str
    root: str = DEFAULT_ROOT
    runtime: str = DEFAULT_RUNTIME

    def __post_init__(self) -> None:
        if not _CUSTOMER.fullmatch(self.customer) or len(self.customer) > _CUSTOMER_LENGTH:
            raise ResilientVmError(
                f"customer {self.customer!r} is not a name of 1 to {_CUSTOMER_LENGTH} characters "
                "out of a-z, 0-9 and -; set resilient_vm_customer"
            )
        if not _VM.fullmatch(self.vm) or len(self.vm) > 100:
            raise ResilientVmError(
                f"VM name {self.vm!r} is not made of letters, digits, dot, - and _; rename the inventory host"
            )
        if not os.path.isabs(self.root):
            raise ResilientVmError(f"root {self.root!r} is not an absolute path; set resilient_vm_root")

    @property
    def name(self) -> str:
        """``customer/vm``, how messages and forced commands name a VM."""
        return f"{self.customer}/{self.vm}"

    @property
    def account(self) -> str:
        return account_name(self.customer)

    def _in(self, *parts: str) -> str:
        return os.path.join(self.root, self.customer, self.vm, *parts)

    @property
    def home(self) -> str:
        """The account's home; holds ``.ssh``."""
        return os.path.join(self.root, self.customer)

    @property
    def directory(self) -> str:
        return self._in()

    # backup storage
    @property
    def images(self) -> str:
        return self._in("images")

    def image(self, image_id: str) -> str:
        return self._in("images", image_id)

    @property
    def pins(self) -> str:
        return self._in("pins")

    @property
    def transfer(self) -> str:
        """Specification, progress and result of the transfer units of this VM."""
        return self._in("transfer")

    @property
    def key(self) -> str:
        """Private key on the backup storage with which this VM's data plane logs in at A and B."""
        return os.path.join(self.home, ".ssh", self.vm)

    @property
    def known_hosts(self) -> str:
        return os.path.join(self.home, ".ssh", "known_hosts")

    # active and standby host
    @property
    def generations(self) -> str:
        return self._in("generations")

    @property
    def restores(self) -> str:
        """Images on their way to a restore on this host; each goes when it has been laid."""
        return self._in("restores")

    @property
    def restored(self) -> str:
        """Machines restored beside the VM on this host, a folder for each."""
        return self._in("restored")

    @property
    def loan(self) -> str:
        """On a host: what the backup storage lends it of an image, for a machine that runs already."""
        return self._in("loan.json")

    @property
    def loan_lock(self) -> str:
        """On a host: held by whoever makes such a machine."""
        return self._in("loan.lock")

    @property
    def drill(self) -> str:
        """On the host that stands by: disks of the twin that a drill boots, while it does."""
        return self._in("drill")

    @property
    def drills(self) -> str:
        """What came of drills: a folder of evidence for each image on a host, a record on the backup storage."""
        return self._in("drills")

    @property
    def current(self) -> str:
        return self._in("current")

    @property
    def running(self) -> str:
        return self._in("running")

    def before(self, epoch: int) -> str:
        """On a host that the VM left at this epoch: what belongs to the disks that it had there before."""
        return self._in(f"before-e{epoch}")

    @property
    def scratch(self) -> str:
        return self._in("scratch")

    # all machines
    @property
    def incoming(self) -> str:
        return self._in("incoming")

    @property
    def verification(self) -> str:
        """How far the verification of what this machine keeps of the VM is."""
        return self._in("verify")

    @property
    def lock(self) -> str:
        return self._in("lock")

    @property
    def state(self) -> str:
        return self._in("state.json")

    @property
    def plan(self) -> str:
        """Root's: what the inventory says of the VM, for a takeover when there is no control node to read it."""
        return self._in("plan.json")

    @property
    def journal(self) -> str:
        return self._in("journal.jsonl")

    @property
    def asked(self) -> str:
        """Touched whenever the host that takes itself for the active one asks this machine whether it still is."""
        return self._in("asked")

    @property
    def intent(self) -> str:
        """On a standby host that is about to take over: from then on it confirms nothing to the other host."""
        return self._in("intent.json")

    @property
    def nonce(self) -> str:
        """On the backup storage: what the next confirmation of a takeover must end in."""
        return self._in("nonce.json")

    # lost at a reboot, on purpose: an open snapshot does not survive one either
    def _at(self, *parts: str) -> str:
        return os.path.join(self.runtime, self.customer, self.vm, *parts)

    @property
    def shared(self) -> str:
        """What the transfers of all customers on this machine share: slots, and the machine's rate."""
        return os.path.join(self.runtime, "shared")

    @property
    def claims(self) -> str:
        """On the backup storage: where a forced command hands root what a host asks for about a takeover."""
        return os.path.join(self.runtime, "claim.sock")

    @property
    def run(self) -> str:
        return self._at()

    @property
    def socket(self) -> str:
        """A folder of its own: QEMU must be able to write it, and may write nothing else that root reads."""
        return self._at("qemu", "nbd.sock")

    @property
    def snapshot(self) -> str:
        return self._at("snapshot.json")

    @property
    def definition(self) -> str:
        """Folder with the machine definition captured with the open snapshot."""
        return self._at("definition")

    @property
    def heartbeat(self) -> str:
        return self._at("reader", "heartbeat")

    @property
    def watch(self) -> str:
        return self._at("watch.json")

    def unit(self, purpose: str) -> str:
        """Name of a transient systemd unit of this VM, without its suffix.

        A VM's name may hold a dot or a dash, which systemd takes; a customer's never holds a dot,
        so two VMs can't get the same unit.
        """
        return f"resilient-vm-{purpose}-{self.customer}.{self.vm}"
