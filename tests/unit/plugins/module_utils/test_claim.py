# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what a host may ask of the backup storage by itself: one of five questions, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import (
    _claim,
)
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._claim import Claim
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._relay import MAX_BYTES

QUESTIONS = [
    Claim("look"),
    Claim("word", 3),
    Claim("take", 3, "0badcafe", "mary", {"seen": {"a": ""}, "confirmed": True}),
    Claim("finish", 4, who="mary", told={"lines": ["it runs"], "seconds": {"disks": 0.1}}),
    Claim("borrow", who="mary", point="-8d", name="erp-tuesday"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
FIELDS = ("protocol", "ask", "epoch", "nonce", "who", "told", "point", "name")


# the line


@pytest.mark.parametrize("claim", QUESTIONS, ids=lambda claim: str(claim.ask))
def test_each_question_is_understood_as_it_was_meant(claim: Claim) -> None:
    assert _claim.parse(_claim.line(claim).encode()) == claim


@given(st.binary(max_size=200).map(lambda data: data + b"\n"))
def test_bytes_are_no_claim(data: bytes) -> None:
    with pytest.raises(ResilientVmError, match=r"no claim|only claims of protocol"):
        _claim.parse(data)


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=6), JSON, max_size=7))
def test_what_is_understood_says_exactly_the_same_again(document: dict[str, Any]) -> None:
    """Nothing is guessed, dropped or put right."""
    data = json.dumps(document).encode() + b"\n"
    try:
        claim = _claim.parse(data)
    except ResilientVmError:
        return
    assert json.loads(_claim.line(claim)) == document


@given(st.sampled_from(QUESTIONS), st.sampled_from(FIELDS), JSON)
def test_one_wrong_value_makes_it_no_claim(claim: Claim, name: str, value: Any) -> None:
    document = json.loads(_claim.line(claim))
    if name == "told" and isinstance(value, dict):
        return
    changed = {**document, name: value}
    try:
        found = _claim.parse(json.dumps(changed).encode() + b"\n")
    except ResilientVmError:
        return
    assert json.loads(_claim.line(found)) == changed
    assert isinstance(found.epoch, int) and not isinstance(found.epoch, bool) and 0 <= found.epoch < 10**9


NEARLY = [
    {"who": "mary; id"},
    {"who": "../mary"},
    {"who": "-rf"},
    {"who": ""},
    {"who": "mary\n"},
    {"nonce": "0BADCAFE"},
    {"nonce": "0badcafe\n"},
    {"nonce": "0badcafe0"},
    {"epoch": True},
    {"epoch": 0},
    {"epoch": 1.0},
    {"epoch": "3"},
    {"ask": "unprotect"},
    {"ask": ["take"]},
    {"transition": "unprotect"},
    {"vm": "acme/other"},
    {"holder": "a"},
    {"told": [1]},
    {"told": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}},
    {"protocol": 2},
    {"protocol": True},
]


@pytest.mark.parametrize("changes", NEARLY, ids=str)
def test_what_is_nearly_a_claim_is_none(changes: dict[str, Any]) -> None:
    document = {**json.loads(_claim.line(QUESTIONS[2])), **changes}
    with pytest.raises(ResilientVmError):
        _claim.parse(json.dumps(document).encode() + b"\n")


@pytest.mark.parametrize(
    "changes",
    [
        {"point": "../../etc"},
        {"point": "-8d\n"},
        {"point": ""},
        {"point": 8},
        {"name": "-rf"},
        {"name": "a/b"},
        {"name": ""},
        {"name": None},
        {"epoch": 3},
        {"who": "mary; id"},
    ],
    ids=str,
)
def test_what_is_nearly_a_wish_to_borrow_is_none(changes: dict[str, Any]) -> None:
    document = {**json.loads(_claim.line(QUESTIONS[4])), **changes}
    with pytest.raises(ResilientVmError):
        _claim.parse(json.dumps(document).encode() + b"\n")


IMAGE: dict[str, Any] = {
    "id": "20260114T020000Z",
    "instant": "2026-01-14T02:00:00Z",
    "bytes_allocated": 74481664,
    "disks": [{"target": "vda", "size_bytes": 268435456, "root_digest": "5a" * 32}],
    "definition": [{"name": "domain.xml", "sha256": "0f" * 32}],
}
DISK = IMAGE["disks"][0]


def test_an_image_that_is_lent_is_taken_as_it_is_told() -> None:
    assert _claim.lent_image({"image": IMAGE}, "c") == IMAGE


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "../x"},
        {"id": 5},
        {"instant": "\x1b[2J"},
        {"bytes_allocated": "1"},
        {"bytes_allocated": -1},
        {"bytes_allocated": True},
        {"disks": []},
        {"disks": {}},
        {"disks": [DISK, DISK]},
        {"disks": [{**DISK, "target": "../vda"}]},
        {"disks": [{**DISK, "target": ["vda"]}]},
        # An option of qemu-img's, by which it would overwrite any file.
        {"disks": [{**DISK, "size_bytes": "-osize=1M,data_file=/etc/shadow"}]},
        {"disks": [{**DISK, "size_bytes": 0}]},
        {"disks": [{**DISK, "size_bytes": 1 << 70}]},
        {"disks": [{**DISK, "root_digest": "x"}]},
        {"disks": [{"target": "vda"}]},
        {"definition": [{"name": "passwd", "sha256": "0f" * 32}]},
        {"definition": [{"name": "domain.xml", "sha256": 5}]},
        {"more": 1},
    ],
    ids=str,
)
def test_what_is_no_image_is_not_believed(changes: dict[str, Any]) -> None:
    with pytest.raises(ResilientVmError, match=r"what c says it lends is no image|which is no disk and no file"):
        _claim.lent_image({"image": {**IMAGE, **changes}}, "c")


@given(JSON)
def test_no_answer_breaks_the_host(value: Any) -> None:
    with pytest.raises(ResilientVmError):
        _claim.lent_image({"image": value} if value is not None else {}, "c")


@pytest.mark.parametrize("name", ["ask", "epoch", "nonce", "who", "told", "protocol"])
def test_a_claim_lacks_nothing(name: str) -> None:
    document = json.loads(_claim.line(QUESTIONS[2]))
    del document[name]
    with pytest.raises(ResilientVmError):
        _claim.parse(json.dumps(document).encode() + b"\n")


@pytest.mark.parametrize(
    "data",
    [
        b'{"protocol": 1, "ask": "look", "ask": "look"}\n',
        b'{"protocol": 1, "ask": "look"}',
        b'{"protocol": 1, "ask": "look"}\n{"protocol": 1, "ask": "look"}\n',
        b"[" * 30000 + b"\n",
        b'{"protocol": 1, "ask": "look"}' + b" " * MAX_BYTES + b"\n",
        b'{"protocol": 1, "ask": "finish", "epoch": 1, "who": "m", "told": {"a": NaN}}\n',
    ],
    ids=["twice", "cut off", "two lines", "deep", "long", "not a number"],
)
def test_what_readers_could_differ_about_is_none(data: bytes) -> None:
    with pytest.raises(ResilientVmError):
        _claim.parse(data)
