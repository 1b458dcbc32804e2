# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mover: the one program of the collection that runs on the machines by itself.

Its commands: ``forced`` (what keys may start), ``fetch``, ``refresh``, ``restore`` and ``mend`` (transfers, in their
units on the backup storage), ``begin``, ``thaw`` and ``watch`` (an open snapshot's units on the active host), ``gate``
(after a boot of a host), ``age`` (the watchdog), ``undrill`` (when a drill ends), ``takeover`` and ``instant`` (for
people, on a host), ``claimed`` (what the backup storage answers them), ``lend`` and ``stream`` (an image that is lent
to a machine that runs already, at both ends), ``files`` (the appliance that reads an image's file systems),
``version``.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, Callable

from ._errors import ResilientVmError, sentence
from ._files import read_json
from ._hops import HOPS
from ._layout import Layout
from ._process import run

__all__ = ["installed_version", "main"]

# Of the names of VMs that are asked about at once.
_NAMES_BYTES = 1 << 20
# After these one word more may follow: the door of a copy that runs, or which disk is lent.
_DATA = ("send", "receive", "restore", "mend", "lend")


def installed_version() -> str:
    """``<collection version>+<first 12 hex digits of the sources' digest>`` of this installed mover."""
    document = _installed()
    return f"{document['collection']}+{document['sources'][:12]}"


def _installed() -> dict[str, Any]:
    """What the site playbook wrote beside this program: its version, this machine's name, where everything lies."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "version.json")
    document = read_json(path)
    if document is None:
        raise ResilientVmError(f"{path} is missing: this mover was not installed by the site playbook; run it")
    return dict(document)


def _paths() -> dict[str, str]:
    document = _installed()
    return {"root": document["root"], "runtime": document["runtime"]}


def _layout(name: str) -> Layout:
    customer, _slash, vm = name.partition("/")
    return Layout(customer, vm, **_paths())


def _forced(name: str, verbs: str, holder: str = "") -> int:
    """Serve the one verb a key's owner asked for, if the key's entry allows it; ``holder`` is the owner."""
    asked, _space, door = os.environ.get("SSH_ORIGINAL_COMMAND", "").partition(" ")
    allowed = verbs.split(",")
    if asked == "epochs" and "epoch" in allowed and holder and not door:
        return _tell_epochs(name.partition("/")[0], holder)
    if asked not in allowed or (door and asked not in _DATA):
        raise ResilientVmError(f"this key may only ask for {' or '.join(allowed)} of {name}")
    layout = _layout(name)
    if asked == "epoch":
        return _tell_epoch(layout)
    if asked == "claim":
        return _relay_claim(layout, holder)
    if asked == "lend":
        return _borrow(layout, door)
    from ._serve import serve

    return serve(layout, asked, door, _installed(), installed_version())


# What only some commands need is imported by them: reading it takes longer than what most of them do.


def _tell_epoch(layout: Layout) -> int:
    from ._change import told

    sys.stdout.write(f"{told(layout)}\n")
    return 0


def _tell_epochs(customer: str, holder: str) -> int:
    from ._telling import lines

    names = sys.stdin.read(_NAMES_BYTES).split()
    for line in lines(names, holder, lambda vm: _layout(f"{customer}/{vm}")):
        sys.stdout.write(f"{line}\n")
    return 0


def _relay_claim(layout: Layout, holder: str) -> int:
    from ._relay import relay

    return relay(layout, holder)


def _borrow(layout: Layout, channel: str) -> int:
    from ._borrow import borrow

    return borrow(layout, channel)


def _begin(name: str) -> int:
    from ._snapshot import begin

    return begin(_layout(name), run)


def _thaw(name: str) -> int:
    from ._snapshot import thaw

    return thaw(_layout(name), run)


def _watch(name: str) -> int:
    from ._watch import watch

    return watch(_layout(name), run)


def _age(*arguments: str) -> int:
    from ._age import main as tell

    return tell(list(arguments), **_paths())


def _gate() -> int:
    from ._clock import now
    from ._gate import Gate, boot

    return boot(Gate(run, lambda: now(None)))


def _superseded() -> int:
    from ._clock import now
    from ._gate import Gate
    from ._superseded import stop

    return stop(Gate(run, lambda: now(None)))


def _claimed() -> int:
    from ._claimed import serve

    return serve(_layout, _told_version(), run)


def _takeover(*arguments: str) -> int:
    from ._alone import main as take_over

    return take_over(list(arguments), _layout, _installed()["host"], _told_version())


def _instant(*arguments: str) -> int:
    from ._instant import main as run_at_once

    return run_at_once(list(arguments), _layout, _installed()["host"])


def _undrill(name: str) -> int:
    from ._drill import released

    released(_layout(name), run)
    return 0


def _lend(name: str) -> int:
    from ._lend import lend

    return lend(_layout(name))


def _stream(name: str) -> int:
    from ._pull import stream

    return stream(_layout(name), run)


def _files() -> int:
    from ._appliance import serve

    # What the library or a program of it prints must not get into the conversation.
    with os.fdopen(os.dup(1), "wb") as writer:
        os.dup2(2, 1)
        return serve(sys.stdin.buffer, writer)


def _transfer(hop: str) -> Callable[[str], int]:
    def move(name: str) -> int:
        from ._hop import transfer

        return transfer(_layout(name), hop, installed_version())

    return move


def _told_version() -> str:
    from ._wire import PROTOCOL

    return f"{installed_version()} protocol {PROTOCOL}"


def _version() -> int:
    sys.stdout.write(f"{_told_version()}\n")
    return 0


_COMMANDS: dict[str, Callable[..., int]] = {
    "forced": _forced,
    "begin": _begin,
    "thaw": _thaw,
    "watch": _watch,
    "age": _age,
    "gate": _gate,
    "superseded": _superseded,
    "takeover": _takeover,
    "instant": _instant,
    "claimed": _claimed,
    "lend": _lend,
    "stream": _stream,
    "undrill": _undrill,
    "files": _files,
    "version": _version,
    **{hop: _transfer(hop) for hop in HOPS},
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; what is wrong goes to stderr as one sentence, and the exit code is 1."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] not in _COMMANDS:
        sys.stderr.write(f"usage: resilient-vm {'|'.join(sorted(_COMMANDS))} [CUSTOMER/VM …]\n")
        return 2
    os.umask(0o027)
    try:
        return _COMMANDS[words[0]](*words[1:])
    except (ResilientVmError, OSError) as error:
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.write(f"resilient-vm: {sentence(error)}\n")
        return 1
