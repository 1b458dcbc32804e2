# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about powering a host off, with real agents: ones that succeed, fail, hang and lie."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._fence import Agent, verdict

# What every agent does first: note what it was told, and see what that was.
HEAD = """#!/bin/sh
cd "$(dirname "$0")"
cat > told; echo "$# $(tr '\\n' ' ' < told)" >> calls
action=$(sed -n s/^action=//p told)
"""
WORKS = """
if [ "$action" = off ]; then touch dark; exit 0; fi
[ -e dark ] && exit 2; exit 0
"""
Script = Callable[[str], str]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    def write(body: str) -> str:
        agent = tmp_path / "fence_test"
        agent.write_text(HEAD + body)
        agent.chmod(0o755)
        return str(agent)

    return write


def agent(program: str, seconds: float = 30.0) -> Agent:
    return Agent(program, {"ip": "192.0.2.111", "plug": "a"}, {"password": "s e=cret"}, seconds, lambda _seconds: None)


def calls(tmp_path: Path) -> list[str]:
    return [line.split("action=")[1].split()[0] for line in (tmp_path / "calls").read_text().splitlines()]


def alive(process: int) -> bool:
    """Not one that is dead and whose new parent has not looked yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_it_is_off_when_its_status_says_so(script: Script, tmp_path: Path) -> None:
    done = agent(script(WORKS)).power_off()
    assert (done.power, done.ordered) == ("off", True)
    assert "fence_test powered it off in" in done.told
    assert calls(tmp_path) == ["status", "off", "status"]
    # By its standard input alone: a command line is anybody's to read.
    assert (tmp_path / "told").read_text() == "action=status\nip=192.0.2.111\nplug=a\npassword=s e=cret\n"
    assert all(line.startswith("0 ") for line in (tmp_path / "calls").read_text().splitlines())


def test_what_is_off_already_is_ordered_nothing(script: Script, tmp_path: Path) -> None:
    (tmp_path / "dark").touch()
    done = agent(script(WORKS)).power_off()
    assert (done.power, done.ordered) == ("off", False)
    assert calls(tmp_path) == ["status"]


def test_one_that_needs_some_time_is_asked_again(script: Script, tmp_path: Path) -> None:
    slow = WORKS.replace("touch dark", "touch dying").replace(
        "[ -e dark ]", "[ -e dying ] && echo >> asked; [ -e dark ]"
    )
    slow = slow.replace("exit 2; exit 0", 'exit 2; [ "$(wc -l < asked)" = 3 ] && touch dark; exit 0')
    assert agent(script("touch asked\n" + slow)).power_off().power == "off"
    assert calls(tmp_path) == ["status", "off", "status", "status", "status", "status"]


def test_asking_orders_nothing(script: Script, tmp_path: Path) -> None:
    asked = agent(script(WORKS)).ask()
    assert (asked.power, asked.ordered) == ("on", False)
    assert asked.told.endswith("fence_test says that it is on")
    assert calls(tmp_path) == ["status"]


FAILURES = [
    # (agent, power, sentence, what it was asked)
    ("exit 1", "failed", "ended with exit code 1 (no message)", ["status"]),
    ("echo line; echo 'Unable to connect' >&2; exit 1", "failed", "code 1 (Unable to connect)", ["status"]),
    ("[ $action = off ] && { echo denied >&2; exit 1; }; exit 0", "on", "ended with exit code 1 (denied)", None),
    # Says that it did, and it didn't.
    ("exit 0", "on", "that it is still on", None),
    # It knows no better than that: an order that was refused, of a machine that is off by now.
    ("[ $action = off ] && { touch dark; exit 1; }; [ -e dark ] && exit 2; exit 0", "off", "powered it off", None),
    ("[ $action = off ] && touch dark; [ -e dark ] && exit 1; exit 0", "failed", "ended with exit code 1", None),
]


@pytest.mark.parametrize(("body", "power", "why", "asked"), FAILURES)
def test_anything_else_is_no_proof(
    script: Script, tmp_path: Path, body: str, power: str, why: str, asked: list[str] | None
) -> None:
    done = agent(script(body), 2.0).power_off()
    assert done.power == power
    assert why in done.told and "\n" not in done.told
    assert asked is None or calls(tmp_path) == asked
    assert "cret" not in done.told


@pytest.mark.parametrize("when", ["off", "status"])
def test_one_that_hangs_is_killed_with_all_that_it_began(script: Script, tmp_path: Path, when: str) -> None:
    """Its child holds its output open, and outlives it unless the whole group is killed."""
    body = f"if [ $action = {when} ]; then sleep 600 & echo $! > child; wait; fi; exit 0"
    begun = time.monotonic()
    done = agent(script(body), 1.5).power_off()
    assert done.power == "failed"
    assert "within 1.5 seconds, and was stopped" in done.told
    assert time.monotonic() - begun < 60
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 30
    while alive(child):
        assert time.monotonic() < deadline, "its child lives on"
        time.sleep(0.05)


def test_an_agent_that_leaves_a_child_behind_keeps_nobody_waiting(script: Script, tmp_path: Path) -> None:
    done = agent(script("sleep 600 & echo $! > child\n" + WORKS)).power_off()
    os.kill(int((tmp_path / "child").read_text()), 9)
    assert done.power == "off"


def test_one_that_is_not_there_is_named() -> None:
    with pytest.raises(ResilientVmError, match="fence agent fence_nothing is not on this machine; install it there"):
        Agent("fence_nothing", {}, {}, 5).ask()


@pytest.mark.parametrize(
    "options",
    [{"action": "reboot"}, {"option": "off"}, {"ip": "x\naction=reboot"}, {"plug=a\naction": "on"}, {"a=b": ""}],
)
def test_nobody_tells_it_another_action(options: dict[str, str]) -> None:
    for given in ((options, {}), ({}, options)):
        with pytest.raises(ResilientVmError, match="resilient_vm_fence_options may not hold"):
            Agent("fence_test", *given, 5)


def test_a_password_belongs_to_the_secrets() -> None:
    with pytest.raises(ResilientVmError, match="move it to resilient_vm_fence_secrets") as refused:
        Agent("fence_test", {"password": "s3cret"}, {}, 5)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("first", "second", "power", "told"),
    [
        ({}, {}, "unknown", ""),
        ({"power": "off", "told": "x says so"}, {"skipped": True}, "off", "c: x says so"),
        ({"failed": True, "msg": "no agent"}, {"power": "off", "told": "done"}, "off", "c: no agent; b: done"),
        ({"power": "on", "told": "is on"}, {"failed": True, "msg": "no agent"}, "on", "c: is on; b: no agent"),
        ({"power": "on", "told": "is on"}, {"power": "off", "told": "off"}, "off", "c: is on; b: off"),
        ({"failed": True, "msg": "x"}, {"failed": True}, "failed", "c: x; b: no answer"),
    ],
)
def test_of_two_that_tried_the_one_that_is_sure_counts(
    first: dict[str, object], second: dict[str, object], power: str, told: str
) -> None:
    assert verdict([("c", first), ("b", second)]) == (power, told)
