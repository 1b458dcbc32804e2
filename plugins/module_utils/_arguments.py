# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that several modules share, specified once; documented in the doc fragment ``common``."""

from __future__ import annotations

from typing import Any

from ._layout import DEFAULT_ROOT

__all__ = ["checks_spec", "common_spec", "files_spec", "look_spec", "restored_spec", "vm_spec", "vms_spec"]


def common_spec() -> dict[str, Any]:
    return {"root": {"type": "path", "default": DEFAULT_ROOT}, "now": {"type": "str"}}


def _named() -> dict[str, Any]:
    return {"customer": {"type": "str", "required": True}, "vm": {"type": "str", "required": True}}


def vm_spec() -> dict[str, Any]:
    """Of modules that serve one VM."""
    return {**common_spec(), **_named()}


def vms_spec(**each: dict[str, Any]) -> dict[str, Any]:
    """Of modules that serve many VMs in one call; ``each`` is what is said of a VM beside its name."""
    options = {**_named(), **each}
    return {**common_spec(), "vms": {"type": "list", "elements": "dict", "required": True, "options": options}}


def checks_spec() -> dict[str, Any]:
    """What a drill has tried."""
    text = {"type": "str", "required": True}
    options = {"check": text, "passed": {"type": "bool", "required": True}, "said": text}
    return {"type": "list", "elements": "dict", "required": True, "options": options}


def look_spec(*, needed: bool) -> dict[str, Any]:
    """What is looked for from a machine; ``needed``: nothing else can be wished for in its place."""
    text = {"type": "str", "required": True}
    target = {"name": text, "address": text, "port": {"type": "int", "required": True}}
    return {
        "targets": {"type": "list", "elements": "dict", "required": needed, "options": target},
        "guest": {"type": "dict", "options": {"domain": text, "address": text}},
        "gateway": {"type": "bool", "default": False},
        "patience_seconds": {"type": "float", "default": 2.0},
    }


def files_spec() -> dict[str, Any]:
    """Of modules that read an image's file systems."""
    return {"image_id": {"type": "str", "required": True}, "device": {"type": "str", "default": ""}}


def restored_spec(definition: dict[str, Any]) -> dict[str, Any]:
    """Of modules that make something of an image; ``definition`` says whether they can do without its definition."""
    text = {"type": "str", "required": True}
    disk = {"target": text, "size_bytes": {"type": "int", "required": True}, "root_digest": text}
    many = {"type": "list", "elements": "dict"}
    return {
        "image_id": text,
        "format": {"type": "str", "choices": ["raw", "qcow2"], "default": "raw"},
        "disks": {**many, "required": True, "options": disk},
        "definition": {**many, **definition, "options": {"name": text, "sha256": text}},
        "bytes_allocated": {"type": "int", "default": 0},
        "bytes_arriving": {"type": "int", "default": 0},
        "reserve_bytes": {"type": "int", "default": 1 << 30},
    }
