# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bounded queue between two threads."""

from __future__ import annotations

import threading

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._mailbox import Mailbox


def test_items_come_in_order_and_the_sum_of_their_sizes_is_bounded() -> None:
    box: Mailbox[int] = Mailbox(100)
    waiting = threading.Event()
    most = 0

    def put() -> None:
        for number in range(200):
            assert box.put(number, 40)
        waiting.set()

    threading.Thread(target=put, daemon=True).start()
    got = []
    for _each in range(200):
        item = box.get()
        most = max(most, len(box._items))
        got.append(item)
    assert got == list(range(200))
    assert most <= 3  # the limit may be passed by one item, never by two
    assert waiting.wait(10)


def test_settled_waits_until_the_last_item_is_done_with() -> None:
    box: Mailbox[str] = Mailbox(10)
    box.put("a", 1)
    done = threading.Event()

    def work() -> None:
        box.get()
        done.set()
        box.get()

    threading.Thread(target=work, daemon=True).start()
    assert box.settled()
    assert done.is_set()
    box.close()


def test_closing_lets_everybody_go() -> None:
    box: Mailbox[str] = Mailbox(1)
    answers: list[object] = []
    box.put("full", 5)
    threads = [
        threading.Thread(target=lambda: answers.append(box.put("b", 1))),
        threading.Thread(target=lambda: answers.append(box.settled())),
    ]
    for thread in threads:
        thread.start()
    box.close()
    for thread in threads:
        thread.join(10)
    assert answers == [False, False]
    assert box.get() is None
    assert not box.put("c", 1)


def test_who_wants_only_some_items_leaves_the_others_in_their_order() -> None:
    box: Mailbox[int] = Mailbox(10)
    for number in (1, 2, 3, 4):
        box.put(number, 1)
    assert [box.get(lambda item: item % 2 == 0), box.get(), box.get(lambda item: item == 4), box.get()] == [2, 1, 4, 3]


def test_settled_waits_for_every_thread_that_works_on_an_item() -> None:
    box: Mailbox[str] = Mailbox(10)
    go, taken, settled = threading.Event(), threading.Barrier(3), threading.Event()
    for item in ("quick", "slow"):
        box.put(item, 1)

    def work() -> None:
        item = box.get()
        taken.wait(10)
        if item == "slow":
            go.wait(10)
        box.get()

    def settle() -> None:
        assert box.settled()
        settled.set()

    for task in (work, work, settle):
        threading.Thread(target=task, daemon=True).start()
    taken.wait(10)
    assert not settled.wait(0.1)
    go.set()
    assert settled.wait(10)
    box.close()
