# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about what protecting a VM lays on a machine, on folders of our own."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _journal, _protection
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._doors import Peer
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._layout import Layout
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._process import Completed, run
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._protection import Machine, Protection, Vm
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._state import Inventory, State
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._tree import Tree
from ansible_collections.edgecloud.resilient_vm.plugins.modules import vm_protection

NOW = datetime(2026, 1, 14, 2, tzinfo=timezone.utc)
UUID = "6e1f3c0a-3a5f-4c50-9f7e-3a3f0d9a2c11"
HOST_KEY = "ssh-ed25519 " + "A" * 68
KEY = "ssh-ed25519 " + "B" * 68
OTHER_KEY = "ssh-ed25519 " + "C" * 68


def _world(argv: list[str], **kwargs: Any) -> Completed:
    """virsh knows one domain; ssh-keygen is the real one."""
    if "--autostart" in argv:
        return Completed(0, "", "")
    if argv[0] == "virsh":
        return Completed(0, f"{UUID} erp\n\n", "")
    return run(argv, **kwargs)


@dataclass
class World:
    """One machine in a folder; every account is whoever runs the test."""

    place: Path
    part: str
    keys: dict[str, str | None] | None = None
    states: dict[str, State] = field(default_factory=dict)
    names: tuple[str, ...] = ("erp",)
    production: str = "a"
    standby: str = "b"
    autostart: bool = False
    runner: Any = _world
    allow_full_copies: bool = True
    plan: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        return "b" if self.part == "hypervisor" else "c"

    @property
    def root(self) -> Path:
        return self.place / "root"

    def vm(self, name: str) -> Vm:
        return Vm(
            Inventory("acme", name, name, self.production, self.standby, uuid=UUID if name == "erp" else None),
            Layout("acme", name, str(self.root), str(self.place / "run")),
            "c",
            self.keys,
            self.states,
            autostart=self.autostart,
            plan=self.plan,
        )

    def do(self, *, dry: bool = False, state: str = "present", erase_images: bool = False) -> dict[str, Any]:
        tree = Tree(dry, lambda _name: (os.getuid(), os.getgid()))
        machine = Machine(
            self.name,
            self.part,
            str(self.root),
            str(self.place / "run"),
            str(self.place / "etc"),
            self.allow_full_copies,
        )
        protection = Protection(machine, tree, self.runner, NOW)
        vms = [self.vm(name) for name in self.names]
        if state == "present":
            peers = {name: Peer(name, f"192.0.2.{n}", 22, (HOST_KEY,)) for n, name in enumerate("abc", 11)}
            protection.present(vms, peers)
        else:
            protection.absent(vms, erase_images)
        return protection.result([HOST_KEY])

    def tree(self) -> dict[str, tuple[int, bytes]]:
        """All there is; only the content of a lock, which names its last holder, is no one's concern."""
        return {
            str(path.relative_to(self.place)): (
                path.lstat().st_mode,
                path.read_bytes() if path.is_file() and path.name != "lock" else b"",
            )
            for path in sorted(self.place.rglob("*"))
        }

    def read(self, path: str) -> str:
        return (self.place / path).read_text()


@pytest.fixture(params=["hypervisor", "backup_storage"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    other = "c" if request.param == "hypervisor" else "a"
    return World(tmp_path, request.param, keys={other: KEY})


@pytest.fixture
def storage(tmp_path: Path) -> World:
    return World(tmp_path, "backup_storage", keys={"a": KEY, "b": OTHER_KEY})


@pytest.fixture
def hypervisor(tmp_path: Path) -> World:
    return World(tmp_path, "hypervisor", keys={"c": KEY})


def test_check_do_check_do(world: World) -> None:
    before = world.tree()
    checked = world.do(dry=True)
    assert world.tree() == before
    done = world.do()
    laid = world.tree()
    assert laid != before
    again = [world.do(dry=True), world.do()]
    assert world.tree() == laid
    assert [result["changed"] for result in (checked, done, *again)] == [True, True, False, False]
    assert checked["diff"] == done["diff"]
    assert [result["problems"] for result in (checked, done, *again)] == [[]] * 4


def test_check_and_do_of_forgetting(world: World) -> None:
    world.do()
    laid = world.tree()
    checked = world.do(dry=True, state="absent")
    assert world.tree() == laid
    done = world.do(state="absent")
    assert checked["diff"] == done["diff"]
    again = [world.do(dry=True, state="absent"), world.do(state="absent")]
    assert [result["changed"] for result in (checked, done, *again)] == [True, True, False, False]
    assert not (world.root / "acme").exists()
    assert "acme" not in str(sorted(world.tree()))


@pytest.mark.parametrize("part, path, mode", [
    ("hypervisor", "root", 0o711),
    ("hypervisor", "root/acme", 0o711),
    ("hypervisor", "root/acme/.ssh", 0o755),
    ("hypervisor", "root/acme/.ssh/authorized_keys", 0o644),
    ("hypervisor", "root/acme/erp", 0o711),
    ("hypervisor", "root/acme/erp/incoming", 0o750),
    ("hypervisor", "root/acme/erp/generations", 0o750),
    ("hypervisor", "root/acme/erp/scratch", 0o711),
    ("hypervisor", "root/acme/erp/state.json", 0o640),
    ("hypervisor", "root/acme/erp/lock", 0o660),
    ("hypervisor", "etc/keys", 0o700),
    ("hypervisor", "etc/keys/acme.erp", 0o600),
    ("hypervisor", "etc/known_hosts", 0o644),
    ("backup_storage", "root", 0o711),
    ("backup_storage", "root/acme", 0o750),
    ("backup_storage", "root/acme/.ssh", 0o750),
    ("backup_storage", "root/acme/.ssh/erp", 0o600),
    ("backup_storage", "root/acme/.ssh/known_hosts", 0o644),
    ("backup_storage", "root/acme/.ssh/authorized_keys", 0o644),
    ("backup_storage", "root/acme/erp", 0o750),
    ("backup_storage", "root/acme/erp/images", 0o750),
    ("backup_storage", "root/acme/erp/incoming", 0o750),
    ("backup_storage", "root/acme/erp/pins", 0o750),
    ("backup_storage", "root/acme/erp/transfer", 0o750),
    ("backup_storage", "root/acme/erp/state.json", 0o640),
])  # fmt: skip
def test_modes(tmp_path: Path, part: str, path: str, mode: int) -> None:
    world = World(tmp_path, part, keys={})
    if part == "hypervisor":
        world.keys = {"c": KEY}
    else:
        world.keys = {"a": KEY}
    world.do()
    os.chmod(tmp_path / path, 0o777)
    assert world.do()["changed"]
    assert stat.S_IMODE((tmp_path / path).stat().st_mode) == mode


def test_a_key_may_ask_for_nothing_but_its_verbs_for_its_vm(hypervisor: World, tmp_path: Path) -> None:
    hypervisor.do()
    entries = hypervisor.read("root/acme/.ssh/authorized_keys").splitlines()[1:]
    verbs = "send,receive,restore,mend,lend"
    assert entries == [f'restrict,command="/usr/local/bin/resilient-vm forced acme/erp {verbs}" {KEY} acme/erp@c']
    storage = World(tmp_path / "c", "backup_storage", keys={"a": KEY, "b": OTHER_KEY})
    (tmp_path / "c").mkdir()
    storage.do()
    entries = storage.read("root/acme/.ssh/authorized_keys").splitlines()[1:]
    assert entries == [
        f'restrict,command="/usr/local/bin/resilient-vm forced acme/erp epoch,claim a" {KEY} acme/erp@a',
        f'restrict,command="/usr/local/bin/resilient-vm forced acme/erp epoch,claim b" {OTHER_KEY} acme/erp@b',
    ]


def test_a_changed_key_replaces_the_old_one_and_other_vms_keep_theirs(hypervisor: World) -> None:
    hypervisor.names = ("erp", "crm", "erp2")
    hypervisor.do()
    hypervisor.names, hypervisor.keys = ("erp",), {"c": OTHER_KEY}
    hypervisor.do()
    entries = hypervisor.read("root/acme/.ssh/authorized_keys").splitlines()[1:]
    assert sorted(entry.split(" ", 3)[2].rstrip() + ("" if OTHER_KEY in entry else " old") for entry in entries) == [
        "acme/crm old",
        "acme/erp",
        "acme/erp2 old",
    ]


def test_a_machine_that_could_not_be_asked_keeps_its_entry(storage: World) -> None:
    storage.do()
    before = storage.read("root/acme/.ssh/authorized_keys")
    storage.keys = {"a": KEY, "b": None}
    assert not storage.do()["changed"]
    assert storage.read("root/acme/.ssh/authorized_keys") == before


@pytest.mark.parametrize("key", [KEY + "\nssh-ed25519 " + "D" * 68, "ssh-rsa " + "A" * 68, 'command="x" ' + KEY, "x"])
def test_what_another_machine_calls_its_key_never_becomes_more_than_one(hypervisor: World, key: str) -> None:
    hypervisor.keys = {"c": key}
    with pytest.raises(ResilientVmError, match="not a public key"):
        hypervisor.do()
    assert not (hypervisor.root / "acme/.ssh/authorized_keys").exists()


def test_host_keys_are_pinned_by_name_and_address(storage: World) -> None:
    storage.do()
    lines = storage.read("root/acme/.ssh/known_hosts").splitlines()[1:]
    assert lines == [f"a,192.0.2.11 {HOST_KEY}", f"b,192.0.2.12 {HOST_KEY}"]


def test_without_keys_nothing_is_let_in_and_no_state_is_written(world: World) -> None:
    world.keys = None
    result = world.do()
    assert not (world.root / "acme/.ssh/authorized_keys").exists()
    assert not (world.root / "acme/erp/state.json").exists()
    assert result["public_keys"]["acme/erp"].startswith("ssh-ed25519 ")
    assert result["states"] == {}


def test_a_hypervisor_reports_the_uuid_of_each_domain(hypervisor: World) -> None:
    hypervisor.names = ("erp", "crm")
    assert hypervisor.do()["uuids"] == {"acme/erp": UUID, "acme/crm": None}


def test_the_first_state_is_written_once(world: World) -> None:
    world.do()
    state = json.loads(world.read("root/acme/erp/state.json"))
    assert (state["epoch"], state["active"], state["standby"], state["uuid"]) == (1, "a", "b", UUID)
    moved = {**state, "epoch": 5, "active": "b", "standby": "a", "phase": "failed_over"}
    (world.root / "acme/erp/state.json").write_text(_protection.document_text(moved))
    assert not world.do()["changed"]
    assert json.loads(world.read("root/acme/erp/state.json")) == moved


def test_every_change_of_a_state_is_in_its_journal_and_a_rerun_adds_nothing(world: World) -> None:
    for _time in range(2):
        world.do()
    path = str(world.root / "acme/erp/journal.jsonl")
    assert [(said["what"], said["epoch"], said["active"]) for said in _journal.read(path)] == [("protect", 1, "a")]


def test_one_vm_that_disagrees_is_named_and_the_others_are_done(world: World) -> None:
    world.names = ("erp", "crm")
    (world.root / "acme/erp").mkdir(parents=True)
    (world.root / "acme/erp/state.json").write_text("{")
    result = world.do()
    assert len(result["problems"]) == 1
    assert "erp/state.json is damaged" in result["problems"][0]
    assert (world.root / "acme/crm/state.json").is_file()


@pytest.mark.parametrize("name", ["known_hosts", "authorized_keys", "config", "erp.pub"])
def test_a_vm_is_not_called_like_a_file_of_ssh(storage: World, name: str) -> None:
    storage.names = (name,)
    assert "rename the inventory host" in storage.do()["problems"][0]
    assert not (storage.root / "acme" / name).exists()


def test_a_link_in_the_place_of_a_folder_is_never_followed(storage: World, tmp_path: Path) -> None:
    storage.do()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (storage.root / "acme/erp/images").rmdir()
    (storage.root / "acme/erp/images").symlink_to(tmp_path / "elsewhere")
    assert "in the way" in storage.do()["problems"][0]
    assert stat.S_IMODE((tmp_path / "elsewhere").stat().st_mode) == 0o700


def test_forgetting_keeps_images_unless_asked_to_erase_them(world: World) -> None:
    world.do()
    store = world.root / "acme/erp" / ("generations" if world.part == "hypervisor" else "images")
    (store / "20260114T020000Z").mkdir()
    (store / "20260114T020000Z/vda.raw").write_bytes(b"data")
    assert world.do(state="absent")["kept"] == {"acme/erp": ["20260114T020000Z"]}
    assert (store / "20260114T020000Z/vda.raw").read_bytes() == b"data"
    assert sorted(path.name for path in (world.root / "acme/erp").iterdir()) == [store.name, "journal.jsonl"]
    assert world.do(state="absent", erase_images=True)["kept"] == {}
    assert not (world.root / "acme").exists()


def test_disks_a_vm_runs_from_are_never_forgotten(hypervisor: World) -> None:
    hypervisor.do()
    (hypervisor.root / "acme/erp/running").mkdir()
    before = hypervisor.tree()
    result = hypervisor.do(state="absent", erase_images=True)
    assert hypervisor.tree() == before
    assert "running" in result["problems"][0]


def test_forgetting_one_vm_leaves_the_others_alone(world: World) -> None:
    world.names = ("erp", "crm")
    world.do()
    world.names = ("crm",)
    world.do(state="absent")
    entries = world.read("root/acme/.ssh/authorized_keys")
    assert "acme/erp" in entries
    assert "acme/crm" not in entries
    world.names = ("erp",)
    assert not world.do()["changed"]


def test_a_root_without_reflink_stops_before_anything_is_laid(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_protection, "reflink_works", lambda _path: False)
    world.allow_full_copies = False
    with pytest.raises(ResilientVmError, match=r"XFS .* Btrfs.*resilient_vm_allow_full_copies"):
        world.do()
    assert not world.root.exists()
    world.allow_full_copies = True
    assert world.do()["changed"]


def test_libvirt_may_be_absent_in_check_mode_only(hypervisor: World) -> None:
    def no_virsh(argv: list[str], **kwargs: Any) -> Completed:
        if argv[0] == "virsh":
            raise ResilientVmError("program virsh is not on this machine")
        return run(argv, **kwargs)

    hypervisor = replace(hypervisor, runner=no_virsh)
    assert hypervisor.do(dry=True)["uuids"] == {"acme/erp": None}
    with pytest.raises(ResilientVmError, match="virsh"):
        hypervisor.do()


def test_an_unknown_account_is_accepted_in_check_mode_only(tmp_path: Path) -> None:
    machine = Machine(
        "c", "backup_storage", str(tmp_path / "root"), configuration=str(tmp_path), allow_full_copies=True
    )
    vm = World(tmp_path, "backup_storage", keys={"a": None}).vm("erp")
    dry = Protection(machine, Tree(True, lambda _name: None), _world, NOW)
    dry.present([vm], {})
    assert dry.result([])["changed"]
    assert list(tmp_path.iterdir()) == []
    real = Protection(machine, Tree(False, lambda _name: None), _world, NOW)
    with pytest.raises(ResilientVmError, match="is not on this machine"):
        real.present([vm], {})


def test_the_module_fails_with_one_sentence_for_each_vm(
    run_module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vm_protection, "host_keys", lambda: [HOST_KEY])
    result = run_module(
        vm_protection,
        {
            "part": "backup_storage",
            "name": "c",
            "root": str(tmp_path / "root"),
            "allow_full_copies": True,
            "vms": [
                {
                    "customer": "acme",
                    "vm": name,
                    "domain": "x",
                    "production": "a",
                    "standby": "b",
                    "backup_storage": "c",
                }
                for name in ("config", "rc")
            ],
        },
        check_mode=True,
    )
    assert result["failed"]
    assert len(result["problems"]) == 2
    assert result["msg"] == " ".join(result["problems"])
