# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about an image that is lent: it stays, it is given away as it is, and one machine has it at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from unit.engine_fakes import IDS, Disk, Snapshot, blocks, make_layout, transfer
from unit.lend_fakes import systemd
from unit.libvirt_fakes import refused

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _lend
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._digests import BLOCK_SIZE
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._files import read_json
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._store import Store

CONTENT = blocks(20) + b"and a short one" * 64


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = make_layout(tmp_path)
    Path(layout.transfer).mkdir()
    transfer(Snapshot(IDS[0], [Disk("vda", CONTENT)], None), Store(layout))
    return layout


def read(layout: Layout, offset: int, length: int) -> bytes:
    store = Store(layout)
    with _lend.CheckedDisk.of(store, store.read(IDS[0]), "vda") as disk:
        assert disk.size_bytes == len(CONTENT)
        return b"".join(map(bytes, disk.pieces(offset, length)))


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, len(CONTENT)), (1, 1), (BLOCK_SIZE - 1, 2), (3 * BLOCK_SIZE + 7, 5 * BLOCK_SIZE), (len(CONTENT) - 5, 5)],
)
def test_what_is_given_away_is_the_image(layout: Layout, offset: int, length: int) -> None:
    assert read(layout, offset, length) == CONTENT[offset : offset + length]


def test_a_block_that_is_not_as_its_digest_says_is_marked_and_kept(layout: Layout) -> None:
    raw = Path(Store(layout).read(IDS[0]).file("vda.raw"))
    data = bytearray(raw.read_bytes())
    data[5 * BLOCK_SIZE + 9] ^= 1
    raw.write_bytes(data)
    assert read(layout, 0, 5 * BLOCK_SIZE) == CONTENT[: 5 * BLOCK_SIZE]
    for offset in (5 * BLOCK_SIZE, 6 * BLOCK_SIZE - 1, 0):
        with pytest.raises(OSError, match="not what its digest says"):
            read(layout, offset, 6 * BLOCK_SIZE - offset)
    (mark,) = Store(layout).read(IDS[0]).damaged
    assert (mark["disk"], mark["offset_bytes"], mark["found_by"]) == ("vda", 5 * BLOCK_SIZE, "restore")


def wish(name: str = "tuesday", **members: Any) -> _lend.Wish:
    return _lend.Wish(IDS[0], name, {"name": "b", "address": "192.0.2.2", "port": 22, **members})


def test_it_is_pinned_while_it_is_lent_and_to_nobody_else(layout: Layout) -> None:
    run = systemd()
    assert not _lend.examine(layout, wish(), run) and not _lend.lent(layout, wish())
    _lend.give(layout, wish(), run)
    assert _lend.examine(layout, wish(), run)
    assert Store(layout).read(IDS[0]).pinned_by == ["lent to tuesday on b until its data is there"]
    started = next(call for call in run.calls if call.startswith("systemd-run"))
    assert "Restart=on-failure" in started and started.endswith("lend acme/erp")
    for other in (wish("friday"), wish(name="tuesday", address="192.0.2.1")):
        if other.name == "friday":
            with pytest.raises(ResilientVmError, match="a VM has one restore at once at a time"):
                _lend.examine(layout, other, run)
    # The pin outlives the unit, which can be started again.
    run(["systemctl", "stop", f"{layout.unit('lend')}.service"])
    assert not _lend.examine(layout, wish(), run) and _lend.lent(layout, wish())
    _lend.give(layout, wish(), run)
    _lend.take_back(layout, wish(), run)
    assert not _lend.lent(layout, wish()) and not Store(layout).read(IDS[0]).pinned_by
    assert not _lend.waiting(layout, run)


class Host:
    """The other end of each ssh: says one word, and what its channel was told to do with the rest."""

    def __init__(self, words: list[bytes]) -> None:
        self.words = words
        self.asked: list[str] = []

    def __call__(self, command: list[str]) -> Any:
        import os

        self.asked.append(command[-1])
        reader, told = os.pipe()
        heard, writer = os.pipe()
        # The last one is what it goes on saying.
        os.write(told, self.words.pop(0) if len(self.words) > 1 else self.words[0])
        os.close(told)
        os.close(heard)

        class Ended:
            def last_words(self) -> str:
                return "nothing here"

            def close(self) -> None:
                """It has ended."""

        ended = Ended()
        ended.reader, ended.writer = reader, writer  # type: ignore[attr-defined]
        return ended


def test_it_asks_again_until_the_host_says_that_it_is_over(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    _lend.give(layout, wish(), systemd())
    # The threads of both channels ask; whoever comes first is told that nothing is prepared.
    host = Host([b"", b"", b"ready\n", b"ready\n", b"over\n", b"over\n"])
    monkeypatch.setattr(_lend, "Ssh", host)
    pauses: list[float] = []
    assert _lend.lend(layout, sleep=pauses.append) == 0
    assert set(host.asked) == {f"lend definition {IDS[0]}", f"lend vda {IDS[0]}"} and len(host.asked) >= 6
    assert len(pauses) >= 4
    assert not _lend.lent(layout, wish())
    progress = read_json(f"{layout.transfer}/lend.progress.json")
    assert progress["image_id"] == IDS[0]


def test_what_the_host_borrowed_before_is_not_taken_for_the_end_of_this(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is prepared it says that the last one is over."""
    _lend.give(layout, wish(), systemd())
    host = Host([b"over\n", b"over\n", b"over\n", b"ready\n", b"ready\n", b"over\n", b"over\n"])
    monkeypatch.setattr(_lend, "Ssh", host)
    pauses: list[float] = []
    assert _lend.lend(layout, sleep=pauses.append) == 0
    # All that it had to say was heard, and it was asked again soon at first.
    assert len(host.words) == 1 and min(pauses) == 0.2 and max(pauses) <= 1.0
    assert not _lend.lent(layout, wish())


def test_it_is_over_when_the_host_says_so_of_every_channel_after_it_began_or_after_a_while() -> None:
    now = [7.0]
    ending = _lend.Ending(["definition", "vda"], lambda: now[0])
    ending.over("definition")
    ending.over("vda")
    assert not ending
    ending.ready("definition")
    ending.over("vda")
    assert not ending
    ending.over("definition")
    assert ending
    # Taken up again before the unit has ended.
    ending.ready("vda")
    assert not ending
    ending = _lend.Ending(["vda"], lambda: now[0])
    now[0] += _lend.ARRIVE_SECONDS + 1
    ending.over("vda")
    assert ending


def test_what_is_pinned_without_a_unit_is_taken_up_again_for_whoever_waits_for_it(layout: Layout) -> None:
    run = systemd()
    _lend.give(layout, wish(), run)
    run(["systemctl", "stop", f"{layout.unit('lend')}.service"])
    _lend.wake(layout, wish(), run)
    # It is the same: image_lend sees to that itself.
    assert not _lend.examine(layout, wish(), run)
    _lend.wake(layout, wish("friday"), run)
    assert _lend.examine(layout, wish(), run)
    with pytest.raises(ResilientVmError, match="wait for it or remove that machine, and run again in two minutes"):
        _lend.examine(layout, wish("friday"), run)
    with pytest.raises(ResilientVmError, match="a VM has one restore at once at a time"):
        _lend.give(layout, wish("friday"), run)


def test_a_unit_that_does_not_start_leaves_no_pin(layout: Layout) -> None:
    run = systemd()
    run.answers["systemd-run"] = refused("no unit today")
    with pytest.raises(ResilientVmError, match="no unit today"):
        _lend.give(layout, wish(), run)
    assert not _lend.lent(layout, wish())


def test_without_a_request_it_says_what_to_do(layout: Layout) -> None:
    with pytest.raises(ResilientVmError, match="run the restore playbook"):
        _lend.lend(layout)
