# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of drills, as the backup storage keeps it: the newest of each image, for as long as that image."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

from ._errors import ResilientVmError
from ._files import as_owner_of, read_json, write_json
from ._layout import Layout
from ._store import Store

__all__ = ["drills_of", "keep"]

_SUFFIX = ".json"


def _ids(layout: Layout) -> list[str]:
    if not os.path.isdir(layout.drills):
        return []
    return sorted(name.removesuffix(_SUFFIX) for name in os.listdir(layout.drills) if name.endswith(_SUFFIX))


def _file(layout: Layout, image_id: str) -> str:
    return os.path.join(layout.drills, image_id + _SUFFIX)


def drills_of(layout: Layout, images: Collection[str]) -> list[dict[str, Any]]:
    """The records of those images, oldest image first."""
    found = (read_json(_file(layout, image_id)) for image_id in _ids(layout) if image_id in images)
    return [record for record in found if record is not None]


def keep(layout: Layout, record: Mapping[str, Any], dry: bool) -> bool:
    """Keep a record in the place of its image's last one; whether that changes anything. Those of erased images go."""
    images = {image.id for image in Store(layout).images()}
    if record["image"] not in images:
        raise ResilientVmError(
            f"image {record['image']} of {layout.name} has been erased meanwhile; run the drill again"
        )
    path = _file(layout, record["image"])
    gone = [image_id for image_id in _ids(layout) if image_id not in images]
    if not gone and read_json(path) == record:
        return False
    if not dry:
        # Below a folder of the account: root would follow a link it could lay there.
        with as_owner_of(layout.directory):
            os.makedirs(layout.drills, 0o750, exist_ok=True)
            write_json(path, dict(record))
            for image_id in gone:
                os.unlink(_file(layout, image_id))
    return True
