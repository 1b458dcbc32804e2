# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write what follows from the table of settings: the role resilient_vm's two files, or a table for a page.

python tests/tools/settings.py             writes roles/resilient_vm/defaults/main.yml and meta/argument_specs.yml
python tests/tools/settings.py --markdown  prints the table
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles" / "resilient_vm"
HEAD = """\
---
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Written by tests/tools/settings.py from plugins/module_utils/_settings.py; change it there.
"""
WHOSE = {"vm": "of a protected VM", "machine": "of a machine", "both": "of a protected VM or a machine"}


def table() -> tuple[Any, ...]:
    """The table, loaded without Ansible: its rooms import nothing but each other."""
    folder = ROOT / "plugins" / "module_utils"
    package = types.ModuleType("rooms")
    package.__path__ = [str(folder)]
    sys.modules.setdefault("rooms", package)
    return importlib.import_module("rooms._settings").TABLE


def plain(setting: Any) -> str:
    return re.sub(r"C\((.*?)\)", r"\1", setting.description)


def sentence(setting: Any) -> str:
    return f"{setting.description} Variable {WHOSE[setting.scope]}; takes {setting.wanted}."


class _Dumper(yaml.SafeDumper):
    """Lists indented under their key, as the house's linter wants them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        del indentless
        super().increase_indent(flow, False)


def _yaml(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def defaults() -> str:
    lines = [HEAD]
    for setting in table():
        if setting.default is not None:
            lines.append(f"# {plain(setting)}\n{_yaml({setting.variable: setting.default})}")
        else:
            lines.append(f"# {plain(setting)}\n# {setting.variable}:\n")
    return "".join(lines)


def argument_specs() -> str:
    options: dict[str, Any] = {}
    for setting in table():
        option: dict[str, Any] = {"type": setting.type, "description": sentence(setting)}
        if setting.type == "list":
            option["elements"] = setting.elements
        if setting.default is not None:
            option["default"] = setting.default
        options[setting.variable] = option
    entry = {
        "short_description": "Every setting of the collection",
        "description": [
            "Declares all C(resilient_vm_*) inventory variables with their types, units and defaults.",
            "It has no tasks. The other roles name it as a dependency and so get the defaults.",
        ],
        "options": options,
    }
    return HEAD + _yaml({"argument_specs": {"main": entry}})


def markdown() -> str:
    rows = ["| variable | set for | takes | default | what it does |", "|---|---|---|---|---|"]
    for setting in table():
        default = "" if setting.default is None else f"`{json.dumps(setting.default)}`"
        whose = {"vm": "VM", "machine": "machine", "both": "VM, machine"}[setting.scope]
        what = re.sub(r"C\((.*?)\)", r"`\1`", setting.description)
        rows.append(f"| `{setting.variable}` | {whose} | {setting.wanted} | {default} | {what} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--markdown"]:
        sys.stdout.write(markdown())
    elif not sys.argv[1:]:
        (ROLE / "defaults" / "main.yml").write_text(defaults())
        (ROLE / "meta" / "argument_specs.yml").write_text(argument_specs())
    else:
        sys.exit(__doc__)
