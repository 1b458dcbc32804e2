# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Single files out of an image: what there is, and a folder that holds some of it.

The image's file systems are a guest's, and may be made to do harm. They are read by _appliance, which runs in a unit
that can read this customer's images, write nothing and reach nobody.
"""

from __future__ import annotations

import contextlib
import grp
import itertools
import json
import os
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO

from ._appliance import GO
from ._errors import ResilientVmError
from ._files import read_json, write_atomic
from ._layout import Layout
from ._restore_store import pinned
from ._restored_files import RECORD, appearing, check_free, check_path, write_record
from ._store import Store, StoredImage
from ._units import MOVER
from ._unpack import plain, tree_digest, unpack

__all__ = ["Talk", "Wish", "examine", "look", "readable_kernel", "take", "talk"]

_MAX_ANSWER = 16 << 20
# Nobody waits longer for a directory, and a small machine that hangs must not stay for good.
_LONGEST_SECONDS = 86400


@dataclass(frozen=True)
class Wish:
    """What image_files was asked for. ``device`` empty: what the guest's own system mounts."""

    image_id: str
    device: str = ""
    take: Sequence[str] = field(default_factory=list)
    path: str = ""
    list: Sequence[str] = field(default_factory=list)
    limit: int = 500
    reserve_bytes: int = 0

    def __post_init__(self) -> None:
        for path in (*self.take, *self.list):
            if not path.startswith("/") or os.path.normpath(path) != path or "\0" in path:
                raise ResilientVmError(
                    f"{path!r} is not the plain absolute path of a file or directory in the guest; name one like "
                    "/etc/fstab"
                )
        for one, other in itertools.permutations(self.take, 2):
            if os.path.commonpath([one, other]) == one:
                raise ResilientVmError(f"{other} lies in {one}, which is asked for too; leave one of them out")


class Talk:
    """A conversation with the appliance: a question, its answer, and perhaps an archive."""

    def __init__(self, argv: Sequence[str], said: BinaryIO) -> None:
        self._said = said
        # It is read while it runs, and its archive may have any size.
        self._process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said
        )

    def _pipes(self) -> tuple[Any, Any]:
        return self._process.stdin, self._process.stdout

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        writer, reader = self._pipes()
        with contextlib.suppress(BrokenPipeError):
            writer.write(json.dumps(dict(request)).encode() + b"\n")
            writer.flush()
        line = reader.readline(_MAX_ANSWER)
        try:
            answer = json.loads(line)
        except ValueError:
            self.end()
            raise ResilientVmError("the appliance gave no answer; run again") from None
        if "error" in answer:
            raise ResilientVmError(plain(str(answer["error"])))
        return dict(answer)

    def archive(self) -> BinaryIO:
        """What was asked for; it ends at the archive's end."""
        writer, reader = self._pipes()
        writer.write(GO)
        writer.flush()
        stream: BinaryIO = reader
        return stream

    def end(self) -> None:
        """Wait for its end. Raises ResilientVmError with its own words when it failed."""
        writer, reader = self._pipes()
        with contextlib.suppress(BrokenPipeError):
            writer.close()
        while reader.read(1 << 20):
            pass
        if self._process.wait() != 0:
            self._said.seek(0)
            words = self._said.read().decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
            raise ResilientVmError(f"the appliance failed: {words[-1].removeprefix('resilient-vm: ')}")

    def close(self) -> None:
        """Let go of it, whatever it is doing: it ends when nobody listens."""
        for pipe in self._pipes():
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._process.wait()


def readable_kernel(kernel: str, copy: str) -> list[str]:
    """What the appliance's builder has to be told where nobody but root may read the kernel, as on Ubuntu: a copy."""
    if not os.path.exists(kernel) or os.stat(kernel).st_mode & stat.S_IROTH:
        return []
    release = os.path.basename(kernel).partition("-")[2]
    with open(kernel, "rb") as stream:
        write_atomic(copy, stream.read(), 0o644)
    return [
        f"SUPERMIN_KERNEL={copy}",
        f"SUPERMIN_KERNEL_VERSION={release}",
        f"SUPERMIN_MODULES=/lib/modules/{release}",
    ]


def _unit(layout: Layout) -> list[str]:
    """The words that start the appliance's program, as the account, where it can do nothing but read the images."""
    kernel = readable_kernel(f"/boot/vmlinuz-{os.uname().release}", os.path.join(layout.runtime, "kernel"))
    groups = [entry.gr_name for entry in grp.getgrall() if entry.gr_name == "kvm"]
    properties = [
        f"User={layout.account}",
        *(f"SupplementaryGroups={name}" for name in groups),
        "NoNewPrivileges=yes",
        "PrivateNetwork=yes",
        "ProtectSystem=strict",
        # The library keeps its appliance in the second.
        "ReadWritePaths=/tmp /var/tmp",
        f"InaccessiblePaths=-{layout.home}/.ssh",
        f"RuntimeMaxSec={_LONGEST_SECONDS}",
        *(f"Environment={setting}" for setting in kernel),
    ]
    words = ["systemd-run", "--quiet", "--collect", "--pipe", "--wait", "--service-type=exec"]
    words.append(f"--unit={layout.unit(f'files-{os.getpid()}')}.service")
    return [*words, *(word for item in properties for word in ("-p", item)), MOVER, "files"]


@contextlib.contextmanager
def talk(layout: Layout) -> Iterator[Talk]:
    """The appliance, until the block ends."""
    with tempfile.TemporaryFile() as said, contextlib.closing(Talk(_unit(layout), said)) as conversation:
        yield conversation


def _request(image: StoredImage, wish: Wish) -> dict[str, Any]:
    disks = image.manifest.disks if image.manifest is not None else []
    return {
        "disks": [{"target": disk.target, "path": image.file(disk.file)} for disk in disks],
        "device": wish.device,
        "list": list(wish.list),
        "limit": wish.limit,
        "take": list(wish.take),
    }


def look(layout: Layout, wish: Wish) -> dict[str, Any]:
    """What file systems there are, what lies in a directory, how much would be taken."""
    with pinned(Store(layout), wish.image_id) as image, talk(layout) as conversation:
        answer = conversation.ask(_request(image, wish))
        conversation.end()
    return answer


def examine(layout: Layout, wish: Wish) -> dict[str, Any] | None:
    """What the folder says when it is there already, as wished; refuses anything else that is in the way."""
    check_path(layout, wish.path, wish.image_id)
    if not os.path.lexists(wish.path):
        return None
    record = read_json(os.path.join(wish.path, RECORD)) if os.path.isdir(wish.path) else None
    if not isinstance(record, dict) or "tree_digest" not in record:
        raise ResilientVmError(f"{wish.path} is there already; move it away, or name another path")
    wanted = {
        "customer": layout.customer,
        "vm": layout.vm,
        "image": wish.image_id,
        "device": wish.device,
        "files": list(wish.take),
    }
    for name, value in wanted.items():
        if record.get(name) != value:
            raise ResilientVmError(
                f"{wish.path} holds other files: its {name} is {record.get(name)!r}; move it away, or name another path"
            )
    if tree_digest(wish.path) != record["tree_digest"]:
        raise ResilientVmError(
            f"{wish.path} is no longer what was taken out of image {wish.image_id}; move it away, or name another path"
        )
    return dict(record)


def take(layout: Layout, wish: Wish, dry: bool) -> dict[str, Any]:
    """Lay what is wished into a new folder; with ``dry`` only say how much that is."""
    parent = os.path.dirname(wish.path)
    with pinned(Store(layout), wish.image_id) as image, talk(layout) as conversation:
        answer = conversation.ask(_request(image, wish))
        check_free(parent, sum(entry["bytes"] for entry in answer["found"]), wish.image_id, wish.reserve_bytes)
        if dry:
            return answer
        try:
            with appearing(wish.path) as work:
                laid = _laid(conversation, work)
                told = {
                    "laid": asdict(laid),
                    "mounted": answer["mounted"],
                    "device": wish.device,
                    "files": list(wish.take),
                }
                write_record(work, layout, wish.image_id, {**told, "tree_digest": tree_digest(work)})
        except OSError as error:
            raise ResilientVmError(
                f"{error.strerror} while files were laid beside {wish.path}; nothing is left of them: mend that, and "
                "run again"
            ) from error
    return {**answer, "laid": asdict(laid)}


def _laid(conversation: Talk, work: str) -> Any:
    try:
        laid = unpack(conversation.archive(), work)
    except (tarfile.TarError, ValueError, OverflowError) as error:
        conversation.end()
        raise ResilientVmError(f"the appliance's archive broke off ({error}); run again") from error
    conversation.end()
    return laid
