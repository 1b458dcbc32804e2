# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power a host off through a fence agent, and believe nothing but its status.

The agent is any program with the standard interface: its options come as ``name=value`` lines on its standard input,
``action`` among them; it exits with 0, and ``status`` with 2 when the host is off. It is never told to reboot.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Callable

from ._errors import ResilientVmError
from ._process import Completed

__all__ = ["FAILED", "OFF", "ON", "Agent", "Outcome", "verdict"]

# What is known of the host's power: it is off, it is on, or the agent could not say.
OFF, ON, FAILED = "off", "on", "failed"
_STATUS = {0: ON, 2: OFF}
_OURS = ("action", "option")
_SECRET = ("password", "passwd", "snmp_priv_passwd")
_PAUSE_SECONDS = 1.0
# Beside root's own, where distributions keep the agents.
_PLACES = "/usr/sbin:/sbin:/usr/local/sbin"


@dataclass(frozen=True)
class Outcome:
    """``told`` is the end of a sentence that begins with who asked."""

    power: str
    told: str
    ordered: bool = False


class Agent:
    """One fence agent with its options; ``seconds`` is the patience with all that is asked of it in one go."""

    def __init__(
        self,
        name: str,
        options: Mapping[str, str],
        secrets: Mapping[str, str],
        seconds: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Raises ResilientVmError for an option that is not the owner's to set, or would end its line."""
        for option in options:
            if option in _SECRET:
                raise ResilientVmError(
                    f"resilient_vm_fence_options has {option}, which would be shown in logs; move it to "
                    "resilient_vm_fence_secrets"
                )
        given = {**options, **secrets}
        for option, value in given.items():
            if option in _OURS or "\n" in option + value or "=" in option:
                raise ResilientVmError(
                    f"resilient_vm_fence_options may not hold {option!r}, which is set here or is no option of one "
                    "line; take it out"
                )
        self.name = name
        self._given = given
        self._seconds = seconds
        self._sleep = sleep

    def ask(self) -> Outcome:
        """Whether the host is off. Changes nothing."""
        power, why = self._status(time.monotonic() + self._seconds)
        return Outcome(power, f"{self.name} {why}" if power == FAILED else f"{self.name} says that it is {power}")

    def power_off(self) -> Outcome:
        """Order it off, unless it is, and wait until the status says so.

        An agent that cannot tell the status is ordered nothing: it could prove nothing afterwards.
        """
        begun = time.monotonic()
        deadline = begun + self._seconds
        power, why = self._status(deadline)
        if power == FAILED:
            return Outcome(FAILED, f"{self.name} {why}")
        if power == OFF:
            return Outcome(OFF, f"{self.name} says that it was off already")
        done = self._call("off", deadline)
        if done is None:
            return Outcome(FAILED, f"{self.name} did not power it off {self._patience}, and was stopped", True)
        while True:
            power, why = self._status(deadline)
            spent = time.monotonic() - begun
            if power == OFF:
                return Outcome(OFF, f"{self.name} powered it off in {spent:.1f} s", True)
            if done.code != 0 or time.monotonic() + _PAUSE_SECONDS >= deadline:
                break
            self._sleep(_PAUSE_SECONDS)
        refused = f"; its order to power off {_reason(done)}" if done.code != 0 else ""
        if power == ON:
            return Outcome(ON, f"{self.name} says after {spent:.0f} s that it is still on{refused}", True)
        return Outcome(FAILED, f"{self.name} {why}{refused}", True)

    @property
    def _patience(self) -> str:
        return f"within {self._seconds:g} seconds"

    def _status(self, deadline: float) -> tuple[str, str]:
        """(power, what went wrong)."""
        done = self._call("status", deadline)
        if done is None:
            return FAILED, f"did not tell its status {self._patience}, and was stopped"
        return _STATUS.get(done.code, FAILED), _reason(done)

    def _call(self, action: str, deadline: float) -> Completed | None:
        """What it left behind, or None when it did not end in time; then it and all that it began are killed."""
        program = shutil.which(self.name, path=f"{os.environ.get('PATH', '')}:{_PLACES}")
        if program is None:
            raise ResilientVmError(
                f"fence agent {self.name} is not on this machine; install it there (the package fence-agents), or "
                "correct resilient_vm_fence_agent"
            )
        lines = "".join(f"{option}={value}\n" for option, value in {"action": action, **self._given}.items())
        # Files, not pipes: a child of the agent that lives on must not keep us waiting for its end of them.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            # Neither the module's own run_command nor _process kills what an agent has begun.
            process = subprocess.Popen(  # pylint: disable=consider-using-with
                [program],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                start_new_session=True,
                env={**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": "C"},
            )
            try:
                process.communicate(lines.encode(), max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                return None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            out.seek(0)
            err.seek(0)
            return Completed(
                process.returncode, out.read().decode(errors="replace"), err.read().decode(errors="replace")
            )


def _reason(done: Completed) -> str:
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return f"ended with exit code {done.code} ({said[-1].strip() if said else 'no message'})"


def verdict(results: Iterable[tuple[str, Mapping[str, Any]]]) -> tuple[str, str]:
    """(power, what was told) of those that were asked in turn, (machine, result of M(host_fence)).

    One that says off is believed: somebody looks again. Otherwise one that says on is.
    """
    powers, told = [], []
    for machine, result in results:
        if result and not result.get("skipped"):
            powers.append(result.get("power") or FAILED)
            told.append(f"{machine}: {result.get('told') or result.get('msg') or 'no answer'}")
    if not powers:
        return "unknown", ""
    power = OFF if OFF in powers else ON if ON in powers else FAILED
    return power, "; ".join(told)
