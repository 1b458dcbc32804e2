# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry the mover's sources to a machine, when it doesn't have them already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.yaml import yaml_load
from ansible.plugins.action import ActionBase

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._program import pack, sources_digest

ROOT = Path(__file__).resolve().parents[2]
MODULE = "edgecloud.resilient_vm.mover"


def collection_version(root: Path = ROOT) -> str:
    """The version of the collection, installed from an artifact or as a checkout."""
    manifest = root / "MANIFEST.json"
    if manifest.is_file():
        return str(json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"])
    return str(yaml_load((root / "galaxy.yml").read_text(encoding="utf-8"))["version"])


def sources(root: Path = ROOT) -> dict[str, bytes]:
    """Every source file of the program by name."""
    found = {path.name: path.read_bytes() for path in (root / "plugins/module_utils").glob("*.py")}
    if "_mover.py" not in found:
        raise AnsibleActionFail(f"{root} does not hold the mover's sources; install the collection again")
    return found


def wanted_version() -> str:
    """What every machine's installed mover should say of itself."""
    return f"{collection_version()}+{sources_digest(sources())[:12]}"


class ActionModule(ActionBase):
    """Asks first; carries the sources only when they are wanted."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        files = sources()
        args = {**self._task.args, "collection": collection_version(), "sources": sources_digest(files)}
        result = self._execute_module(module_name=MODULE, module_args=args, task_vars=task_vars)
        if result.get("failed") or result.get("unreachable") or result.get("installed"):
            return result
        try:
            folder = self._make_tmp_path()
            archive = self._connection._shell.join_path(folder, "sources.zip")
            self._transfer_data(archive, pack(files))
            self._fixup_perms2((folder, archive))
            return self._execute_module(
                module_name=MODULE, module_args={**args, "archive": archive}, task_vars=task_vars
            )
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
