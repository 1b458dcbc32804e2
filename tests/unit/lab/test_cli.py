# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's command line, as far as it goes without a lab."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

import pytest
from lab.rvmlab.cli import build_parser, main


def commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and sub-command that is not hidden."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                if not name.startswith("_"):
                    yield (*words, name)
                    yield from commands(sub, (*words, name))


@pytest.mark.parametrize("words", [pytest.param(words, id=" ".join(words)) for words in commands(build_parser())])
def test_every_command_says_what_it_does_in_one_sentence(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--help"])
    assert stopped.value.code == 0
    description = " ".join(capsys.readouterr().out.split("\n\n")[1].split())
    assert description.endswith(".") and description.count(". ") == 0


def test_without_root_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["status"]) == 2
    said = capsys.readouterr().err
    assert "must be run as root" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["up", "--release-of", "a=sarge"], "sarge is no release of the lab"),
        (["up", "--release-of", "z=trixie"], "does not read MACHINE=VALUE"),
        (["up", "--disk", "a="], "does not read MACHINE=VALUE"),
        (["crash", "z"], "invalid choice: 'z'"),
        (["guest", "create", "a", "x", "--kind", "huge"], "invalid choice: 'huge'"),
    ],
)
def test_wrong_words_are_named(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err
