# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about the units of a host: laid, enabled and started once, and anew when they are other ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._tree import Tree
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._unit_files import Standing, Unit, UnitFiles

SERVICE = Unit("ask.service", "[Service]\nExecStart=/bin/ask\n")
TIMER = Unit("ask.timer", "[Timer]\nOnBootSec=1\n", enabled=True, started=True)
BOOT = Unit("boot.service", "[Service]\nExecStart=/bin/boot\n", enabled=True)


class Systemd:
    """Remembers what was enabled and started, and what it was told, without the questions."""

    def __init__(self) -> None:
        self.enabled: set[str] = set()
        self.active: set[str] = set()
        self.told: list[str] = []

    def __call__(self, argv: Sequence[str], timeout_seconds: float = 60.0) -> Completed:
        assert argv[0] == "systemctl" and timeout_seconds >= 60
        verb, names = argv[1], argv[2:]
        if verb == "show":
            assert not [name for name in names if "@." in name]
            return Completed(0, "\n\n".join(self._shown(name) for name in names[1:]) + "\n", "")
        self.told.append(" ".join(argv[1:]))
        if verb == "enable":
            self.enabled |= set(names)
        elif verb in ("start", "restart"):
            self.active |= set(names)
        return Completed(0, "", "")

    def _shown(self, name: str) -> str:
        state = "enabled" if name in self.enabled else ""
        return f"ActiveState={'active' if name in self.active else 'inactive'}\nUnitFileState={state}"


@pytest.fixture
def systemd() -> Systemd:
    return Systemd()


def settle(
    systemd: Systemd, folder: Path, *units: Unit, dry: bool = False
) -> tuple[tuple[Standing, Standing], bool, list[str]]:
    """What was and is, whether anything changed, and what systemd was told; whoever runs the test is root."""
    tree = Tree(dry=dry, identity=lambda _name: (os.getuid(), os.getgid()))
    before = len(systemd.told)
    standing = UnitFiles(systemd, tree, str(folder)).settle(units)
    return standing, tree.changed or standing[0] != standing[1], systemd.told[before:]


def test_units_are_laid_enabled_and_started_once(systemd: Systemd, tmp_path: Path) -> None:
    units = (SERVICE, TIMER, BOOT)
    (before, after), changed, told = settle(systemd, tmp_path, *units)
    assert changed and told == ["daemon-reload", "enable ask.timer boot.service", "start ask.timer"]
    assert before == Standing((), ()) and after == Standing(("ask.timer", "boot.service"), ("ask.timer",))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {unit.name: unit.content for unit in units}
    assert settle(systemd, tmp_path, *units)[1:] == (False, [])


def test_of_a_template_only_its_file_is_looked_at(systemd: Systemd, tmp_path: Path) -> None:
    template = Unit("answer@.service", "[Service]\nExecStart=/bin/answer\n")
    assert settle(systemd, tmp_path, template, TIMER)[2][-1] == "start ask.timer"
    assert settle(systemd, tmp_path, template, TIMER)[1:] == (False, [])


def test_a_dry_run_tells_the_same_and_does_nothing(systemd: Systemd, tmp_path: Path) -> None:
    standing, changed, told = settle(systemd, tmp_path, SERVICE, TIMER, dry=True)
    assert changed and not told and not list(tmp_path.iterdir())
    assert standing == settle(systemd, tmp_path, SERVICE, TIMER)[0]


def test_one_that_runs_is_started_anew_when_its_file_is_another_one(systemd: Systemd, tmp_path: Path) -> None:
    settle(systemd, tmp_path, SERVICE, TIMER)
    other = Unit(TIMER.name, "[Timer]\nOnBootSec=2\n", enabled=True, started=True)
    assert settle(systemd, tmp_path, SERVICE, other)[1:] == (True, ["daemon-reload", "restart ask.timer"])


def test_what_only_its_service_does_otherwise_needs_no_restart(systemd: Systemd, tmp_path: Path) -> None:
    settle(systemd, tmp_path, SERVICE, TIMER)
    other = Unit(SERVICE.name, "[Service]\nExecStart=/bin/other\n")
    assert settle(systemd, tmp_path, other, TIMER)[1:] == (True, ["daemon-reload"])


@pytest.mark.parametrize(("kind", "word"), [("enabled", "enable"), ("active", "start")])
def test_what_somebody_turned_off_is_put_right(systemd: Systemd, tmp_path: Path, kind: str, word: str) -> None:
    settle(systemd, tmp_path, SERVICE, TIMER)
    getattr(systemd, kind).clear()
    assert settle(systemd, tmp_path, SERVICE, TIMER)[1:] == (True, [f"{word} ask.timer"])


@pytest.mark.parametrize("name", ["../passwd", "ask", "a b.service", "ask.mount", ""])
def test_what_names_no_unit_is_refused(name: str) -> None:
    with pytest.raises(ResilientVmError, match="can't name a unit"):
        Unit(name, "")
